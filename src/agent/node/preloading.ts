/**
 * Does what the planner says: copies what is expected from disk to memory, one model at a time, as a task of low
 * priority. Whoever else wants the memory goes first: such a copy is cancelled while another task waits for room, and
 * what it brought is the first to be evicted. It notes uses, too.
 */
import { modelReservation, type Queue } from "../../core/queue/queue.ts";
import { type Hint, type Plan, plan, type Preload } from "../../core/preload/preload.ts";
import type { Storage } from "../../core/storage/storage.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Log } from "../../platform/log.ts";
import { asGswarmError, invalid, modelNotFound, notFound } from "../../schema/errors.ts";
import { type ModelName, parseModelName, parseRevision } from "../../schema/names.ts";
import { type HintAnswer, MAX_PLANNED, type PreloadMode, type PreloadPlan } from "../../schema/preload.ts";
import { isTerminal, type TaskDocument } from "../../schema/task.ts";
import type { CopyRequest } from "./copy-request.ts";
import { isPreload, isUnused, MEMORY, modelOf, planFacts, tasksForMemory } from "./preload-facts.ts";
import type { Rates } from "./rates.ts";
import type { Removal } from "./removal.ts";

export interface PreloadOptions {
	mode: PreloadMode;
	/** Of the memory's tier, what copies may take that nobody has used yet. */
	share: number;
	/** Share of the memory that is filled: what is above is evicted at once. */
	fillTo: number;
}

export interface Preloading extends AsyncDisposable {
	/** @throws 400 preload_off, 404 device_not_found, model_not_found, 503 too_many_hints */
	hint(model: ModelName, when: { fromS: number; untilS: number }): Promise<HintAnswer>;
	dropHint(model: ModelName): Promise<boolean>;
	explain(): PreloadPlan;
	/** Whether a model should be in memory now or soon: others make room before it does. */
	wanted(model: string): boolean;
	/** Begins to look. */
	start(): void;
}

interface Dependencies {
	nodeName: string;
	preload: Preload;
	storage: Storage;
	queue: Pick<Queue, "submit" | "cancel" | "list" | "onEvent" | "get">;
	removal: Pick<Removal, "remove">;
	rates: Pick<Rates, "secondsFor">;
	clock: Clock;
	log: Log;
}

