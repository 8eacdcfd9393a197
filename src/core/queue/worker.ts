/** Runs what a claim gave: one handler per task, its signal, its progress, and the settlement of how it ended. */
import type { Clock } from "../../platform/clock.ts";
import type { Database, Writer } from "../../platform/database.ts";
import type { Log } from "../../platform/log.ts";
import { GswarmError } from "../../schema/errors.ts";
import type { ClaimInput, ClaimResult } from "./claim.ts";
import { type AttemptEnd, outcomeOf } from "./outcome.ts";
import { ProgressMeter } from "./progress.ts";
import type { Limits } from "./schedule.ts";
import type { TaskContext, TaskHandlers } from "./task-handler.ts";
import { queueModule } from "./task-store.ts";
import type { Change, QueueName, TaskRow } from "./task-row.ts";

/** How long a handler may take to end after its signal; then the task goes on without it. */
export const GRACE_MS = 5000;
const PROGRESS_INTERVAL_MS = 250;
const FIRST_WRITE_RETRY_MS = 1000;
const LONGEST_WRITE_RETRY_MS = 30_000;

export interface WorkerDependencies {
	db: Database;
	clock: Clock;
	log: Log;
}

export interface WorkerOptions {
	queue: QueueName;
	epoch: number;
	limits: Limits;
	onChange: (changes: readonly Change[]) => void;
	onProgress: (row: TaskRow) => void;
}

interface Running {
	row: TaskRow;
	controller: AbortController;
	meter: ProgressMeter;
	progressed: boolean;
	nextEmitMs: number;
	emitPending: boolean;
	/** Resolves when the end is in the database, or was given up at a stop. */
	settled: Promise<void>;
}

export class QueueWorker {
	readonly #clock: Clock;
	readonly #log: Log;
	readonly #options: WorkerOptions;
	readonly #write: Writer<typeof queueModule.writes>;
	readonly #running = new Map<number, Running>();
	readonly #stopping = new AbortController();
	#handlers: TaskHandlers | undefined;
	#timer = new AbortController();
	#claiming: Promise<void> | undefined;
	#claimAgain = false;
	#writeRetryMs = FIRST_WRITE_RETRY_MS;

	constructor({ db, clock, log }: WorkerDependencies, options: WorkerOptions) {
		this.#clock = clock;
		this.#log = log;
		this.#options = options;
		this.#write = db.writer(queueModule);
	}

	start(handlers: TaskHandlers): void {
		this.#handlers = handlers;
		this.wake();
	}

