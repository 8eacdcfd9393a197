/** One attempt of a task: its handler, its signal and its progress, up to the moment when it has ended somehow. */
import type { Clock } from "../../platform/clock.ts";
import type { Log } from "../../platform/log.ts";
import { GswarmError } from "../../schema/errors.ts";
import type { AttemptEnd } from "./outcome.ts";
import { ProgressMeter } from "./progress.ts";
import type { TaskContext, TaskHandler } from "./task-handler.ts";
import type { ClaimedRow } from "./claim.ts";
import type { Reservation } from "./conflicts.ts";
import { dispatchOf } from "./dispatch.ts";
import type { Fence } from "./fence.ts";
import type { Checkpoint } from "./task-store.ts";

/** How long a handler may take to end after its signal; then the task goes on without it. */
export const GRACE_MS = 5000;
const PROGRESS_INTERVAL_MS = 250;

export type StopReason = "cancelled" | "shutdown";

export interface AttemptDependencies {
	clock: Clock;
	log: Log;
	saveCheckpoint: (checkpoint: Checkpoint) => Promise<void>;
	raiseFence: (task: { seq: number; token: number }) => Promise<Fence>;
	/** @throws no_room_now, stale_token */
	reserve: (task: { seq: number; token: number; need: Reservation }) => Promise<void>;
	onProgress: (row: ClaimedRow) => void;
}

export class Attempt {
	readonly row: ClaimedRow;
	readonly meter: ProgressMeter;
	readonly #deps: AttemptDependencies;
	/** Why the handler was told to end. */
	#stopped: StopReason | undefined;
	/** Of the handler's signal; made when it is asked for. */
	#told: AbortController | undefined;
	#onStop: (() => void) | undefined;
	#isOver = false;
	/** Of what is waited for until the attempt is over; made when there is such a thing. */
	#over: AbortController | undefined;
	#kept: string | null;
	#progressed = false;
	#nextEmitMs = 0;
	#isEmitPending = false;

	constructor(deps: AttemptDependencies, row: ClaimedRow) {
		this.#deps = deps;
		this.row = row;
		this.#kept = row.checkpoint;
		this.meter = new ProgressMeter({
			phase: row.phase,
			bytesDone: row.bytes_done,
			bytesTotal: row.bytes_total,
			nowMs: deps.clock.monotonicMs(),
		});
	}

	/** Tells the handler to end; the first reason counts. */
	stop(reason: StopReason): void {
		if (this.#stopped !== undefined) return;
		this.#stopped = reason;
		this.#told?.abort(reason);
		this.#onStop?.();
	}

	/** Why the handler was told to end; undefined when it was not. */
	get stopped(): StopReason | undefined {
		return this.#stopped;
	}

	/** Whether the checkpoint changed. */
	get progressed(): boolean {
		return this.#progressed;
	}

	/** The handler's end, or "abandoned" when it did not come within the grace after its signal. */
	async run(handler: TaskHandler | undefined): Promise<AttemptEnd> {
		if (this.stopped !== undefined) return { kind: "abandoned" };
		const end = await Promise.race([this.#handle(handler), this.#tooLate()]);
		this.#isOver = true;
		this.#over?.abort();
		return end;
	}

	/** Where the attempt stands, in whole bytes. */
	standing(): Pick<Checkpoint, "phase" | "bytesDone" | "bytesTotal"> {
		const { phase, bytesDone, bytesTotal } = this.meter;
		return { phase, bytesDone: Math.round(bytesDone), bytesTotal: Math.round(bytesTotal) };
	}

	async #handle(handler: TaskHandler | undefined): Promise<AttemptEnd> {
		const { row } = this;
		try {
			if (handler === undefined) throw noHandler(row);
			const result = await handler(this.#context());
			return { kind: "returned", result: result === undefined ? null : JSON.stringify(result) };
		} catch (error) {
			if (this.stopped === undefined && !(error instanceof GswarmError)) {
				this.#deps.log.error("task.unexpected_error", { task_id: row.task_id, error });
			}
			return { kind: "threw", error };
		}
	}

	#tooLate(): Promise<AttemptEnd> {
		return new Promise((resolve) => {
			const onTold = async (): Promise<void> => {
				await this.#deps.clock.sleep(GRACE_MS, this.#untilOver());
				if (this.#isOver) return;
				this.#deps.log.warn("task.abandoned", { task_id: this.row.task_id, reason: this.stopped });
				resolve({ kind: "abandoned" });
			};
			this.#onStop = () => void onTold();
		});
	}

	#signal(): AbortSignal {
		this.#told ??= new AbortController();
		if (this.#stopped !== undefined) this.#told.abort(this.#stopped);
		return this.#told.signal;
	}

	#context(): TaskContext {
		const { row, meter } = this;
		const signal = (): AbortSignal => this.#signal();
		const { clock, log, saveCheckpoint, raiseFence, reserve } = this.#deps;
		return {
			taskId: row.task_id,
			type: row.type,
			model: row.model,
			request: JSON.parse(row.request) as Record<string, unknown>,
			attempt: row.attempt,
			dispatch: dispatchOf(row),
			get signal() {
				return signal();
			},
			state: row.checkpoint === null ? undefined : (JSON.parse(row.checkpoint) as Record<string, unknown>),
			saveState: async (state) => {
				const checkpoint = JSON.stringify(state);
				await saveCheckpoint({ seq: row.seq, token: row.token, checkpoint, ...this.standing() });
				this.#progressed ||= checkpoint !== this.#kept;
				this.#kept = checkpoint;
			},
			nextFence: () => raiseFence({ seq: row.seq, token: row.token }),
			reserve: (need) => reserve({ seq: row.seq, token: row.token, need }),
			report: (progress) => {
				meter.report(progress, clock.monotonicMs());
				this.#emit();
			},
			log: log.with({ task_id: row.task_id }),
		};
	}

	#untilOver(): AbortSignal {
		this.#over ??= new AbortController();
		if (this.#isOver) this.#over.abort();
		return this.#over.signal;
	}

	/** At most one event per interval, and the last state is always told. */
	#emit(): void {
		if (this.#isOver) return;
		const nowMs = this.#deps.clock.monotonicMs();
		if (nowMs >= this.#nextEmitMs) {
			this.#nextEmitMs = nowMs + PROGRESS_INTERVAL_MS;
			this.#deps.onProgress(this.row);
		} else if (!this.#isEmitPending) {
			this.#isEmitPending = true;
			void this.#emitIn(this.#nextEmitMs - nowMs);
		}
	}

	async #emitIn(ms: number): Promise<void> {
		await this.#deps.clock.sleep(ms, this.#untilOver());
		this.#isEmitPending = false;
		this.#emit();
	}
}

function noHandler({ type, task_id }: ClaimedRow): GswarmError {
	return new GswarmError(
		"TASK_FAILED",
		`This agent cannot do ${type} tasks, so ${task_id} was not started.`,
		{
			reason: "no_handler",
			details: { type },
		},
	);
}
