/**
 * What of a transfer is there: the journal's rows in memory, kept in step with the database. The one place that knows
 * which parts need not be fetched.
 */
import { lstatSync } from "node:fs";
import type { Clock } from "../../platform/clock.ts";
import type { Database } from "../../platform/database.ts";
import type { IoPool } from "../../platform/io-pool.ts";
import type { Log } from "../../platform/log.ts";
import { type FileRow, type JournalWriter, readParts, readRuns, readVerifiedFiles } from "./journal.ts";
import { byteRange, type PlannedFile, runsOf } from "./plan.ts";

export interface Ledger {
	isThere(file: PlannedFile, part: number): boolean;
	/** XXH64 of the parts that are there. */
	parts(file: PlannedFile): ReadonlyMap<number, string>;
	verified(file: PlannedFile): FileRow | undefined;
	/** All bytes that need not be fetched again. */
	bytes(): number;
	/** The part's bytes are in the file; resolves when its row is committed. */
	landed(file: PlannedFile, part: number, xxh64: string): Promise<void>;
	fileVerified(file: PlannedFile, row: FileRow): Promise<void>;
	/** Files without rows of parts that were verified: small ones that came together, others that were here already. */
	filesLanded(files: readonly { file: PlannedFile; row: FileRow }[]): Promise<void>;
	/** The same of files whose digests are those of a sealed manifest. */
	sealedFilesLanded(files: readonly PlannedFile[]): Promise<void>;
	/** Forgets parts (undefined: the whole file); returns how many bytes that were. */
	drop(file: PlannedFile, parts: readonly number[] | undefined): Promise<number>;
}

export interface LedgerInput {
	transferId: string;
	files: readonly PlannedFile[];
	pathOf: (file: PlannedFile) => string;
}

export function loadLedger(
	{ db, writes, clock }: { db: Database; writes: JournalWriter; clock: Clock },
	{ transferId, files, pathOf }: LedgerInput,
): Ledger {
	const parts = files.map(() => new Map<number, string>());
	const verified = new Map<number, FileRow>();
	// A row counts only while the file is there with the length it was given; files without rows are not looked at.
	const sizes = new Map<number, number | undefined>();
	const sizeOf = (file: PlannedFile): number | undefined => {
		if (sizes.has(file.index)) return sizes.get(file.index);
		const info = lstatSync(pathOf(file), { throwIfNoEntry: false });
		const isUsable =
			info?.isFile() === true && (file.sizeBytes === undefined || info.size === file.sizeBytes);
		sizes.set(file.index, isUsable ? info.size : undefined);
		return sizes.get(file.index);
	};
	const sealed = (file: PlannedFile, row: FileRow): void => {
		verified.set(file.index, row);
		parts[file.index]?.set(0, row.xxh64[0] ?? "");
	};
	for (const row of readParts({ read: db.read }, transferId)) {
		const file = files[row.fileIndex];
		if (file !== undefined && row.partIndex < file.partCount && sizeOf(file) !== undefined) {
			parts[row.fileIndex]?.set(row.partIndex, row.xxh64);
		}
	}
	for (const row of readVerifiedFiles({ read: db.read }, transferId)) {
		const file = files[row.fileIndex];
		if (file === undefined || sizeOf(file) !== row.sizeBytes) continue;
		verified.set(row.fileIndex, row);
		// Small files that came together, and those that were here already, have no rows of parts.
		if (file.partCount === row.xxh64.length)
			for (const [part, xxh64] of row.xxh64.entries()) parts[row.fileIndex]?.set(part, xxh64);
	}
	for (const { first, end } of readRuns({ read: db.read }, transferId)) {
		for (const file of files.slice(first, end)) {
			const row = sealedRow(file);
			if (row !== undefined && sizeOf(file) === file.sizeBytes) sealed(file, row);
		}
	}
	const partBytes = (file: PlannedFile, part: number): number => {
		const { start, end } = byteRange(file, { first: part, end: part + 1 });
		return end - start;
	};
	const partsOf = (file: PlannedFile): Map<number, string> => parts[file.index] ?? new Map<number, string>();
	const bytesOf = (file: PlannedFile): number => {
		if (file.partCount === 0) return verified.get(file.index)?.sizeBytes ?? 0;
		return [...partsOf(file).keys()].reduce((sum, part) => sum + partBytes(file, part), 0);
	};
	return {
		isThere: (file, part) => partsOf(file).has(part),
		parts: partsOf,
		verified: (file) => verified.get(file.index),
		bytes: () => files.reduce((sum, file) => sum + bytesOf(file), 0),
		async landed(file, part, xxh64) {
			partsOf(file).set(part, xxh64);
			await writes.partLanded({
				transferId,
				part: { fileIndex: file.index, partIndex: part, xxh64 },
				nowMs: clock.nowMs(),
			});
		},
		async fileVerified(file, row) {
			verified.set(file.index, row);
			await writes.fileVerified({ transferId, file: row });
		},
		async filesLanded(some) {
			for (const { file, row } of some) {
				for (const [part, xxh64] of row.xxh64.entries()) partsOf(file).set(part, xxh64);
				verified.set(file.index, row);
			}
			await writes.filesLanded({ transferId, files: some.map(({ row }) => row), nowMs: clock.nowMs() });
		},
		async sealedFilesLanded(some) {
			for (const file of some) {
				const row = sealedRow(file);
				if (row === undefined) throw new Error(`${file.path} is not of a sealed manifest`);
				sealed(file, row);
			}
			const nowMs = clock.nowMs();
			const runs = runsOf(
				some.map(({ index }) => index),
				some.length,
			);
			await Promise.all(runs.map((run) => writes.runLanded({ transferId, ...run, nowMs })));
		},
		async drop(file, list) {
			const before = bytesOf(file);
			verified.delete(file.index);
			if (list === undefined) partsOf(file).clear();
			else for (const part of list) partsOf(file).delete(part);
			await writes.dropParts({ transferId, fileIndex: file.index, parts: list });
			return before - bytesOf(file);
		},
	};
}

/** What a sealed manifest says of a file of one part. */
function sealedRow({ index, sizeBytes, partCount, source }: PlannedFile): FileRow | undefined {
	const { digest, parts } = source;
	if (digest?.algorithm !== "sha256" || parts === undefined || sizeBytes === undefined) return undefined;
	return partCount === 1
		? { fileIndex: index, sizeBytes, sha256: digest.hex, xxh64: [...parts.xxh64] }
		: undefined;
}

/**
 * After another boot of the machine, rows may be there whose bytes never reached the device: every part is read
 * again, and those that differ from their row are forgotten.
 */
export async function recheckParts(
	{ io, log }: { io: IoPool; log: Log },
	ledger: Ledger,
	{ transferId, files, pathOf }: LedgerInput,
	signal: AbortSignal,
): Promise<void> {
	for (const file of files) {
		const rows = [...ledger.parts(file)];
		if (rows.length === 0) {
			if (ledger.verified(file) !== undefined) await ledger.drop(file, undefined);
			continue;
		}
		const input = {
			path: pathOf(file),
			partSizeBytes: file.partSizeBytes,
			parts: rows.map(([part]) => part),
		};
		const found = await io.hashParts(input, signal);
		const lost = rows.flatMap(([part, xxh64], at) => (found[at] === xxh64 ? [] : [part]));
		if (lost.length > 0)
			log.warn("transfer.parts_lost", { transfer_id: transferId, file: file.path, parts: lost.length });
		// Also without a lost part: that the file was whole was known of another boot's bytes.
		await ledger.drop(file, lost);
	}
}
