/** Claims while there is room, runs an attempt of each task that a claim gave, and settles how it ended. */
import type { Clock } from "../../platform/clock.ts";
import type { Database, Writer } from "../../platform/database.ts";
import type { Log } from "../../platform/log.ts";
import { GswarmError } from "../../schema/errors.ts";
import { Attempt } from "./attempt.ts";
import { type ClaimInput, type ClaimResult, type ClaimedRow, startedChange } from "./claim.ts";
import type { CompletedTasks } from "./completed.ts";
import { type Measure, measured } from "./estimate.ts";
import { type AttemptEnd, outcomeOf } from "./outcome.ts";
import { noRoomNow } from "./reserve-more.ts";
import type { ProgressMeter } from "./progress.ts";
import type { Limits } from "./schedule.ts";
import type { SettleInput } from "./settle.ts";
import type { TaskHandlers } from "./task-handler.ts";
import { queueModule } from "./task-store.ts";
import type { Change, QueueName } from "./task-row.ts";

const FIRST_WRITE_RETRY_MS = 1000;
const LONGEST_WRITE_RETRY_MS = 30_000;
/** A storm of short tasks writes what they take no more often. */
const MEASURE_EVERY_MS = 1000;

export interface WorkerDependencies {
	db: Database;
	clock: Clock;
	log: Log;
}

export interface WorkerOptions {
	queue: QueueName;
	/** Also the first part of the tokens of dispatches. */
	epoch: number;
	limits: () => Limits;
	/** What else counts for the next claim; asked at each. */
	rules: () => Pick<ClaimInput, "tracksDevices" | "capacity">;
	/** What tasks took until now. */
	measures: readonly Measure[];
	/** Tells what a write changed, in the order of the commits. */
	announce: <T>(written: Promise<T>, changesOf: (result: T) => readonly Change[]) => Promise<T>;
	onProgress: (row: ClaimedRow) => void;
	/** Told of every attempt that ended. */
	completed: CompletedTasks;
}

interface Running {
	attempt: Attempt;
	/** Resolves when the end is in the database, or was given up at a stop. */
	settled: Promise<void>;
}

