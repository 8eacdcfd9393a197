/**
 * What the cluster knows of models: registrations (durable, the host's own) and locations (rebuilt from the
 * inventories of nodes, which are the truth). A model's status is derived, never stored.
 * Does not move bytes and does not call nodes.
 */
import type { CacheFigures } from "../../platform/bounded-cache.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Database } from "../../platform/database.ts";
import type { Detected } from "../../schema/detected.ts";
import { modelNotFound } from "../../schema/errors.ts";
import type { ModelCopy, ModelDetail, ModelLocation, ModelStatus, ModelSummary } from "../../schema/model.ts";
import type { ServiceDocument } from "../../schema/service.ts";
import {
	type CopyKey,
	type GivenModel,
	type LocationRow,
	type ModelRow,
	registryModule,
} from "./model-store.ts";
import { createModelNames, type NameFilter } from "./model-names.ts";
import { type Activity, modelStatus } from "./status.ts";
import { createStoredModels, type Stored } from "./stored-models.ts";

export { type CopyKey, type LocationRow, registryModule } from "./model-store.ts";
export { type Activity, modelStatus } from "./status.ts";

/** What the registry needs of the nodes' present state to answer. */
export interface ClusterFacts {
	activities(): readonly Activity[];
	services(): readonly ServiceDocument[];
	nodeStatus(node: string): string;
	/** Whether a device is a simulated GPU; left out: none is. */
	isSimulated?(node: string, tier: string): boolean;
}

export interface ModelFilter extends NameFilter {
	page: number;
	perPage: number;
}

export interface RevisionKey {
	model_name: string;
	revision: string;
}

export interface NewModel {
	modelName: string;
	/** `unknown`: what is detected once there is a copy. */
	modelType: string;
	modelSize: number;
	sourceUrl: string | null;
	metadata: Record<string, unknown>;
}

export interface Registry {
	list(filter: ModelFilter): { models: ModelSummary[]; total: number };
	/** @throws 404 MODEL_NOT_FOUND */
	get(name: string): ModelDetail;
	has(name: string): boolean;
	/** @throws 409 model_exists */
	register(model: NewModel): Promise<void>;
	/** Registers what is not known yet. */
	ensure(model: NewModel): Promise<void>;
	/**
	 * Changes what people said of a model: its type (null: what is detected), their metadata (all of it).
	 * @throws 404 MODEL_NOT_FOUND
	 */
	describe(
		name: string,
		change: { modelType?: string | null | undefined; metadata?: Record<string, unknown> | undefined },
	): Promise<void>;
	locations(name: string): LocationRow[];
	/** Takes a node's inventory; returns the copies that were deleted while it was away. */
	takeInventory(node: string, copies: ModelCopy[]): Promise<CopyKey[]>;
	claim(name: string, node: string, tier: string): Promise<void>;
	dropClaim(name: string, node: string, tier: string): Promise<void>;
	forget(name: string, tombstones: CopyKey[]): Promise<void>;
	/** How many ready copies of each revision these nodes hold, on durable tiers and in all; what has none is left out. */
	whereabouts(
		revisions: readonly RevisionKey[],
		nodes: readonly string[],
	): (RevisionKey & { durable: number; all: number })[];
	/** Models of which this node has the only ready durable copy of a revision, as far as the `alive` nodes go. */
	onlyOn(node: string, alive: readonly string[]): string[];
	/** Forgets what a node holds. */
	dropNode(node: string): Promise<void>;
	/** The copy is wanted (again): a former delete no longer applies to it. */
	want(name: string, node: string, tier: string): Promise<void>;
	/** Every model, for the registry document. */
	all(): ModelSummary[];
	/** How often what is stored of a model came from memory. */
	cacheFigures(): CacheFigures[];
}

