/** The rows of copies that are shown in a cache of Hugging Face's layout. */
import type { Database as Sqlite } from "bun:sqlite";
import type { Database } from "../../platform/database.ts";
import type { CopyKey } from "./copy-store.ts";

/** How a copy is shown. */
export interface Presentation {
	/** Absolute; ours alone. */
	cacheDir: string;
	/** `org/name`, or a name alone. */
	repository: string;
	/** The branch or tag that leads to it. */
	ref: string;
}

export const presentedWrites = {
	present(db: Sqlite, { key, shown }: { key: CopyKey; shown: Presentation }): void {
		db.query("INSERT OR REPLACE INTO storage_presented VALUES (?1, ?2, ?3, ?4, ?5, ?6)").run(
			key.tier,
			key.model,
			key.revision,
			shown.cacheDir,
			shown.repository,
			shown.ref,
		);
	},
	withdraw(db: Sqlite, { key, cacheDir }: { key: CopyKey; cacheDir: string }): void {
		db.query(
			"DELETE FROM storage_presented WHERE tier = ?1 AND model_name = ?2 AND revision = ?3 AND cache_dir = ?4",
		).run(key.tier, key.model, key.revision, cacheDir);
	},
};

export function readPresented({ read }: Pick<Database, "read">): (CopyKey & Presentation)[] {
	return read
		.query<CopyKey & Presentation, []>(
			"SELECT tier, model_name AS model, revision, cache_dir AS cacheDir, repository, ref FROM storage_presented",
		)
		.all();
}
