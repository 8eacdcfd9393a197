#!/usr/bin/env bun
/** The one program. Everything is imported by the command that needs it, so that `--version` costs nothing. */
import { version } from "../src/platform/version.ts";

const [first] = process.argv.slice(2);
if (first === "--version" || first === "-V") {
	console.log(`gswarm ${version}`);
} else if (first === "__engine") {
	const { runEngine } = await import("../src/core/service/engines/llama/main.ts");
	const { homedir } = await import("node:os");
	const { GSWARM_HOME } = process.env;
	const defaultCacheDir = GSWARM_HOME === undefined ? `${homedir()}/.cache/gswarm` : `${GSWARM_HOME}/cache`;
	await runEngine(process.argv.slice(3), { defaultCacheDir });
} else if (first === "__data") {
	const { runDataProcess } = await import("../src/core/transfer/plane/main.ts");
	await runDataProcess();
	process.exit(0);
} else if (first === "__probe") {
	const { runProbe } = await import("../src/core/accelerator/probe/main.ts");
	await runProbe(process.argv.slice(3));
	process.exit(0);
} else if (first === "__holder") {
	const { runHolder } = await import("../src/core/accelerator/holder/main.ts");
	await runHolder(process.argv.slice(3));
	process.exit(0);
} else {
	const { main } = await import("../src/cli/root.ts");
	process.exit(await main(process.argv.slice(2)));
}