const LOOK_EVERY_MS = 15_000;
/** A task that has waited for so long waits for something. */
const PATIENCE_MS = 250;
/** A model that could not be brought is left alone for so long. */
const REST_S = 600;
const GB = 1e9;
export function createPreloading(d: Dependencies, options: PreloadOptions): Preloading {
	const { nodeName, preload, storage, queue, clock, log } = d;
	const stop = new AbortController();
	const resting = new Map<string, number>();
	let wanted: ReadonlySet<string> = new Set();
	/** The task that brings a model now. */
	let bringing: { taskId: string; model: string } | undefined;
	let wake = new AbortController();
	let running: Promise<void> | undefined;

	const nowS = (): number => clock.nowMs() / 1000;
	/** Bytes per second from disk to memory, as measured. */
	const rate = (): number => GB / d.rates.secondsFor("local", GB);
	const hasMemory = (): boolean => storage.tiers().some(({ name }) => name === MEMORY);
	const tasks = (): TaskDocument[] => tasksForMemory(queue, nodeName);
	const planNow = (): Plan =>
		plan({
			...planFacts(
				{ nodeName, preload, storage, queue },
				{ nowS: nowS(), rate: rate(), wanted, fillTo: options.fillTo },
			),
			hints: preload.hints(),
			budgetBytes: budgetBytes(),
			resting: new Set([...resting].filter(([, untilS]) => untilS > nowS()).map(([model]) => model)),
			mode: options.mode === "auto" ? "auto" : "hints",
		});
	const budgetBytes = (): number => Math.floor(storage.usage(MEMORY).total * options.share);
	/** Somebody else's task waits for memory, and not for the same model. */
	const isPressed = (): boolean => {
		const all = tasks();
		const ours = all.filter(isPreload).map(modelOf);
		return all.some((task) => task.status === "pending" && !isPreload(task) && !ours.includes(modelOf(task)));
	};
	const giveWay = async (): Promise<void> => {
		if (!isPressed()) return;
		for (const task of tasks().filter(isPreload)) {
			log.info("preload.gave_way", { model: modelOf(task), task_id: task.task_id });
			await queue.cancel(task.task_id).catch((error: unknown) => {
				if (asGswarmError(error).reason !== "already_terminal") throw error;
			});
		}
	};
	const ended = (taskId: string): void => {
		const task = bringing;
		if (task === undefined || task.taskId !== taskId) return;
		bringing = undefined;
		if (queue.get(taskId).status === "failed") resting.set(task.model, nowS() + REST_S);
		poke();
	};
	const bring = async ({ start }: Plan): Promise<void> => {
		if (start === undefined) return;
		for (const { model, revision } of start.displaced) {
			const copy = storage.copy(parseModelName(model), MEMORY, parseRevision(revision));
			if (copy !== undefined) await d.removal.remove(copy, { force: false });
		}
		const model = parseModelName(start.model);
		const request: CopyRequest = {
			model_name: model,
			source_device: `${nodeName}:${start.source}`,
			target_device: `${nodeName}:${MEMORY}`,
			keep_source: true,
			verify_checksum: null,
			bandwidth_limit: null,
			purpose: "preload",
		};
		const { task } = await queue.submit({
			type: "copy",
			model,
			request: { ...request },
			priority: "low",
			reservations: [
				modelReservation(model, start.source, "shared"),
				modelReservation(model, MEMORY, "exclusive"),
			],
			resources: {
				devices: [request.source_device, request.target_device],
				models: [model],
				exclusive: false,
			},
			sizeBytes: start.sizeBytes,
			joinKey: `preload ${model} ${start.revision}`,
			maxAttempts: 1,
		});
		bringing = { taskId: task.task_id, model };
		log.info("preload.started", { model, task_id: task.task_id, why: start.why });
	};
	/** Resolves to when it is worth looking again, in milliseconds from now. */
	const look = async (): Promise<number> => {
		if (!hasMemory()) return LOOK_EVERY_MS;
		await giveWay();
		const planned = planNow();
		wanted = planned.wanted;
		const nextMs = untilNext(planned, nowS());
		if (bringing !== undefined || planned.start === undefined || isPressed()) return nextMs;
		try {
			await bring(planned);
		} catch (error) {
			// In use again, or somebody took the room: the next look knows better.
			resting.set(planned.start.model, nowS() + REST_S);
			log.warn("preload.not_started", { model: planned.start.model, error });
		}
		return nextMs;
	};
	const poke = (): void => wake.abort();
	const run = async (): Promise<void> => {
		while (!stop.signal.aborted) {
			wake = new AbortController();
			const nextMs = await look().catch((error: unknown) => {
				log.error("preload.look_failed", { error });
				return LOOK_EVERY_MS;
			});
			await clock.sleep(nextMs, AbortSignal.any([wake.signal, stop.signal]));
		}
	};
	const pressLater = async (): Promise<void> => {
		await clock.sleep(PATIENCE_MS, stop.signal);
		if (!stop.signal.aborted) await giveWay();
	};
	const subscriptions = [
		storage.onUse((copy, use) => {
			// Reading it to bring it is no use of it.
			if (use === "copy" && tasks().some((task) => isPreload(task) && modelOf(task) === copy.model_name))
				return;
			preload.use(copy.model_name);
		}),
		queue.onEvent(({ kind, taskId, status }) => {
			if (kind !== "state") return;
			if (isTerminal(status)) ended(taskId);
			else if (status === "pending" && bringing !== undefined && taskId !== bringing.taskId)
				pressLater().catch((error: unknown) => log.error("preload.not_cancelled", { error }));
		}),
	];
	const requireMemory = (): void => {
		if (!hasMemory())
			throw notFound("device", `${nodeName}:${MEMORY}`, "This node keeps no models in memory.");
	};
	return {
		async hint(model, when) {
			requireMemory();
			if (options.mode === "off") throw preloadOff(nodeName);
			const isHere = storage
				.copies()
				.some(
					(copy) => copy.model_name === model && copy.status === "ready" && storage.tier(copy.tier).durable,
				);
			if (!isHere) throw modelNotFound(model, `a disk of ${nodeName}`);
			const hint: Hint = { model, ...when };
			await preload.hint(hint);
			resting.delete(model);
			const item = planNow().items.find((one) => one.model === model);
			poke();
			return {
				model_name: model,
				device: `${nodeName}:${MEMORY}`,
				from: hint.fromS,
				until: hint.untilS,
				decision: item?.decision ?? "no",
				why: item?.why ?? "its copy is gone",
				starts_at: item?.decision === "later" || item?.decision === "start" ? (item.startAtS ?? null) : null,
			};
		},
		dropHint: (model) => preload.dropHint(model),
		explain() {
			const about = { node: nodeName, mode: options.mode, rate_bytes_per_second: Math.round(rate()) };
			if (!hasMemory()) return { ...about, device: null, budget_bytes: 0, used_bytes: 0, models: [] };
			const unused = storage.copies().filter((copy) => copy.tier === MEMORY && isUnused(copy));
			const { items } = planNow();
			return {
				...about,
				device: `${nodeName}:${MEMORY}`,
				budget_bytes: budgetBytes(),
				used_bytes: unused.reduce((sum, { size_bytes: bytes }) => sum + bytes, 0),
				models: items.slice(0, MAX_PLANNED).map((item) => ({
					model_name: item.model,
					revision: item.revision,
					size_bytes: item.sizeBytes,
					decision: options.mode === "off" && item.decision === "start" ? "no" : item.decision,
					why: options.mode === "off" && item.decision === "start" ? "preload.mode is off" : item.why,
					expected_uses: Math.round(item.expectedUses * 1000) / 1000,
					hinted: item.isHinted,
					expected_at: item.expectedAtS ?? null,
					starts_at: item.startAtS ?? null,
					last_used_at: item.lastUsedS ?? null,
				})),
			};
		},
		wanted: (model) => wanted.has(model),
		start() {
			if (options.mode !== "off") running = run();
		},
		async [Symbol.asyncDispose]() {
			for (const subscription of subscriptions) subscription[Symbol.dispose]();
			stop.abort();
			await running;
		},
	};
}

/** Not later than a hinted copy is to begin. */
function untilNext({ items }: Plan, nowS: number): number {
	const begins = items.flatMap(({ startAtS = 0 }) => (startAtS > nowS ? [(startAtS - nowS) * 1000] : []));
	return Math.min(LOOK_EVERY_MS, ...begins);
}

function preloadOff(node: string) {
	return invalid(
		"preload_off",
		`${node} brings nothing into memory ahead of its use.`,
		{ node },
		"`preload: { mode: auto }` in its config.yaml turns it on.",
	);
}
