/**
 * What survives a stop in the middle of a transfer. A part's row is written after its bytes are in the staged file,
 * so a row may be missing for bytes that are there, never the other way round (but for a power cut, which is why the
 * boot is recorded).
 */
import type { Database as Sqlite } from "bun:sqlite";
import type { Database, Writer } from "../../platform/database.ts";

export interface TransferRow {
	transferId: string;
	tier: string;
	sourceId: string;
	/** What it needs on its tier. */
	roomBytes: number;
	bootId: string | null;
	/** How often the source changed under it. */
	startedOver: number;
}

export interface PartRow {
	fileIndex: number;
	partIndex: number;
	xxh64: string;
}

export interface FileRow {
	fileIndex: number;
	sizeBytes: number;
	sha256: string;
	xxh64: string[];
}

/** Neighbours by their numbers, half open. */
export interface FileRun {
	first: number;
	end: number;
}

const DIGEST_LENGTH = 16;

export const transferWrites = {
	/** A transfer that has no row, or none any more. */
	begin(db: Sqlite, row: TransferRow): void {
		db.query(
			"INSERT INTO transfer (transfer_id, tier, source_id, room_bytes, boot_id, started_over) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
		).run(row.transferId, row.tier, row.sourceId, row.roomBytes, row.bootId, row.startedOver);
	},
	/** From now on its bytes are those of this boot. */
	setBoot(db: Sqlite, { transferId, bootId }: { transferId: string; bootId: string | null }): void {
		db.query("UPDATE transfer SET boot_id = ?2 WHERE transfer_id = ?1").run(transferId, bootId);
	},
	partLanded(db: Sqlite, row: { transferId: string; part: PartRow; nowMs: number }): void {
		const { transferId, part, nowMs } = row;
		db.query(
			`INSERT OR REPLACE INTO transfer_part (transfer_id, file_index, part_index, xxh64, landed_at_ms)
			 VALUES (?1, ?2, ?3, ?4, ?5)`,
		).run(transferId, part.fileIndex, part.partIndex, part.xxh64, nowMs);
	},
	fileVerified(db: Sqlite, { transferId, file }: { transferId: string; file: FileRow }): void {
		db.query(
			"INSERT OR REPLACE INTO transfer_file (transfer_id, file_index, size_bytes, sha256, xxh64) VALUES (?1, ?2, ?3, ?4, ?5)",
		).run(transferId, file.fileIndex, file.sizeBytes, file.sha256, file.xxh64.join(""));
	},
	/** Small files, each its own only part, that came together. Of their parts one row says when that was. */
	filesLanded(
		db: Sqlite,
		{ transferId, files, nowMs }: { transferId: string; files: readonly FileRow[]; nowMs: number },
	): void {
		for (const file of files) transferWrites.fileVerified(db, { transferId, file });
		const [first] = files;
		if (first === undefined) return;
		const part = { fileIndex: first.fileIndex, partIndex: 0, xxh64: first.xxh64[0] ?? "" };
		transferWrites.partLanded(db, { transferId, part, nowMs });
	},
	/** Small files of a sealed manifest that came together: what they are is known from it. */
	runLanded(
		db: Sqlite,
		{ transferId, first, end, nowMs }: FileRun & { transferId: string; nowMs: number },
	): void {
		db.query(
			"INSERT OR REPLACE INTO transfer_run (transfer_id, first_file, end_file, landed_at_ms) VALUES (?1, ?2, ?3, ?4)",
		).run(transferId, first, end, nowMs);
	},
	/** Forgets parts (undefined: all) of a file, and that it was verified. */
	dropParts(
		db: Sqlite,
		{
			transferId,
			fileIndex,
			parts,
		}: { transferId: string; fileIndex: number; parts: readonly number[] | undefined },
	): void {
		db.query("DELETE FROM transfer_file WHERE transfer_id = ?1 AND file_index = ?2").run(
			transferId,
			fileIndex,
		);
		splitRun(db, transferId, fileIndex);
		if (parts === undefined) {
			db.query("DELETE FROM transfer_part WHERE transfer_id = ?1 AND file_index = ?2").run(
				transferId,
				fileIndex,
			);
			return;
		}
		const drop = db.query(
			"DELETE FROM transfer_part WHERE transfer_id = ?1 AND file_index = ?2 AND part_index = ?3",
		);
		for (const part of parts) drop.run(transferId, fileIndex, part);
	},
	end(db: Sqlite, transferId: string): void {
		db.query("DELETE FROM transfer WHERE transfer_id = ?1").run(transferId);
	},
};

