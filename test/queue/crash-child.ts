/**
 * A process that submits tasks, runs and settles them, and may kill itself: `bun crash-child.ts DATABASE [N]` dies with
 * SIGKILL right before its N-th write statement. One line of standard output per thing that is acknowledged; the last
 * is `writes COUNT`.
 */
import { Database as Sqlite } from "bun:sqlite";
import { writeSync } from "node:fs";
import { deviceReservation, openQueue, queueModule } from "../../src/core/queue/queue.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { openInlineDatabase } from "../../src/platform/database.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { silentLog } from "../../src/platform/log.ts";

const [, , path = "", last = "0"] = process.argv;
const say = (line: string): void => void writeSync(1, `${line}\n`);
const db = openInlineDatabase(path, [queueModule]);
let writes = 0;
const query = Sqlite.prototype.query;
// A hook of this process alone: the product has no way to die on purpose.
Sqlite.prototype.query = function (this: Sqlite, sql: string) {
	if (!/^\s*SELECT/.test(sql) && ++writes === Number(last)) process.kill(process.pid, "SIGKILL");
	return query.call(this, sql);
} as typeof query;

const queue = await openQueue(
	{ db, clock: systemClock, ids: systemIds, log: silentLog },
	{ queue: "node", node: "node1" },
);
queue.start({
	move: ({ taskId }) => {
		say(`began ${taskId}`);
		return Promise.resolve({ done: true });
	},
	copy: () => Promise.reject(new Error("broken")),
});
const common = { model: "m", request: {}, priority: "normal" } as const;
const reservations = [deviceReservation("disk", "exclusive")];
const ended = async (id: string): Promise<void> =>
	say(`ended ${id} ${(await queue.waitFor(id, AbortSignal.timeout(60_000))).status}`);

const submit = async (key: string, more: object): Promise<string> => {
	const { task } = await queue.submit({
		...common,
		type: "move",
		idempotencyKey: key,
		reservations,
		...more,
	});
	say(`submitted ${key} ${task.task_id}`);
	return task.task_id;
};
const first = await submit("first", {});
const failing = await submit("failing", { type: "copy" });
const dependent = await submit("dependent", { dependencies: [first] }).catch(() => undefined);
const doomed = await submit("doomed", { dependencies: [failing] }).catch(() => undefined);
const { taskIds } = await queue.submitBatch(
	[
		{ ...common, type: "move" },
		{ ...common, type: "move", after: [0] },
	],
	{
		idempotencyKey: "batch",
	},
);
say(`batch ${taskIds.join(" ")}`);
for (const id of [first, failing, dependent, doomed, ...taskIds]) if (id !== undefined) await ended(id);
say(`writes ${writes}`);
process.exit(0);