export class QueueWorker {
	readonly #clock: Clock;
	readonly #log: Log;
	readonly #options: WorkerOptions;
	readonly #write: Writer<typeof queueModule.writes>;
	readonly #running = new Map<number, Running>();
	readonly #measures: Map<string, Measure>;
	/** The same as a list, until one changes. */
	#measureList: readonly Measure[] | undefined;
	/** When the measure of a type was last written. */
	readonly #measuredMs = new Map<string, number>();
	readonly #stopping = new AbortController();
	/** Attempts whose end was not sent to the writer yet. */
	#busy = 0;
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
		this.#measures = new Map(options.measures.map((measure) => [measure.type, measure]));
	}

	start(handlers: TaskHandlers): void {
		this.#handlers = handlers;
		this.wake();
	}

	/**
	 * There may be something to claim. Called in the turn in which a write was asked for, the claim is in the same
	 * transaction, behind it.
	 */
	wake(): void {
		if (this.#handlers === undefined || this.#stopping.signal.aborted) return;
		this.#claimAgain = true;
		// With every slot taken the end of a task is what calls for the next claim.
		if (!this.#isFull()) this.#claiming ??= this.#claimAll();
	}

	meter(seq: number): ProgressMeter | undefined {
		return this.#running.get(seq)?.attempt.meter;
	}

	/** Attempts that are under way. */
	get running(): number {
		return this.#busy;
	}

	measures(): readonly Measure[] {
		this.#measureList ??= [...this.#measures.values()];
		return this.#measureList;
	}

	/** Tells the handler of a task that was marked as cancelling; the claim's answer always comes before the mark's. */
	cancel(seq: number): void {
		this.#running.get(seq)?.attempt.stop("cancelled");
	}

	/** Starts nothing more, tells every handler, and gives their tasks back to the line; at most the grace and a commit. */
	async stop(): Promise<void> {
		this.#stopping.abort("shutdown");
		this.#timer.abort();
		for (const { attempt } of this.#running.values()) attempt.stop("shutdown");
		await this.#claiming;
		// A commit that was under way may have claimed more; those end at once.
		while (this.#running.size > 0)
			await Promise.all([...this.#running.values()].map(({ settled }) => settled));
	}

	async #claimAll(): Promise<void> {
		try {
			while (this.#claimAgain && !this.#isFull() && !this.#stopping.signal.aborted) {
				this.#claimAgain = false;
				const written = this.#write.claim(this.#claimInput());
				const told = this.#options.announce(written, ({ changes, claimed }) => [
					...changes,
					...claimed.map(startedChange),
				]);
				this.#accept(await told);
				this.#writeRetryMs = FIRST_WRITE_RETRY_MS;
			}
		} catch (error) {
			if (error instanceof GswarmError && error.reason === "stale_epoch") {
				this.#log.error("queue.taken_over", { error });
				this.#handlers = undefined;
				return;
			}
			// The database cannot be written now (full disk): nothing is lost, the line is looked at again later.
			this.#log.warn("queue.claim_failed", { error });
			void this.#wakeIn(this.#writeRetryMs);
			this.#writeRetryMs = Math.min(LONGEST_WRITE_RETRY_MS, this.#writeRetryMs * 2);
		} finally {
			this.#claiming = undefined;
		}
	}

	#claimInput(): ClaimInput {
		const { queue, epoch, limits, rules } = this.#options;
		return { queue, epoch, limits: limits(), ...rules(), nowMs: this.#clock.nowMs() };
	}

	#isFull(): boolean {
		const { slots, criticalSlots } = this.#options.limits();
		return this.#busy >= slots + criticalSlots;
	}

	#accept({ claimed, nextDueMs, more }: ClaimResult): void {
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

	#begin(row: ClaimedRow): void {
		const { queue, epoch, rules, onProgress } = this.#options;
		const attempt = new Attempt(
			{
				clock: this.#clock,
				log: this.#log,
				saveCheckpoint: this.#write.saveCheckpoint,
				raiseFence: (task) => this.#write.raiseFence({ ...task, hostEpoch: epoch }),
				reserve: async (task) => {
					const { capacity } = rules();
					const missing = await this.#write.reserveMore({ ...task, queue, capacity });
					if (missing !== null) throw noRoomNow(missing);
				},
				onProgress,
			},
			row,
		);
		// The claim's answer came after the stop: the task goes back untouched.
		if (this.#stopping.signal.aborted) attempt.stop("shutdown");
		const running: Running = { attempt, settled: Promise.resolve() };
		this.#running.set(row.seq, running);
		this.#busy++;
		running.settled = this.#run(attempt);
	}

	async #run(attempt: Attempt): Promise<void> {
		const { row } = attempt;
		const startedMs = this.#clock.monotonicMs();
		this.#log.info("task.started", { task_id: row.task_id, type: row.type, attempt: row.attempt });
		const end = await attempt.run(this.#handlers?.[row.type]);
		this.#busy--;
		const status = await this.#settle(attempt, end);
		this.#running.delete(row.seq);
		this.#log.info("task.settled", {
			task_id: row.task_id,
			status,
			attempt: row.attempt,
			ms: Math.round(this.#clock.monotonicMs() - startedMs),
		});
	}

	/** Writes the end until it is written; gives up only at a stop, and the next open then recovers the task. */
	async #settle(attempt: Attempt, end: AttemptEnd): Promise<string> {
		const { task_id } = attempt.row;
		const settlement = this.#settlement(attempt, end);
		for (let delayMs = FIRST_WRITE_RETRY_MS; ; delayMs = Math.min(LONGEST_WRITE_RETRY_MS, delayMs * 2)) {
			try {
				const written = this.#options.announce(this.#write.settle(settlement), (changes) => {
					const [own] = changes;
					if (own !== undefined) this.#options.completed.settled(attempt.row, settlement, own);
					return changes;
				});
				// In the same turn, and so in the same transaction.
				this.wake();
				const changes = await written;
				this.#running.delete(settlement.seq);
				return changes[0]?.state ?? settlement.outcome.kind;
			} catch (error) {
				this.#log.warn("task.settle_failed", { task_id, error });
				if (error instanceof GswarmError && error.reason === "stale_token") return "lost";
				if (this.#stopping.signal.aborted) return "unsettled";
				await this.#clock.sleep(delayMs, this.#stopping.signal);
			}
		}
	}

	#settlement(attempt: Attempt, end: AttemptEnd): SettleInput {
		const { row, progressed, stopped } = attempt;
		const nowMs = this.#clock.nowMs();
		const outcome = outcomeOf(end, {
			taskId: row.task_id,
			attempt: row.attempt,
			maxAttempts: row.max_attempts,
			progressed,
			spaceWaitSinceMs: row.space_wait_since_ms,
			stop: stopped,
			nowMs,
		});
		const measure = outcome.kind === "completed" ? this.#measure(attempt) : null;
		return { seq: row.seq, token: row.token, outcome, measure, nowMs, ...attempt.standing() };
	}

	/** What tasks of the type take, with this one; null when the database has it nearly as well. */
	#measure({ row: { type }, meter }: Attempt): Measure | null {
		const nowMs = this.#clock.monotonicMs();
		const { durationMs, bytes } = meter.measured(nowMs);
		const measure = measured(this.#measures.get(type), { type, durationMs, bytes });
		this.#measures.set(type, measure);
		this.#measureList = undefined;
		if (nowMs - (this.#measuredMs.get(type) ?? Number.NEGATIVE_INFINITY) < MEASURE_EVERY_MS) return null;
		this.#measuredMs.set(type, nowMs);
		return measure;
	}
}
