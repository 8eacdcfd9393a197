/**
 * When copies were used last. In memory at once, in the database a little later and in bulk: a served model is used
 * thousands of times a second, and a crash may forget the last few seconds of that.
 */
import type { ModelCopy } from "../../schema/model.ts";
import { type CopyRow, toModelCopy } from "./copy-store.ts";
import { keyOf } from "./copy-index.ts";
import { type Shelf } from "./shelf.ts";

/** serve: an engine answered from it; copy: it was the source of another copy; read: parts, exports, uploads. */
export type CopyUse = "serve" | "copy" | "read";

export type UseListener = (copy: ModelCopy, use: CopyUse) => void;

export interface UseRecord extends AsyncDisposable {
	touch(row: CopyRow, use: CopyUse): void;
	onUse(listener: UseListener): Disposable;
	/** Writes what is not written yet. */
	flush(): Promise<void>;
}

/** What a crash may forget. */
const FLUSH_AFTER_MS = 5_000;

export function createUseRecord(shelf: Shelf): UseRecord {
	const listeners = new Set<UseListener>();
	const stop = new AbortController();
	let unwritten = new Set<string>();
	let waiting: Promise<void> | undefined;

	const flush = async (): Promise<void> => {
		const keys = unwritten;
		unwritten = new Set();
		const uses = [...keys].flatMap((key) => {
			const row = shelf.rows.get(key);
			if (row === undefined || row.lastUsedAt === null) return [];
			const { tier, model, revision, lastUsedAt, purpose } = row;
			return [{ key: { tier, model, revision }, lastUsedAt, purpose }];
		});
		if (uses.length > 0) await shelf.writes.noteUses(uses);
	};
	const flushLater = async (): Promise<void> => {
		await shelf.clock.sleep(FLUSH_AFTER_MS, stop.signal);
		waiting = undefined;
		// The last flush, of a stop, is awaited there.
		if (stop.signal.aborted) return;
		await flush().catch((error: unknown) => shelf.log.warn("storage.uses_not_noted", { error }));
	};
	return {
		touch(row, use) {
			const key = keyOf(row);
			// What a forecast brought and is used was a good forecast; it counts as any other copy from now on.
			const used: CopyRow = { ...row, lastUsedAt: shelf.clock.nowMs() / 1000, purpose: "asked" };
			shelf.rows.set(key, used);
			unwritten.add(key);
			waiting ??= flushLater();
			for (const listener of listeners) listener(toModelCopy(used, shelf.detected), use);
		},
		onUse(listener) {
			// Its own entry, so that one function may listen twice.
			const entry: UseListener = (copy, use) => listener(copy, use);
			listeners.add(entry);
			return { [Symbol.dispose]: () => void listeners.delete(entry) };
		},
		flush,
		async [Symbol.asyncDispose]() {
			stop.abort();
			listeners.clear();
			await waiting;
			await flush().catch((error: unknown) => shelf.log.warn("storage.uses_not_noted", { error }));
		},
	};
}
