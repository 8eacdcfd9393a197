/** The rows of what was adopted: a copy whose files stay where another program put them. */
import type { Database as Sqlite } from "bun:sqlite";
import type { Database } from "../../platform/database.ts";
import type { Detected } from "../../schema/detected.ts";
import { type CopyKey, type CopyRow, insertCopy, raiseVersion, writeDetected } from "./copy-store.ts";

export interface AdoptedFile {
	/** In the model. */
	path: string;
	/** Absolute, a regular file. */
	realPath: string;
	/** What it was when its digests were taken (see platform/file-identity.ts). */
	identity: string;
}

/** Where an adopted copy is. */
export interface Adoption {
	/** What wrote it: `hub`, `ollama`, or a `folder` or `file` of somebody's. */
	kind: string;
	/** The import folder, and what in it was adopted; both absolute and without links. */
	folder: string;
	path: string;
	files: readonly AdoptedFile[];
}

export const adoptionWrites = {
	/** The whole of it in one transaction; a copy with this key is not there. */
	adopt(
		db: Sqlite,
		input: { row: CopyRow; manifest: string; adoption: Adoption; detected: Detected },
	): number {
		const { row, manifest, adoption, detected } = input;
		insertCopy(db, row, manifest);
		writeDetected(db, row.contentId, detected);
		db.query(
			`INSERT INTO storage_adoption (tier, model_name, revision, kind, folder, path, files)
			 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)`,
		).run(
			row.tier,
			row.model,
			row.revision,
			adoption.kind,
			adoption.folder,
			adoption.path,
			JSON.stringify(adoption.files),
		);
		return raiseVersion(db);
	},
	/** The files were read again and are right as they are now. */
	renewAdoption(db: Sqlite, { key, files }: { key: CopyKey; files: readonly AdoptedFile[] }): void {
		db.query(
			"UPDATE storage_adoption SET files = ?4 WHERE tier = ?1 AND model_name = ?2 AND revision = ?3",
		).run(key.tier, key.model, key.revision, JSON.stringify(files));
	},
};

export function readAdoptions({ read }: Pick<Database, "read">): (CopyKey & Adoption)[] {
	return read
		.query<CopyKey & Omit<Adoption, "files"> & { files: string }, []>(
			"SELECT tier, model_name AS model, revision, kind, folder, path, files FROM storage_adoption",
		)
		.all()
		.map((row) => ({ ...row, files: JSON.parse(row.files) as AdoptedFile[] }));
}