	/** There may be something to claim. */
	wake(): void {
		if (this.#handlers === undefined || this.#stopping.signal.aborted) return;
		this.#claimAgain = true;
		this.#claiming ??= this.#claimAll();
	}

	meter(seq: number): ProgressMeter | undefined {
		return this.#running.get(seq)?.meter;
	}

	/** Tells the handler of a task that was marked as cancelling; the claim's answer always comes before the mark's. */
	cancel(seq: number, token: number): void {
		const running = this.#running.get(seq);
		if (running?.row.token === token) running.controller.abort("cancelled");
	}

	/** Starts nothing more, tells every handler, and gives their tasks back to the line; at most the grace and a commit. */
	async stop(): Promise<void> {
		this.#stopping.abort("shutdown");
		this.#timer.abort();
		for (const { controller } of this.#running.values()) controller.abort("shutdown");
		await this.#claiming;
		// A commit that was under way may have claimed more; those end at once.
		while (this.#running.size > 0)
			await Promise.all([...this.#running.values()].map(({ settled }) => settled));
	}

	async #claimAll(): Promise<void> {
		try {
			while (this.#claimAgain && !this.#stopping.signal.aborted) {
				this.#claimAgain = false;
				this.#accept(await this.#write.claim(this.#claimInput()));
				this.#writeRetryMs = FIRST_WRITE_RETRY_MS;
			}
		} catch (error) {
			// The database cannot be written now (full disk): nothing is lost, the line is looked at again later.
			this.#log.warn("queue.claim_failed", { error });
			void this.#wakeIn(this.#writeRetryMs);
			this.#writeRetryMs = Math.min(LONGEST_WRITE_RETRY_MS, this.#writeRetryMs * 2);
		} finally {
			this.#claiming = undefined;
		}
	}

	#claimInput(): ClaimInput {
		const { queue, epoch, limits } = this.#options;
		return { queue, epoch, limits, nowMs: this.#clock.nowMs() };
	}

	#accept({ claimed, nextDueMs, more }: ClaimResult): void {
		this.#options.onChange(
			claimed.map(({ seq, task_id, type, model, state }) => ({ seq, taskId: task_id, type, model, state })),
		);
		for (const row of claimed) this.#begin(row);
		if (more) this.wake();
		if (nextDueMs !== null) void this.#wakeIn(Math.max(0, nextDueMs - this.#clock.nowMs()));
	}

	/** In place of the wake-up that was planned before. */
	async #wakeIn(ms: number): Promise<void> {
		this.#timer.abort();
		if (this.#stopping.signal.aborted) return;
		const timer = new AbortController();
		this.#timer = timer;
		await this.#clock.sleep(ms, timer.signal);
		if (!timer.signal.aborted) this.wake();
	}

	#begin(row: TaskRow): void {
		const { phase, bytes_done: bytesDone, bytes_total: bytesTotal } = row;
		const running: Running = {
			row,
			controller: new AbortController(),
			meter: new ProgressMeter({ phase, bytesDone, bytesTotal, nowMs: this.#clock.monotonicMs() }),
			progressed: false,
			nextEmitMs: 0,
			emitPending: false,
			settled: Promise.resolve(),
		};
		this.#running.set(row.seq, running);
		// The claim's answer came after the stop: the task goes back untouched.
		if (this.#stopping.signal.aborted) running.controller.abort("shutdown");
		running.settled = this.#run(running);
	}

	async #run(running: Running): Promise<void> {
		const { row, controller } = running;
		const startedMs = this.#clock.monotonicMs();
		this.#log.info("task.started", { task_id: row.task_id, type: row.type, attempt: row.attempt });
		const end = controller.signal.aborted ? ({ kind: "abandoned" } as const) : await this.#attempt(running);
		const status = await this.#settle(running, end);
		this.#running.delete(row.seq);
		this.#log.info("task.settled", {
			task_id: row.task_id,
			status,
			attempt: row.attempt,
			ms: Math.round(this.#clock.monotonicMs() - startedMs),
		});
	}

	/** The handler's end, or "abandoned" when it did not come within the grace after its signal. */
	async #attempt(running: Running): Promise<AttemptEnd> {
		const { row, controller } = running;
		const handled = this.#handle(running);
		const over = new AbortController();
		const late = new Promise<AttemptEnd>((resolve) => {
			const onAbort = async (): Promise<void> => {
				await this.#clock.sleep(GRACE_MS, over.signal);
				if (over.signal.aborted) return;
				this.#log.warn("task.abandoned", { task_id: row.task_id, reason: stopReason(controller.signal) });
				resolve({ kind: "abandoned" });
			};
			controller.signal.addEventListener("abort", () => void onAbort(), { once: true });
		});
		const end = await Promise.race([handled, late]);
		over.abort();
		return end;
	}

	async #handle(running: Running): Promise<AttemptEnd> {
		const handler = this.#handlers?.[running.row.type];
		try {
			if (handler === undefined) throw noHandler(running.row);
			const result = await handler(this.#context(running));
			return { kind: "returned", result: result === undefined ? null : JSON.stringify(result) };
		} catch (error) {
			if (!running.controller.signal.aborted && !(error instanceof GswarmError)) {
				this.#log.error("task.unexpected_error", { task_id: running.row.task_id, error });
			}
			return { kind: "threw", error };
		}
	}

	#context(running: Running): TaskContext {
		const { row, controller, meter } = running;
		let kept = row.checkpoint;
		return {
			taskId: row.task_id,
			type: row.type,
			model: row.model,
			request: JSON.parse(row.request) as Record<string, unknown>,
			attempt: row.attempt,
			signal: controller.signal,
			state: row.checkpoint === null ? undefined : (JSON.parse(row.checkpoint) as Record<string, unknown>),
			saveState: async (state) => {
				const checkpoint = JSON.stringify(state);
				const { phase, bytesDone, bytesTotal } = rounded(meter);
				await this.#write.saveCheckpoint({
					seq: row.seq,
					token: row.token,
					checkpoint,
					phase,
					bytesDone,
					bytesTotal,
				});
				running.progressed ||= checkpoint !== kept;
				kept = checkpoint;
			},
			report: (progress) => {
				meter.report(progress, this.#clock.monotonicMs());
				this.#emit(running);
			},
			log: this.#log.with({ task_id: row.task_id }),
		};
	}

	/** At most one event per interval, and the last state is always told. */
	#emit(running: Running): void {
		const nowMs = this.#clock.monotonicMs();
		if (nowMs >= running.nextEmitMs) {
			running.nextEmitMs = nowMs + PROGRESS_INTERVAL_MS;
			this.#options.onProgress(running.row);
		} else if (!running.emitPending) {
			running.emitPending = true;
			void this.#emitIn(running, running.nextEmitMs - nowMs);
		}
	}

	async #emitIn(running: Running, ms: number): Promise<void> {
		await this.#clock.sleep(ms, this.#stopping.signal);
		running.emitPending = false;
		if (this.#running.get(running.row.seq) === running && !this.#stopping.signal.aborted) this.#emit(running);
	}

	/** Writes the end until it is written; gives up only at a stop, and the next open then recovers the task. */
	async #settle(running: Running, end: AttemptEnd): Promise<string> {
		const { row, controller, meter, progressed } = running;
		const nowMs = this.#clock.nowMs();
		const outcome = outcomeOf(end, {
			taskId: row.task_id,
			attempt: row.attempt,
			maxAttempts: row.max_attempts,
			progressed,
			spaceWaitSinceMs: row.space_wait_since_ms,
			stop: stopReason(controller.signal),
			nowMs,
		});
		const measured = meter.measured(this.#clock.monotonicMs());
		for (let delayMs = FIRST_WRITE_RETRY_MS; ; delayMs = Math.min(LONGEST_WRITE_RETRY_MS, delayMs * 2)) {
			try {
				const isStopping = this.#stopping.signal.aborted || this.#handlers === undefined;
				const next = isStopping ? null : this.#claimInput();
				const result = await this.#write.settle({
					...rounded(meter),
					seq: row.seq,
					token: row.token,
					outcome,
					measured,
					nowMs,
					next,
				});
				this.#running.delete(row.seq);
				this.#options.onChange(result.changes);
				if (result.next !== null) this.#accept(result.next);
				return result.changes[0]?.state ?? outcome.kind;
			} catch (error) {
				this.#log.warn("task.settle_failed", { task_id: row.task_id, error });
				if (error instanceof GswarmError && error.reason === "stale_token") return "lost";
				if (this.#stopping.signal.aborted) return "unsettled";
				await this.#clock.sleep(delayMs, this.#stopping.signal);
			}
		}
	}
}

function rounded({
	phase,
	bytesDone,
	bytesTotal,
}: ProgressMeter): Pick<ProgressMeter, "phase" | "bytesDone" | "bytesTotal"> {
	return { phase, bytesDone: Math.round(bytesDone), bytesTotal: Math.round(bytesTotal) };
}

function stopReason(signal: AbortSignal): "cancelled" | "shutdown" | undefined {
	if (!signal.aborted) return undefined;
	return signal.reason === "cancelled" ? "cancelled" : "shutdown";
}

function noHandler({ type, task_id }: TaskRow): GswarmError {
	return new GswarmError(
		"TASK_FAILED",
		`This agent cannot do ${type} tasks, so ${task_id} was not started.`,
		{
			reason: "no_handler",
			details: { type },
		},
	);
}
