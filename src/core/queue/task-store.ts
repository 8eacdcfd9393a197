/** The queue's tables and write operations, for the writer thread: each is one whole transaction. */
import type { Database as Sqlite } from "bun:sqlite";
import type { WriterModule } from "../../platform/database.ts";
import type { TaskPhase } from "../../schema/task.ts";
import { cancel } from "./cancel.ts";
import { claim } from "./claim.ts";
import { recover } from "./recover.ts";
import { settle } from "./settle.ts";
import sql from "./sql/0001_queue.sql" with { type: "text" };
import { submit } from "./submit.ts";
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
	migrations: [sql],
	writes: { submit, claim, settle, cancel, recover, saveCheckpoint },
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
