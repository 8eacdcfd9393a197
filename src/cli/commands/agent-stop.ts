import { GswarmError } from "../../schema/errors.ts";
import { isAgentProcess, isAlive, readAgentFile, startingAgent } from "../agent-file.ts";
import { defineCommand } from "../command.ts";
import type { Context } from "../context.ts";
import { EXIT } from "../exit-codes.ts";
import { withSpinner } from "../spinner.ts";

const GONE_WITHIN_MS = 15_000;
const LOOK_EVERY_MS = 50;

export const command = defineCommand({
	about:
		"Stops the agent of a data directory: it finishes what is in flight, keeps its tasks for the next start, and ends within 10 seconds. Waits until it is gone.",
	args: {},
	examples: [
		["agent stop", "the agent of this user"],
		["agent stop --data-dir /srv/gswarm", "another one"],
	],
	next: ["agent --detach"],
	async run(context) {
		const { dataDir, say } = context;
		const ready = readAgentFile(dataDir);
		const file = ready !== undefined && isAgentProcess(ready.pid) ? ready : startingAgent(dataDir);
		if (file === undefined) {
			say.info(`No agent runs with ${dataDir}.`);
			return EXIT.done;
		}
		signal(file.pid);
		const isGone = await withSpinner(context, "Stopping the agent", () => waitUntilGone(context, file.pid));
		if (!isGone) {
			throw new GswarmError(
				"CONFLICT",
				`The agent (pid ${file.pid}) has not ended within ${GONE_WITHIN_MS / 1000} s.`,
				{
					reason: "still_running",
					hint: `Its tasks are safe: \`kill -9 ${file.pid}\` ends it, the next start recovers.`,
				},
			);
		}
		say.success(`The agent (pid ${file.pid}) has stopped.`);
		return EXIT.done;
	},
});

function signal(pid: number): void {
	try {
		process.kill(pid, "SIGTERM");
	} catch (error) {
		const { code } = error as NodeJS.ErrnoException;
		if (code === "ESRCH") return;
		throw new GswarmError("FORBIDDEN", `The agent (pid ${pid}) belongs to another user.`, {
			reason: "not_your_agent",
			hint: "Stop it as that user.",
			cause: error,
		});
	}
}

async function waitUntilGone({ world }: Context, pid: number): Promise<boolean> {
	const deadline = world.clock.monotonicMs() + GONE_WITHIN_MS;
	while (isAlive(pid)) {
		if (world.clock.monotonicMs() > deadline) return false;
		await world.clock.sleep(LOOK_EVERY_MS);
	}
	return true;
}
