/**
 * Which models will be wanted in memory, and when. Remembers uses, by hour of the week, and what people said ("in two
 * minutes"), and plans from both: what to bring into memory, what may leave it for that, and why.
 * A hint goes before every forecast; a forecast counts once there is enough record, and is of the past alone.
 * It brings nothing itself and knows neither tiers nor tasks: who asks for a plan does what it says, and asks again.
 */
import type { Clock } from "../../platform/clock.ts";
import type { Database } from "../../platform/database.ts";
import type { Log } from "../../platform/log.ts";
import { GswarmError } from "../../schema/errors.ts";
import { type Forecast, forecast } from "./forecast.ts";
import type { Hint } from "./plan.ts";
import { preloadModule, readHints, readUses } from "./preload-store.ts";
import { type UseRecord, withUse } from "./use-record.ts";

export { type Forecast, forecast } from "./forecast.ts";
export { type Candidate, type Hint, type PlanInput, type Plan, plan, type Resident } from "./plan.ts";
export { preloadModule } from "./preload-store.ts";
export { type UseRecord, withUse } from "./use-record.ts";

export interface Preload extends AsyncDisposable {
	/** A model was used now; in memory at once, in the database a little later. */
	use(model: string): void;
	/**
	 * Somebody says that a model will be used; in the place of what was said of it before.
	 * @throws 503 too_many_hints
	 */
	hint(hint: Hint): Promise<void>;
	/** Whether there was one. */
	dropHint(model: string): Promise<boolean>;
	/** Those that are not over. */
	hints(): Hint[];
	/** Of the next hour; undefined for a model that was never used. */
	forecast(model: string): Forecast | undefined;
	/** Seconds since the epoch. */
	lastUsedS(model: string): number | undefined;
}

/** How far a forecast looks ahead. */
const HORIZON_S = 3600;
/** Of each 700 bytes; the one that was used longest ago is forgotten first. */
const MAX_RECORDS = 10_000;
const MAX_HINTS = 1_000;
/** What a crash may forget. */
const KEEP_AFTER_MS = 10_000;

export function openPreload({ db, clock, log }: { db: Database; clock: Clock; log: Log }): Preload {
	const writes = db.writer(preloadModule);
	/** From the one used longest ago. */
	const records = readUses(db);
	const hints = new Map(readHints(db).map((hint) => [hint.model, hint]));
	const stop = new AbortController();
	const nowS = (): number => clock.nowMs() / 1000;
	let unwritten = new Set<string>();
	let waiting: Promise<void> | undefined;

	const keep = async (): Promise<void> => {
		const models = unwritten;
		unwritten = new Set();
		if (models.size === 0) return;
		const uses = [...models].map((model) => ({ model, record: records.get(model) }));
		await writes
			.keepUses(uses)
			.catch((error: unknown) => log.warn("preload.uses_not_kept", { count: uses.length, error }));
	};
	const keepLater = async (): Promise<void> => {
		await clock.sleep(KEEP_AFTER_MS, stop.signal);
		waiting = undefined;
		// The last ones, of a stop, are written there.
		if (!stop.signal.aborted) await keep();
	};
	const current = (): Hint[] => [...hints.values()].filter(({ untilS }) => untilS > nowS());
	const dropOver = async (): Promise<void> => {
		const over = [...hints.values()].filter(({ untilS }) => untilS <= nowS()).map(({ model }) => model);
		for (const model of over) hints.delete(model);
		if (over.length > 0) await writes.dropHints(over);
	};
	const remember = (model: string, record: UseRecord): void => {
		records.delete(model);
		records.set(model, record);
		unwritten.add(model);
		const [oldest] = records.keys();
		if (records.size > MAX_RECORDS && oldest !== undefined) {
			records.delete(oldest);
			unwritten.add(oldest);
		}
		waiting ??= keepLater();
	};
	return {
		use(model) {
			const before = records.get(model);
			const after = withUse(before, nowS());
			if (after !== before) remember(model, after);
		},
		async hint(hint) {
			await dropOver();
			if (!hints.has(hint.model) && hints.size >= MAX_HINTS) throw tooManyHints();
			await writes.keepHint(hint);
			hints.set(hint.model, hint);
		},
		async dropHint(model) {
			const was = current().some((hint) => hint.model === model);
			hints.delete(model);
			await writes.dropHints([model]);
			return was;
		},
		hints: current,
		forecast(model) {
			const record = records.get(model);
			return record === undefined ? undefined : forecast(record, nowS(), HORIZON_S);
		},
		lastUsedS: (model) => records.get(model)?.lastAtS,
		async [Symbol.asyncDispose]() {
			stop.abort();
			await waiting;
			await keep();
		},
	};
}

function tooManyHints(): GswarmError {
	return new GswarmError("RESOURCE_UNAVAILABLE", `${MAX_HINTS} models are hinted already.`, {
		reason: "too_many_hints",
		retryable: true,
		hint: "`gswarm model preload --explain` shows them; they end by themselves.",
	});
}
