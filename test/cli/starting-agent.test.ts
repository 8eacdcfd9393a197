import { expect, test } from "bun:test";
import { join } from "node:path";
import { systemClock } from "../../src/platform/clock.ts";
import { tempDir } from "../support/temp-dir.ts";
import { run } from "./support/fake-world.ts";
import { fakeAgent } from "./support/fake-agent.ts";

const HINT = "an admin lets it in: gswarm node approve node7";

/** A process that looks like an agent, and what one leaves in its directory while it waits. */
async function waiting(dir: string) {
	const child = Bun.spawn(["bash", "-c", "sleep 60 & wait", "agent"], { stdout: "ignore", stderr: "ignore" });
	await Bun.write(
		join(dir, "starting.json"),
		JSON.stringify({ pid: child.pid, name: "node7", waits_for: HINT }),
	);
	return child;
}

/** With time as it is: the process that is stopped needs some to end. */
const on = (dir: string, ...words: string[]) =>
	run([...words, "--data-dir", dir], { agent: fakeAgent({}), clock: systemClock });

test("an agent that waits to be let in is found by status, and stopped by stop", async () => {
	using dir = tempDir();
	const child = await waiting(dir.path);
	const status = await on(dir.path, "agent", "status");
	expect(status.code).toBe(6);
	expect(status.stderr).toContain(`The agent node7 (pid ${child.pid}) runs and is not ready.`);
	expect(status.stderr).toContain(HINT);
	const stop = await on(dir.path, "agent", "stop");
	expect({ code: stop.code, signal: await child.exited }).toEqual({ code: 0, signal: 143 });
	expect(stop.stderr).toContain(`The agent (pid ${child.pid}) has stopped.`);
	expect((await on(dir.path, "agent", "status")).stderr).toContain("No agent runs");
});
