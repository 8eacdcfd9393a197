/**
 * What should be brought into memory now, and why. Pure: what was said and what is expected, what is where, how much
 * room there is, how long it takes.
 *
 * A hint goes before every forecast. What is expected to be used more often goes before what is less; a copy that lies
 * in memory gives way only to one that is expected clearly more often, and never while it is pinned or in use. What
 * lies there because of a forecast may take a share of the memory and no more.
 */
import type { PRELOAD_DECISIONS } from "../../schema/preload.ts";
import type { Forecast } from "./forecast.ts";

/** Somebody said that a model will be used. Seconds since the epoch. */
export interface Hint {
	model: string;
	fromS: number;
	untilS: number;
}

/** A model of which a durable copy lies on this node. */
export interface Candidate {
	model: string;
	revision: string;
	/** The tier of the durable copy. */
	source: string;
	sizeBytes: number;
	lastUsedS: number | undefined;
	/** Undefined: it was never used here. */
	forecast: Forecast | undefined;
}

/** A copy in memory. */
export interface Resident {
	model: string;
	revision: string;
	sizeBytes: number;
	/** A forecast brought it, and it was not used since. */
	isUnused: boolean;
	/** Pinned or in use, or nowhere else. */
	stays: boolean;
	forecast: Forecast | undefined;
}

export interface PlanInput {
	nowS: number;
	hints: readonly Hint[];
	candidates: readonly Candidate[];
	residents: readonly Resident[];
	/** Models on their way into memory, and whether a forecast brings them. */
	coming: readonly { model: string; sizeBytes: number; isPreload: boolean }[];
	/** Of the memory's tier. */
	totalBytes: number;
	availableBytes: number;
	/** What copies that nobody has used yet may take, those that are coming included; hints are not bound by it. */
	budgetBytes: number;
	/** From disk to memory, as it was measured. */
	rateBytesPerSecond: number;
	/** Models that could not be brought a moment ago. */
	resting: ReadonlySet<string>;
	/** `hints`: forecasts are told and not acted upon. */
	mode: "auto" | "hints";
	/** Of those residents, which go so that so many bytes come free; none when they are not enough. */
	chooseVictims: (from: readonly Resident[], needBytes: number) => readonly Resident[];
}

export interface PlanItem {
	model: string;
	revision: string;
	sizeBytes: number;
	decision: (typeof PRELOAD_DECISIONS)[number];
	/** A sentence for people. */
	why: string;
	/** Within the horizon. */
	expectedUses: number;
	isHinted: boolean;
	/** Seconds since the epoch. */
	expectedAtS: number | undefined;
	startAtS: number | undefined;
	lastUsedS: number | undefined;
}

export interface Start {
	model: string;
	revision: string;
	source: string;
	sizeBytes: number;
	/** What leaves memory for it. */
	displaced: readonly Resident[];
	why: string;
}

export interface Plan {
	/** By score, the highest first. */
	items: PlanItem[];
	/** At most one: the next plan knows how it went. */
	start: Start | undefined;
	/**
	 * Models that should be in memory: those that are hinted, and the likeliest of those that are known, as far as they
	 * fit. Where room must be made, others make it.
	 */
	wanted: ReadonlySet<string>;
}

/** Less is not worth the reading. */
const LEAST_USES = 0.2;
/** A resident gives way to what is expected so much more often. */
const CLEARLY = 2;
/** Of the memory; the rest is for what nobody expected. */
const WANTED_SHARE = 0.9;
const HINT_SCORE = 1e6;
/** A hint is acted upon so many times the measured time ahead, and at least so long. */
const LEAD_FACTOR = 2;
const LEAST_LEAD_S = 60;

export function plan(input: PlanInput): Plan {
	const residents = new Map(input.residents.map((one) => [keyOf(one), one]));
	const coming = new Set(input.coming.map(({ model }) => model));
	const hints = new Map(
		input.hints.filter(({ untilS }) => untilS > input.nowS).map((hint) => [hint.model, hint]),
	);
	const scored = input.candidates
		.map((candidate) => ({ candidate, ...scoreOf(input, candidate, hints.get(candidate.model)) }))
		.sort((a, b) => b.score - a.score || (a.candidate.model < b.candidate.model ? -1 : 1));
	const wanted = wantedOf(input, scored);
	let start: Start | undefined;
	const items = scored.map(({ candidate, score, hint, startAtS, expectedAtS }): PlanItem => {
		const { model, revision, sizeBytes, lastUsedS, forecast } = candidate;
		const told = {
			model,
			revision,
			sizeBytes,
			expectedUses: forecast?.uses ?? 0,
			isHinted: hint !== undefined,
			expectedAtS,
			startAtS,
			lastUsedS,
		};
		if (residents.has(keyOf(candidate))) return { ...told, decision: "there", why: "it is in memory" };
		if (coming.has(model)) return { ...told, decision: "coming", why: "it is on its way" };
		if (input.resting.has(model))
			return { ...told, decision: "later", why: "it could not be brought a moment ago" };
		const reason = notNow(input, { score, hint, startAtS, forecast });
		if (reason !== undefined) return { ...told, ...reason };
		if (!wanted.has(model))
			return { ...told, decision: "no", why: "others are expected more often, and fill the memory" };
		const before = start?.model ?? input.coming.find(({ isPreload }) => isPreload)?.model;
		if (before !== undefined) return { ...told, decision: "later", why: `after ${before}: one at a time` };
		const room = roomFor(input, candidate, score, hints);
		if (typeof room === "string") return { ...told, decision: "no", why: room };
		const why =
			hint === undefined ? `${score.toFixed(1)} uses are expected within the hour` : "somebody said so";
		start = { model, revision, source: candidate.source, sizeBytes, displaced: room, why };
		return { ...told, decision: "start", why: withDisplaced(why, room) };
	});
	return { items, start, wanted };
}