/** Without this file a run is the runs on both sides of it. */
function splitRun(db: Sqlite, transferId: string, fileIndex: number): void {
	const found = db.query<FileRun & { nowMs: number }, [string, number]>(
		`DELETE FROM transfer_run WHERE transfer_id = ?1 AND first_file <= ?2 AND end_file > ?2
		 RETURNING first_file AS first, end_file AS "end", landed_at_ms AS nowMs`,
	);
	for (const { first, end, nowMs } of found.all(transferId, fileIndex)) {
		if (first < fileIndex) transferWrites.runLanded(db, { transferId, first, end: fileIndex, nowMs });
		if (fileIndex + 1 < end) transferWrites.runLanded(db, { transferId, first: fileIndex + 1, end, nowMs });
	}
}

export type JournalWriter = Writer<typeof transferWrites>;

export function readTransfers({ read }: Pick<Database, "read">): TransferRow[] {
	return read
		.query<TransferRow, []>(
			`SELECT transfer_id AS transferId, tier, source_id AS sourceId, room_bytes AS roomBytes,
			 boot_id AS bootId, started_over AS startedOver FROM transfer ORDER BY transfer_id`,
		)
		.all();
}

export function readTransfer(db: Pick<Database, "read">, transferId: string): TransferRow | undefined {
	return readTransfers(db).find((row) => row.transferId === transferId);
}

export function readParts({ read }: Pick<Database, "read">, transferId: string): PartRow[] {
	return read
		.query<PartRow, [string]>(
			"SELECT file_index AS fileIndex, part_index AS partIndex, xxh64 FROM transfer_part WHERE transfer_id = ?1",
		)
		.all(transferId);
}

/** Whether a part of the transfer has landed since then. */
export function hasPartsSince(
	{ read }: Pick<Database, "read">,
	transferId: string,
	sinceMs: number,
): boolean {
	const landed = read.query<{ n: number }, [string, number]>(
		`SELECT 1 AS n FROM transfer_part WHERE transfer_id = ?1 AND landed_at_ms >= ?2
		 UNION ALL SELECT 1 FROM transfer_run WHERE transfer_id = ?1 AND landed_at_ms >= ?2 LIMIT 1`,
	);
	return landed.all(transferId, sinceMs).length > 0;
}

export function readVerifiedFiles({ read }: Pick<Database, "read">, transferId: string): FileRow[] {
	return read
		.query<Omit<FileRow, "xxh64"> & { xxh64: string }, [string]>(
			"SELECT file_index AS fileIndex, size_bytes AS sizeBytes, sha256, xxh64 FROM transfer_file WHERE transfer_id = ?1",
		)
		.all(transferId)
		.map((row) => ({ ...row, xxh64: splitDigests(row.xxh64) }));
}

export function readRuns({ read }: Pick<Database, "read">, transferId: string): FileRun[] {
	return read
		.query<FileRun, [string]>(
			'SELECT first_file AS first, end_file AS "end" FROM transfer_run WHERE transfer_id = ?1',
		)
		.all(transferId);
}

function splitDigests(text: string): string[] {
	const digests: string[] = [];
	for (let at = 0; at < text.length; at += DIGEST_LENGTH) digests.push(text.slice(at, at + DIGEST_LENGTH));
	return digests;
}
