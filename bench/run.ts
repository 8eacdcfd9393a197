/**
 * `bun run bench [NAME…] [--json] [--quick]`: each benchmark pairs ours with a peer in one run, round by round, and
 * prints medians. `--json` prints one line per figure instead of the table. Exits 1 when a goal is missed.
 */
import { existsSync } from "node:fs";
import { parseArgs } from "node:util";
import { benchAuth } from "./auth.ts";
import { BINARY } from "./cluster.ts";
import { benchEventLoop } from "./event-loop.ts";
import { benchHub } from "./hub.ts";
import { benchPreload } from "./preload.ts";
import { benchGpu } from "./gpu.ts";
import { benchQueue } from "./queue.ts";
import { type BenchContext, type Measured, rowOf, tableOf } from "./row.ts";
import { benchSmallFiles } from "./small-files.ts";
import { benchStartup } from "./startup.ts";
import { benchSwarm } from "./swarm.ts";
import { benchTiers } from "./tiers.ts";
import { benchTransfer } from "./transfer.ts";

const BENCHES: Record<string, (context: BenchContext) => Promise<Measured[]>> = {
	auth: benchAuth,
	"event-loop": benchEventLoop,
	hub: benchHub,
	preload: benchPreload,
	gpu: benchGpu,
	queue: benchQueue,
	"small-files": benchSmallFiles,
	startup: benchStartup,
	swarm: benchSwarm,
	tiers: benchTiers,
	transfer: benchTransfer,
};

const { values, positionals } = parseArgs({
	allowPositionals: true,
	options: { json: { type: "boolean", default: false }, quick: { type: "boolean", default: false } },
});
const unknown = positionals.filter((name) => !(name in BENCHES));
if (unknown.length > 0) {
	console.error(`There is no benchmark ${unknown.join(", ")}; there are ${Object.keys(BENCHES).join(", ")}.`);
	process.exit(2);
}
if (!existsSync(BINARY)) {
	console.error(`${BINARY} is missing: \`bun run build\` makes it.`);
	process.exit(2);
}

let isMissed = false;
for (const [name, bench] of Object.entries(BENCHES)) {
	if (positionals.length > 0 && !positionals.includes(name)) continue;
	const say = (text: string): void => console.error(`${name}: ${text}`);
	const rows = (await bench({ say, quick: values.quick })).map(rowOf);
	console.log(values.json ? rows.map((row) => JSON.stringify(row)).join("\n") : `\n${tableOf(rows)}\n`);
	isMissed ||= rows.some(({ ok }) => !ok);
}
process.exit(isMissed ? 1 : 0);
