/** What the planner looks at, read from the rooms of this node: what is on disk and in memory, what is on its way. */
import type { Candidate, PlanInput, Preload, Resident } from "../../core/preload/preload.ts";
import type { Queue } from "../../core/queue/queue.ts";
import { chooseVictims, type Storage } from "../../core/storage/storage.ts";
import type { ModelCopy } from "../../schema/model.ts";
import type { TaskDocument } from "../../schema/task.ts";

/** The tier that models are brought to. */
export const MEMORY = "dram";

interface Rooms {
	nodeName: string;
	preload: Pick<Preload, "forecast" | "lastUsedS">;
	storage: Storage;
	queue: Pick<Queue, "list">;
}

interface Moment {
	nowS: number;
	/** Bytes per second, from disk to memory. */
	rate: number;
	/** What the plan before wanted in memory. */
	wanted: ReadonlySet<string>;
	/** Share of the memory that is filled. */
	fillTo: number;
}

export function planFacts(
	{ nodeName, preload, storage, queue }: Rooms,
	{ nowS, rate, wanted, fillTo }: Moment,
): Omit<PlanInput, "hints" | "budgetBytes" | "resting" | "mode"> {
	const copies = storage.copies().filter(({ status }) => status === "ready");
	const usage = storage.usage(MEMORY);
	const durable = newestDurable(copies, storage);
	const here = copies.filter(({ tier }) => tier === MEMORY);
	const forecastOf = memoised((model) => preload.forecast(model));
	return {
		nowS,
		candidates: [...durable.values()].map(
			(copy): Candidate => ({
				model: copy.model_name,
				revision: copy.revision,
				source: copy.tier,
				sizeBytes: copy.size_bytes,
				lastUsedS: preload.lastUsedS(copy.model_name),
				forecast: forecastOf(copy.model_name),
			}),
		),
		residents: here.map(
			(copy): Resident => ({
				model: copy.model_name,
				revision: copy.revision,
				sizeBytes: copy.size_bytes,
				isUnused: isUnused(copy),
				stays: copy.pinned === true || storage.holders(copy).length > 0 || !durable.has(copy.model_name),
				forecast: forecastOf(copy.model_name),
			}),
		),
		coming: tasksForMemory(queue, nodeName).map((task) => ({
			model: modelOf(task),
			sizeBytes: Math.max(
				0,
				...copies.filter((copy) => copy.model_name === modelOf(task)).map(({ size_bytes: bytes }) => bytes),
			),
			isPreload: isPreload(task),
		})),
		totalBytes: usage.total,
		availableBytes: Math.max(0, Math.floor(usage.available - usage.total * (1 - fillTo))),
		rateBytesPerSecond: rate,
		chooseVictims: (from, needBytes) => victims(here, from, { needBytes, nowS, rate, wanted }),
	};
}

/** Unfinished tasks that bring something into memory. */
export function tasksForMemory(queue: Pick<Queue, "list">, nodeName: string): TaskDocument[] {
	return queue.list({ limit: 1000 }).filter((task) => isForMemory(task, nodeName));
}

export function isPreload({ request }: TaskDocument): boolean {
	return request["purpose"] === "preload";
}

export function modelOf({ request }: TaskDocument): string {
	return String(request["model_name"]);
}

/** A forecast brought it, and nobody has used it since. */
export function isUnused({ purpose, last_used_at: lastUsedAt }: ModelCopy): boolean {
	return purpose === "preload" && (lastUsedAt ?? null) === null;
}

/** The same choice as for any other need of room, among those that may go for this one. */
function victims(
	here: readonly ModelCopy[],
	from: readonly Resident[],
	{ needBytes, nowS, rate, wanted }: Omit<Moment, "fillTo"> & { needBytes: number },
): Resident[] {
	const candidates = here
		.filter((copy) => from.some((one) => isSame(one, copy)))
		.map((copy) => ({
			model: copy.model_name,
			revision: copy.revision,
			tier: copy.tier,
			sizeBytes: copy.size_bytes,
			readyAt: copy.ready_at,
			lastUsedAt: copy.last_used_at ?? null,
			pinned: false,
			holders: [],
			purpose: copy.purpose ?? "asked",
			wantedSoon: wanted.has(copy.model_name),
			place: "store" as const,
			durable: false,
			otherDurableCopies: 1,
			costToBringBackS: copy.size_bytes / rate,
		}));
	const chosen = chooseVictims(candidates, { needBytes, nowS }).victims;
	return from.filter((one) =>
		chosen.some(({ candidate }) => candidate.model === one.model && candidate.revision === one.revision),
	);
}

/** Of each model the newest ready copy on a tier that keeps it. */
function newestDurable(copies: readonly ModelCopy[], storage: Storage): Map<string, ModelCopy> {
	const newest = new Map<string, ModelCopy>();
	for (const copy of copies) {
		if (!storage.tier(copy.tier).durable) continue;
		if ((newest.get(copy.model_name)?.ready_at ?? -1) < copy.ready_at) newest.set(copy.model_name, copy);
	}
	return newest;
}

/** A task that brings something into memory. */
function isForMemory({ task_type: type, request }: TaskDocument, nodeName: string): boolean {
	return (
		(type === "copy" || type === "move" || type === "download") &&
		(request["target_device"] === `${nodeName}:${MEMORY}` || request["target_device"] === MEMORY)
	);
}

function isSame(one: Resident, copy: ModelCopy): boolean {
	return one.model === copy.model_name && one.revision === copy.revision;
}

function memoised<T>(work: (key: string) => T): (key: string) => T {
	const known = new Map<string, T>();
	return (key) => {
		const found = known.get(key) ?? work(key);
		known.set(key, found);
		return found;
	};
}