export function createRegistry({
	db,
	clock,
	facts,
}: {
	db: Database;
	clock: Clock;
	facts: ClusterFacts;
}): Registry {
	const write = db.writer(registryModule);
	const { read } = db;

	const storedModels = createStoredModels(db);
	/** A model that a download named is shown while it comes; when that failed, nothing is known of it. */
	const shown = (alias: string): string =>
		`(${alias}.implied = 0 OR ${alias}.model_name IN (SELECT value FROM json_each($bringing))
		 OR EXISTS (SELECT 1 FROM registry_location s WHERE s.model_name = ${alias}.model_name))`;
	const names = createModelNames(db);
	const bringing = (): string => JSON.stringify(facts.activities().map((a) => a.model_name));
	/** Of a model that is shown: the same rule as `shown`. */
	const shownModel = (name: string): Stored | undefined => {
		const [found] = storedModels.of([name]);
		if (found === undefined || found.row.implied === 0 || found.locations.length > 0) return found;
		return facts.activities().some((a) => a.model_name === name) ? found : undefined;
	};

	const isSimulated = ({ node, tier }: LocationRow): boolean => facts.isSimulated?.(node, tier) === true;
	const summaryOf = (
		{ row, locations }: Stored,
		activities: readonly Activity[],
		services: readonly ServiceDocument[],
	): ModelSummary => {
		return {
			model_name: row.model_name,
			model_type: row.model_type,
			model_size: row.model_size,
			locations: unique(locations.map(deviceOf)),
			...markedLocations(
				locations.map((l) => ({
					device: deviceOf(l),
					simulated: isSimulated(l),
					adopted: l.place === "adopted",
					pinned: l.pinned === 1,
					status: l.status,
				})),
			),
			services: servicesOf(row.model_name, services),
			status: modelStatus(
				locations.map((l) => l.status),
				activities.filter((a) => a.model_name === row.model_name).map((a) => a.status),
			),
			detected: detectedOf(row),
		};
	};
	const rowOf = (modelName: string, m: NewModel, implied: number): GivenModel => ({
		model_name: modelName,
		model_type: m.modelType,
		model_size: m.modelSize,
		source_url: m.sourceUrl,
		metadata: JSON.stringify(m.metadata),
		created_at: clock.nowMs() / 1000,
		implied,
		typed: m.modelType === "unknown" ? 0 : 1,
	});
	return {
		list({ page, perPage, ...filter }) {
			const [activities, services] = [facts.activities(), facts.services()];
			const all = names.of(filter, activities);
			const start = (page - 1) * perPage;
			const found = storedModels.of(all.slice(start, start + perPage));
			return { models: found.map((one) => summaryOf(one, activities, services)), total: all.length };
		},
		get(name) {
			const found = shownModel(name);
			if (found === undefined) throw modelNotFound(name);
			const { row, locations } = found;
			const details: ModelLocation[] = locations.map((l) => ({
				device: deviceOf(l),
				status: l.status,
				revision: l.revision === "" ? null : l.revision,
				size_bytes: l.size_bytes,
				content_id: l.content_id,
				node_status: facts.nodeStatus(l.node),
				...(l.adopted_from === null ? {} : { place: l.place, adopted_from: l.adopted_from }),
				...(isSimulated(l) ? { simulated: true as const } : {}),
				pinned: l.pinned === 1,
			}));
			return {
				...summaryOf(found, facts.activities(), facts.services()),
				source_url: row.source_url,
				metadata: {
					...detectedMetadata(detectedOf(row)),
					...(JSON.parse(row.metadata) as Record<string, unknown>),
				},
				revision: row.revision,
				format: row.format,
				created_at: row.created_at,
				location_details: details,
			};
		},
		has: (name) => shownModel(name) !== undefined,
		register: (model) => write.insertModel(rowOf(model.modelName, model, 0)),
		ensure: (model) => write.ensureModel(rowOf(model.modelName, model, 1)),
		describe: (name, { modelType, metadata }) =>
			write.describeModel({
				model_name: name,
				model_type: modelType,
				metadata: metadata === undefined ? undefined : JSON.stringify(metadata),
			}),
		locations: (name) => storedModels.of([name]).flatMap(({ locations }) => locations),
		cacheFigures: () => [storedModels.figures()],
		takeInventory: (node, copies) => write.takeInventory({ node, copies, now: clock.nowMs() / 1000 }),
		claim: (name, node, tier) => write.claimLocation({ model_name: name, node, tier }),
		dropClaim: (name, node, tier) => write.dropClaim({ model_name: name, node, tier }),
		forget: (name, tombstones) =>
			write.forgetModel({ model_name: name, tombstones, now: clock.nowMs() / 1000 }),
		whereabouts: (revisions, nodes) =>
			read
				.query<RevisionKey & { durable: number; all: number }, [string, string]>(
					`SELECT l.model_name, l.revision, sum(l.tier GLOB 'disk*') AS durable, count(*) AS "all"
					 FROM json_each(?1) a JOIN registry_location l
					 ON l.model_name = a.value ->> 'model_name' AND l.revision = a.value ->> 'revision'
					 WHERE l.status = 'ready' AND l.claimed = 0 AND l.place = 'store'
					 AND l.node IN (SELECT value FROM json_each(?2)) GROUP BY l.model_name, l.revision`,
				)
				.all(JSON.stringify(revisions), JSON.stringify(nodes)),
		onlyOn: (node, alive) =>
			read
				.query<{ model_name: string }, [string, string]>(
					`SELECT DISTINCT model_name FROM registry_location l
					 WHERE node = ?1 AND status = 'ready' AND tier GLOB 'disk*' AND NOT EXISTS (
					   SELECT 1 FROM registry_location o
					   WHERE o.model_name = l.model_name AND o.revision = l.revision AND o.node <> ?1
					   AND o.status = 'ready' AND o.tier GLOB 'disk*' AND o.place = 'store' AND o.node IN (SELECT value FROM json_each(?2)))
					 ORDER BY model_name`,
				)
				.all(node, JSON.stringify(alive))
				.map((row) => row.model_name),
		dropNode: (node) => write.dropNode({ node }),
		want: (name, node, tier) => write.dropTombstones({ model_name: name, node, tier }),
		all() {
			const [activities, services] = [facts.activities(), facts.services()];
			const all = read
				.query<{ name: string }, [{ bringing: string }]>(
					`SELECT model_name AS name FROM registry_model m WHERE ${shown("m")} ORDER BY m.model_name`,
				)
				.all({ bringing: bringing() });
			return storedModels.of(all.map(({ name }) => name)).map((one) => summaryOf(one, activities, services));
		},
	};
}

