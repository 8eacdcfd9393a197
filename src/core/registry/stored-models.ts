/**
 * What is stored of models; of it in memory what was asked for last, until something in the registry changes. Only rows
 * are kept: status, services and liveness change without a row and are asked for each time.
 */
import { type BoundedCache, type CacheFigures, createBoundedCache } from "../../platform/bounded-cache.ts";
import type { Database } from "../../platform/database.ts";
import type { LocationRow, ModelRow } from "./model-store.ts";

export interface Stored {
	row: ModelRow;
	locations: readonly LocationRow[];
}

export interface StoredModels {
	/** Of one or of a page, in order; names that are not stored are left out. */
	of(names: readonly string[]): Stored[];
	figures(): CacheFigures;
}

/** Some pages of the largest lists. */
const MAX_KEPT_MODELS = 2_000;

export function createStoredModels({ read }: Pick<Database, "read">): StoredModels {
	const models: BoundedCache<Stored | undefined> = createBoundedCache({
		name: "models",
		limit: MAX_KEPT_MODELS,
	});
	const versionOf = read.query<{ version: number }, []>("SELECT version FROM registry_version");
	const oneModel = read.query<ModelRow, [string]>("SELECT * FROM registry_model WHERE model_name = ?1");
	const locationsOf = read.query<LocationRow, [string]>(
		"SELECT * FROM registry_location WHERE model_name = ?1 ORDER BY node, tier, revision",
	);
	let keptVersion = -1;
	return {
		of(names) {
			// Every write raises it in its own transaction, so that nothing older than a write is told after it.
			const [{ version } = { version: 0 }] = versionOf.all();
			if (version !== keptVersion) models.clear();
			keptVersion = version;
			return names.flatMap(
				(name) =>
					models.get(name, () => {
						const [row] = oneModel.all(name);
						return row === undefined ? undefined : { row, locations: locationsOf.all(name) };
					}) ?? [],
			);
		},
		figures: () => models.figures(),
	};
}
