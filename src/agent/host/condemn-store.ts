/**
 * Leave to destroy a durable copy, in one transaction: that the operation that wants it still runs under this very
 * token, and that another copy stays. What a cancel or a later try has committed before counts.
 */
import type { Database as Sqlite } from "bun:sqlite";
import { refuseEndedDispatch } from "../../core/queue/queue.ts";
import { type CopyKey, registryModule } from "../../core/registry/registry.ts";
import type { WriterModule } from "../../platform/database.ts";
import { type OperationToken, operationTaskId } from "../../schema/operation.ts";
import { toDispatch } from "../operation-token.ts";

export interface CondemnInput extends CopyKey {
	/** Of the operation that wants it; undefined: somebody asked the node itself. */
	operation: OperationToken | undefined;
	/** Nodes whose copies count as others. */
	alive: string[];
	force: boolean;
	dry_run: boolean;
}

export const condemnModule = {
	room: "condemn",
	migrations: [],
	writes: { condemn },
} satisfies WriterModule;

/** @throws CONFLICT stale_token */
function condemn(db: Sqlite, { operation, ...copy }: CondemnInput): boolean {
	if (operation !== undefined)
		refuseEndedDispatch(db, { taskId: operationTaskId(operation), ...toDispatch(operation) });
	return registryModule.writes.condemn(db, copy);
}