function detectedOf({ detected }: ModelRow): Detected | null {
	// Checked when a node told it.
	return detected === null ? null : (JSON.parse(detected) as Detected);
}

/** What was detected as keys beside those that people gave; what could not be told is left out. */
export function detectedMetadata(detected: Detected | null | undefined): Record<string, unknown> {
	const { detector: _detector, model_type: _type, ...told } = detected ?? {};
	return Object.fromEntries(Object.entries(told).filter(([, value]) => value !== null));
}

/** Front URL per node of the model's ready services. */
export function servicesOf(model: string, services: readonly ServiceDocument[]): Record<string, string> {
	const urls: Record<string, string> = {};
	for (const s of services) if (s.model_name === model && s.state === "ready") urls[s.node] = s.url;
	return urls;
}

type Marks = Pick<
	ModelSummary,
	"simulated_locations" | "adopted_locations" | "pinned_locations" | "unavailable_locations"
>;

/** What there is to say of some of a model's locations; nothing of what holds for none of them. */
export function markedLocations(
	copies: readonly {
		device: string;
		simulated: boolean;
		adopted: boolean;
		pinned: boolean;
		status: ModelStatus;
	}[],
): Marks {
	const devices = (those: typeof copies): string[] => unique(those.map(({ device }) => device));
	// A device may have several revisions, and one of them may do.
	const usable = new Set(devices(copies.filter(({ status }) => status !== "unavailable")));
	const marks = {
		simulated_locations: devices(copies.filter(({ simulated }) => simulated)),
		adopted_locations: devices(copies.filter(({ adopted }) => adopted)),
		pinned_locations: devices(copies.filter(({ pinned }) => pinned)),
		unavailable_locations: devices(copies.filter(({ device }) => !usable.has(device))),
	};
	return Object.fromEntries(Object.entries(marks).filter(([, list]) => list.length > 0));
}

function deviceOf(location: LocationRow): string {
	return `${location.node}:${location.tier}`;
}

function unique<T>(items: T[]): T[] {
	return [...new Set(items)];
}
