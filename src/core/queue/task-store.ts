/** The queue's tables and write operations, for the writer thread: each is one whole transaction. */
import type { Database as Sqlite } from "bun:sqlite";
import type { WriterModule } from "../../platform/database.ts";
import type { TaskPhase } from "../../schema/task.ts";
import { cancel } from "./cancel.ts";
import { claim } from "./claim.ts";
import { recover } from "./recover.ts";
import { settle } from "./settle.ts";
import { fenceDispatch, fenceOf } from "./dispatch.ts";
import { heard } from "./elsewhere.ts";
import { type Fence, nextFence } from "./fence.ts";
import { prune } from "./retention.ts";
import { reserveMore } from "./reserve-more.ts";
import { retry } from "./retry.ts";
import { configure } from "./settings.ts";
import first from "./sql/0001_queue.sql" with { type: "text" };
import second from "./sql/0002_trust.sql" with { type: "text" };
import third from "./sql/0003_elsewhere.sql" with { type: "text" };
import { submit } from "./submit.ts";
import { submitBatch } from "./submit-batch.ts";
import { staleToken, taskBySeq } from "./task-row.ts";

export interface Checkpoint {
	seq: number;
	token: number;
	checkpoint: string;
	phase: TaskPhase;
	bytesDone: number;
	bytesTotal: number;
}

export const queueModule = {
	room: "queue",
	migrations: [first, second, third],
	isJson: true,
	writes: {
		submit,
		submitBatch,
		claim,
		settle,
		cancel,
		retry,
		heard,
		recover,
		saveCheckpoint,
		raiseFence,
		reserveMore,
		fenceDispatch,
		configure,
		prune,
	},
} satisfies WriterModule;

/** Keeps what a handler needs to go on after a restart. @throws CONFLICT stale_token */
function saveCheckpoint(
	db: Sqlite,
	{ seq, token, checkpoint, phase, bytesDone, bytesTotal }: Checkpoint,
): void {
	const { changes } = db
		.query(
			`UPDATE queue_task SET progressed = progressed OR checkpoint IS NOT ?3, checkpoint = ?3, phase = ?4, bytes_done = ?5,
				bytes_total = ?6 WHERE seq = ?1 AND token = ?2 AND epoch IS NOT NULL`,
		)
		.run(seq, token, checkpoint, phase, bytesDone, bytesTotal);
	if (changes === 0) throw staleToken(taskBySeq(db, seq).task_id);
}

/** The token of the next dispatch of a task's work. @throws CONFLICT stale_token */
function raiseFence(
	db: Sqlite,
	{ seq, token, hostEpoch }: { seq: number; token: number; hostEpoch: number },
): Fence {
	const row = taskBySeq(db, seq);
	const next = nextFence(fenceOf(row), hostEpoch);
	const { changes } = db
		.query(
			"UPDATE queue_task SET fence_epoch = ?3, fence_n = ?4 WHERE seq = ?1 AND token = ?2 AND epoch IS NOT NULL",
		)
		.run(seq, token, next.hostEpoch, next.n);
	if (changes === 0) throw staleToken(row.task_id);
	return next;
}
