/**
 * A process that works on a queue until it is killed: `bun doomed-agent.ts DATABASE`. One line of standard output per
 * thing that happened, written when it is durable.
 */
import { writeSync } from "node:fs";
import { deviceReservation, openQueue, queueModule } from "../../src/core/queue/queue.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { openInlineDatabase } from "../../src/platform/database.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { silentLog } from "../../src/platform/log.ts";

const [, , path = "", mode] = process.argv;
const db = openInlineDatabase(path, [queueModule]);
const queue = await openQueue(
	{ db, clock: systemClock, ids: systemIds, log: silentLog },
	{ queue: "node", node: "node1" },
);
const say = (word: string, taskId: string): void => {
	// At once, so that what was answered has been said when the kill comes.
	writeSync(1, `${word} ${taskId}\n`);
};
const reservations = [deviceReservation("disk", "exclusive")];
const work = { model: "llama", request: {}, priority: "normal", reservations } as const;

queue.start({
	delete: () => Promise.resolve({ done: true }),
	// Never ends: the kill comes first.
	move: async ({ taskId, saveState }) => {
		await saveState({ parts: 7 });
		say("running", taskId);
		return new Promise(() => {});
	},
});

if (mode === "storm") {
	for (;;) {
		const { task } = await queue.submit({ ...work, type: "move", reservations: [] });
		say("submitted", task.task_id);
	}
}
const first = await queue.submit({ ...work, type: "delete" });
await queue.waitFor(first.task.task_id, AbortSignal.timeout(60_000));
say("completed", first.task.task_id);
await queue.submit({ ...work, type: "move" });
const waiting = await queue.submit({ ...work, type: "move" });
await queue.submit({ ...work, type: "delete", dependencies: [waiting.task.task_id] });
say("all", "submitted");
