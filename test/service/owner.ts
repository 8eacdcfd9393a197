/** A process that owns services as an agent does, to be killed: `bun owner.ts DIRECTORY SWITCHES`. Says when it serves. */
import { until } from "../support/until.ts";
import type { FixtureSwitches } from "../support/fixture-engine.ts";
import { identityOf, openNode, request } from "./harness.ts";

const [directory = "", switches = "{}", phase = "ready"] = process.argv.slice(2);
const node = openNode(directory, { switches: JSON.parse(switches) as FixtureSwitches });
if (phase === "ready") {
	await node.start();
	console.log(JSON.stringify(identityOf(node)));
} else {
	void node.services.start(request());
	await until("the engine has a process", () => node.services.list()[0]?.pid);
	console.log(JSON.stringify(identityOf(node)));
}
await new Promise(() => setInterval(() => {}, 1000));