function wantedOf(
	{ totalBytes }: PlanInput,
	scored: readonly { candidate: Candidate; hint: Hint | undefined; score: number }[],
): ReadonlySet<string> {
	const wanted = new Set<string>();
	let leftBytes = totalBytes * WANTED_SHARE;
	for (const { candidate, hint, score } of scored) {
		const isExpected = candidate.forecast?.isKnown === true && score >= LEAST_USES;
		if (hint === undefined && (!isExpected || candidate.sizeBytes > leftBytes)) continue;
		leftBytes -= candidate.sizeBytes;
		wanted.add(candidate.model);
	}
	return wanted;
}

interface Scored {
	score: number;
	hint: Hint | undefined;
	expectedAtS: number | undefined;
	startAtS: number | undefined;
}

function scoreOf(
	{ nowS, rateBytesPerSecond }: PlanInput,
	{ sizeBytes, forecast }: Candidate,
	hint: Hint | undefined,
): Scored {
	const uses = forecast?.uses ?? 0;
	if (hint === undefined) {
		const expectedAtS = uses >= LEAST_USES ? forecast?.expectedAtS : undefined;
		return { score: uses, hint, expectedAtS, startAtS: expectedAtS === undefined ? undefined : nowS };
	}
	const leadS = Math.max(LEAST_LEAD_S, (sizeBytes / rateBytesPerSecond) * LEAD_FACTOR);
	return { score: HINT_SCORE + uses, hint, expectedAtS: hint.fromS, startAtS: hint.fromS - leadS };
}

/** Why it is not brought whatever room there is; undefined: it is. */
function notNow(
	{ nowS, mode }: PlanInput,
	{
		score,
		hint,
		startAtS,
		forecast,
	}: Pick<Scored, "score" | "hint" | "startAtS"> & { forecast: Forecast | undefined },
): Pick<PlanItem, "decision" | "why"> | undefined {
	if (hint !== undefined)
		return startAtS !== undefined && startAtS > nowS
			? { decision: "later", why: `it begins ${Math.ceil(startAtS - nowS)} s from now` }
			: undefined;
	if (forecast === undefined) return { decision: "no", why: "it was never used here" };
	if (score < LEAST_USES) return { decision: "no", why: "it is hardly expected within the hour" };
	if (!forecast.isKnown) return { decision: "no", why: "there is not enough record of it yet" };
	if (mode === "hints") return { decision: "no", why: "only hints are acted upon (preload.mode)" };
	return undefined;
}

/** What leaves memory for it, nothing where there is room; a sentence where there can be none. */
function roomFor(
	input: PlanInput,
	{ model, sizeBytes }: Candidate,
	score: number,
	hints: ReadonlyMap<string, Hint>,
): readonly Resident[] | string {
	const { residents, coming, availableBytes, chooseVictims } = input;
	// The budget is for guesses: what somebody said may take what there is.
	const budgetBytes = hints.has(model) ? Infinity : input.budgetBytes;
	if (sizeBytes > budgetBytes) return `it is larger than the budget of ${budgetBytes} bytes`;
	const unusedBytes =
		bytesOf(residents.filter(({ isUnused }) => isUnused)) +
		bytesOf(coming.filter(({ isPreload }) => isPreload));
	const mayGo = residents.filter(
		(one) => !one.stays && !hints.has(one.model) && (one.forecast?.uses ?? 0) * CLEARLY < score,
	);
	// First the budget: only what counts in it makes room in it.
	const overBytes = unusedBytes + sizeBytes - budgetBytes;
	const unused =
		overBytes <= 0
			? []
			: chooseVictims(
					mayGo.filter(({ isUnused }) => isUnused),
					overBytes,
				);
	if (overBytes > 0 && bytesOf(unused) < overBytes)
		return `the budget is full of what is expected as much (${budgetBytes} bytes)`;
	const missingBytes = sizeBytes - availableBytes - bytesOf(unused);
	if (missingBytes <= 0) return unused;
	const others = chooseVictims(
		mayGo.filter((one) => !unused.includes(one)),
		missingBytes,
	);
	if (bytesOf(others) < missingBytes) return `there is no room: ${availableBytes} bytes are free`;
	return [...unused, ...others];
}

function withDisplaced(why: string, displaced: readonly Resident[]): string {
	if (displaced.length === 0) return why;
	return `${why}; ${displaced.map(({ model }) => model).join(", ")} gives way`;
}

function bytesOf(things: readonly { sizeBytes: number }[]): number {
	return things.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

function keyOf({ model, revision }: { model: string; revision: string }): string {
	return `${model}@${revision}`;
}
