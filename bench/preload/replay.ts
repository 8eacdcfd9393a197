/**
 * A trace against one memory, twice: with plain LRU, and with the product's planner and choice of victims. Time is the
 * trace's. Both bring a model into memory when it is used and is not there, at once; the planner does so before, at the
 * rate of a disk, and knows nothing but the uses before.
 */
import { forecast, plan, type Resident, type UseRecord, withUse } from "../../src/core/preload/preload.ts";
import { chooseVictims, type EvictionCandidate } from "../../src/core/storage/storage.ts";
import type { Trace, TraceModel } from "./trace.ts";

export interface Result {
	uses: number;
	hits: number;
	/** What the planner brought. */
	preloads: number;
	/** Of those, the ones that were used before they went. */
	useful: number;
}

export interface Memory {
	bytes: number;
	/** Share that copies may take which nobody has used yet. */
	preloadShare: number;
	rateBytesPerSecond: number;
}

export function replayLru({ uses }: Trace, { bytes }: Memory): Result {
	/** From the one used longest ago. */
	const there = new Map<TraceModel, true>();
	let used = 0;
	let hits = 0;
	for (const { model } of uses) {
		if (there.delete(model)) hits++;
		else used += model.sizeBytes;
		there.set(model, true);
		for (const oldest of there.keys()) {
			if (used <= bytes) break;
			there.delete(oldest);
			used -= oldest.sizeBytes;
		}
	}
	return { uses: uses.length, hits, preloads: 0, useful: 0 };
}

interface Copy {
	model: TraceModel;
	readyAtS: number;
	lastUsedS: number | undefined;
}

const PLAN_EVERY_S = 300;
const HORIZON_S = 3600;

export function replayPlanned({ models, uses, startS, endS }: Trace, memory: Memory): Result {
	const there = new Map<string, Copy>();
	const records = new Map<string, UseRecord>();
	let wanted: ReadonlySet<string> = new Set();
	let coming: { model: TraceModel; doneAtS: number } | undefined;
	const result = { uses: uses.length, hits: 0, preloads: 0, useful: 0 };
	const freeBytes = (): number => {
		let used = coming?.model.sizeBytes ?? 0;
		for (const { model } of there.values()) used += model.sizeBytes;
		return memory.bytes - used;
	};
	const expected = (name: string, nowS: number) => {
		const record = records.get(name);
		return record === undefined ? undefined : forecast(record, nowS, HORIZON_S);
	};
	const victimsOf = (copies: Iterable<Copy>, needBytes: number, nowS: number): string[] =>
		chooseVictims(
			[...copies].map((copy) => candidateOf(copy, memory, wanted.has(copy.model.name))),
			{ needBytes, nowS },
		).victims.map(({ candidate }) => candidate.model);
	const look = (nowS: number): void => {
		if (coming !== undefined && coming.doneAtS <= nowS) {
			there.set(coming.model.name, { model: coming.model, readyAtS: nowS, lastUsedS: undefined });
			coming = undefined;
		}
		const residents = [...there.values()].map(
			(copy): Resident => ({
				model: copy.model.name,
				revision: "r",
				sizeBytes: copy.model.sizeBytes,
				isUnused: copy.lastUsedS === undefined,
				stays: false,
				forecast: expected(copy.model.name, nowS),
			}),
		);
		const planned = plan({
			nowS,
			hints: [],
			candidates: models
				.filter(({ name }) => records.has(name))
				.map((model) => ({
					model: model.name,
					revision: "r",
					source: "disk",
					sizeBytes: model.sizeBytes,
					lastUsedS: records.get(model.name)?.lastAtS,
					forecast: expected(model.name, nowS),
				})),
			residents,
			coming:
				coming === undefined
					? []
					: [{ model: coming.model.name, sizeBytes: coming.model.sizeBytes, isPreload: true }],
			totalBytes: memory.bytes,
			availableBytes: freeBytes(),
			budgetBytes: memory.bytes * memory.preloadShare,
			rateBytesPerSecond: memory.rateBytesPerSecond,
			resting: new Set(),
			mode: "auto",
			chooseVictims(from, needBytes) {
				const copies = from.flatMap((one) => there.get(one.model) ?? []);
				const names = new Set(victimsOf(copies, needBytes, nowS));
				return from.filter((one) => names.has(one.model));
			},
		});
		const { start } = planned;
		wanted = planned.wanted;
		if (start === undefined || coming !== undefined) return;
		for (const { model } of start.displaced) there.delete(model);
		const model = models.find(({ name }) => name === start.model);
		if (model === undefined) return;
		coming = { model, doneAtS: nowS + model.sizeBytes / memory.rateBytesPerSecond };
		result.preloads++;
	};
	const take = (model: TraceModel, atS: number): void => {
		const copy = there.get(model.name);
		if (copy !== undefined) {
			result.hits++;
			if (copy.lastUsedS === undefined) result.useful++;
			copy.lastUsedS = atS;
			return;
		}
		// Who uses it brings it: memory that a forecast is about to take is given up for that.
		if (coming?.model === model || freeBytes() < model.sizeBytes) coming = undefined;
		const needBytes = model.sizeBytes - freeBytes();
		if (needBytes > 0) for (const name of victimsOf(there.values(), needBytes, atS)) there.delete(name);
		there.set(model.name, { model, readyAtS: atS, lastUsedS: atS });
	};
	let next = 0;
	for (let nowS = startS; nowS <= endS; nowS += PLAN_EVERY_S) {
		for (let use = uses[next]; use !== undefined && use.atS <= nowS; use = uses[++next]) {
			take(use.model, use.atS);
			records.set(use.model.name, withUse(records.get(use.model.name), use.atS));
		}
		look(nowS);
	}
	return result;
}

function candidateOf(
	{ model, readyAtS, lastUsedS }: Copy,
	{ rateBytesPerSecond }: Memory,
	wantedSoon: boolean,
): EvictionCandidate {
	return {
		model: model.name,
		revision: "r",
		tier: "dram",
		sizeBytes: model.sizeBytes,
		readyAt: readyAtS,
		lastUsedAt: lastUsedS ?? null,
		pinned: false,
		holders: [],
		purpose: lastUsedS === undefined ? "preload" : "asked",
		wantedSoon,
		place: "store",
		durable: false,
		otherDurableCopies: 1,
		costToBringBackS: model.sizeBytes / rateBytesPerSecond,
	};
}
