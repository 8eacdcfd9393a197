/**
 * Destroying a copy: the host's leave where the copy is durable, then the bytes. From before the question until the
 * end the inventory calls the copy unavailable, so that no report that is under way makes the host count on a copy
 * that it gave leave to destroy.
 */
import type { Storage } from "../../core/storage/storage.ts";
import { GswarmError } from "../../schema/errors.ts";
import type { ModelCopy } from "../../schema/model.ts";
import type { OperationToken } from "../../schema/operation.ts";
import { parseModelName, parseRevision } from "../../schema/names.ts";
import { hostUnreachable } from "./host-link.ts";

export interface RemoveOptions {
	force: boolean;
	/** Of an adopted copy: its files go too. */
	deleteFiles?: boolean | undefined;
	/** The part of an operation that wants it; the host gives leave only while that still counts. */
	operation?: OperationToken | undefined;
}

export interface CondemnOptions extends RemoveOptions {
	dryRun: boolean;
}

export interface Removal {
	/**
	 * Whether this copy could be destroyed now; volatile copies always can. Changes nothing.
	 * @throws 409 last_durable_copy, 503 host_unreachable
	 */
	check(copy: ModelCopy, options: Pick<RemoveOptions, "force" | "deleteFiles">): Promise<void>;
	/** @throws 409 last_durable_copy, in_use, stale_token; 404 model_not_found; 503 host_unreachable */
	remove(copy: ModelCopy, options: RemoveOptions): Promise<{ freedBytes: number }>;
	/** The node's copies as the host is to know them. */
	inventory(): ModelCopy[];
	/** Rises with every change of the inventory that the host must hear of. */
	inventoryVersion(): number;
}

export interface RemovalDependencies {
	nodeName: string;
	storage: Storage;
	/** What is on GPUs: nothing durable, and gone with the process that holds it. */
	gpus: {
		owns(copy: ModelCopy): boolean;
		copies(): ModelCopy[];
		version(): number;
		remove(copy: ModelCopy): Promise<{ freedBytes: number }>;
	};
	/** Asks the host. @throws host_unreachable */
	condemn(copy: ModelCopy, options: CondemnOptions): Promise<{ granted: boolean }>;
	/** Reports to the host, after any report that is under way; whether it was heard. */
	reportNow(): Promise<boolean>;
}

export function createRemoval({ nodeName, storage, gpus, condemn, reportNow }: RemovalDependencies): Removal {
	const leaving = new Set<string>();
	let stayed = 0;
	const ask = async (copy: ModelCopy, options: CondemnOptions): Promise<void> => {
		const { granted } = await condemn(copy, options);
		if (!granted) throw lastDurableCopy(copy, nodeName);
	};
	const destroy = (copy: ModelCopy): Promise<{ freedBytes: number }> =>
		gpus.owns(copy)
			? gpus.remove(copy)
			: storage.remove(parseModelName(copy.model_name), parseRevision(copy.revision), copy.tier);
	/** To forget what was adopted destroys nothing. */
	const destroysDurable = (copy: ModelCopy, { deleteFiles = false }: Partial<RemoveOptions>): boolean =>
		!gpus.owns(copy) && storage.tier(copy.tier).durable && (copy.place !== "adopted" || deleteFiles);
	return {
		async check(copy, { force, deleteFiles }) {
			if (destroysDurable(copy, { deleteFiles })) await ask(copy, { force, dryRun: true });
		},
		async remove(copy, options) {
			if (!destroysDurable(copy, options)) return destroy(copy);
			const key = keyOf(copy);
			leaving.add(key);
			try {
				if (!(await reportNow())) throw hostUnreachable(undefined);
				await ask(copy, { ...options, dryRun: false });
				return await destroy(copy);
			} catch (error) {
				// It stays after all, and the host, which may have given it up, is told so.
				leaving.delete(key);
				stayed++;
				await reportNow();
				throw error;
			} finally {
				leaving.delete(key);
			}
		},
		inventory: () =>
			[...storage.copies(), ...gpus.copies()].map((copy) =>
				leaving.has(keyOf(copy)) ? { ...copy, status: "unavailable" as const } : copy,
			),
		inventoryVersion: () => storage.inventoryVersion() + gpus.version() + stayed,
	};
}

function keyOf({ model_name, revision, tier }: ModelCopy): string {
	return `${model_name}\n${revision}\n${tier}`;
}

function lastDurableCopy({ model_name: model, tier }: ModelCopy, nodeName: string): GswarmError {
	const device = `${nodeName}:${tier}`;
	return new GswarmError("CONFLICT", `${device} holds the last durable copy of ${JSON.stringify(model)}.`, {
		reason: "last_durable_copy",
		details: { model, device },
		hint: `Copy it elsewhere first, use --force, or \`gswarm model delete ${model}\` to remove it everywhere.`,
	});
}
