/**
 * Words of the API that flags take. The schemas have them too, but a schema library costs a command more time than
 * all the rest of its start; the types keep both lists the same.
 */
import type { Compression } from "../schema/compression.ts";
import type { ModelStatus } from "../schema/model.ts";
import type { TokenRole } from "../schema/token.ts";
import type { Priority, FinishedStatus, TaskType } from "../schema/task.ts";

export const MODEL_STATUS_NAMES = keys<ModelStatus>({
	ready: 0,
	downloading: 0,
	moving: 0,
	unavailable: 0,
	queued: 0,
});
export const PRIORITY_NAMES = keys<Priority>({ critical: 0, high: 0, normal: 0, low: 0 });
export const COMPRESSION_NAMES = keys<Compression>({ auto: 0, zstd: 0, none: 0 });
export const TOKEN_ROLE_NAMES = keys<TokenRole>({ viewer: 0, inference: 0, user: 0, operator: 0, admin: 0 });
export const FINISHED_STATUS_NAMES = keys<FinishedStatus>({ completed: 0, failed: 0, cancelled: 0 });
export const TASK_TYPE_NAMES = keys<TaskType>({
	download: 0,
	copy: 0,
	move: 0,
	delete: 0,
	serve: 0,
	stop: 0,
	verify: 0,
	upload: 0,
	adopt: 0,
	evict: 0,
});

/** A record must name every word, and no other. */
function keys<Word extends string>(words: Record<Word, 0>): Word[] {
	return Object.keys(words) as Word[];
}
