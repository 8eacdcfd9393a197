/** Live progress of one attempt: bytes, rate and time left. In memory only; the bytes that count are in a journal. */
import type { Progress, TaskPhase } from "../../schema/task.ts";

/** The rate follows a change to about two thirds within this time. */
const TIME_CONSTANT_MS = 5000;
/** Shorter intervals say more about scheduling than about the rate. */
const SHORTEST_SAMPLE_MS = 200;

export interface ProgressReport {
	phase?: TaskPhase;
	bytesDone?: number;
	bytesTotal?: number;
	/** What the task waits for, in words; null when it goes on. */
	waitingFor?: string | null;
	/** How the bytes come. */
	plane?: Progress["plane"] | undefined;
	compression?: Progress["compression"] | undefined;
}

export class ProgressMeter {
	phase: TaskPhase;
	waitingFor: string | null = null;
	bytesDone: number;
	bytesTotal: number;
	plane: Progress["plane"];
	compression: Progress["compression"];
	readonly #startedMs: number;
	/** Bytes that an earlier attempt had; undefined until the first report. */
	#firstBytes: number | undefined;
	#sample: { atMs: number; bytes: number } | undefined;
	#rate: number | undefined;

	/** Times are monotonic milliseconds. */
	constructor(start: { phase: TaskPhase; bytesDone: number; bytesTotal: number; nowMs: number }) {
		this.phase = start.phase;
		this.bytesDone = start.bytesDone;
		this.bytesTotal = start.bytesTotal;
		this.#startedMs = start.nowMs;
	}

	report(
		{ phase, bytesDone, bytesTotal, waitingFor, plane, compression }: ProgressReport,
		nowMs: number,
	): void {
		if (phase !== undefined) this.phase = phase;
		if (waitingFor !== undefined) this.waitingFor = waitingFor;
		if (bytesTotal !== undefined) this.bytesTotal = bytesTotal;
		if (plane !== undefined) this.plane = plane;
		if (compression !== undefined) this.compression = compression;
		if (bytesDone === undefined) return;
		this.bytesDone = bytesDone;
		this.#firstBytes ??= bytesDone;
		this.#measure(bytesDone, nowMs);
	}

	snapshot(nowMs: number): Progress {
		const rate = this.#rateAt(nowMs);
		const left = this.bytesTotal - this.bytesDone;
		return {
			bytes_done: Math.round(this.bytesDone),
			bytes_total: Math.round(this.bytesTotal),
			rate_bytes_per_s: Math.round(rate),
			eta_s: this.bytesTotal > 0 && rate >= 1 ? Math.max(0, Math.round((left / rate) * 10) / 10) : null,
			...(this.plane === undefined ? {} : { plane: this.plane }),
			...(this.compression === undefined ? {} : { compression: this.compression }),
		};
	}

	/** Of this attempt alone: what it moved itself, and how long it took so far. */
	measured(nowMs: number): { durationMs: number; bytes: number } {
		return {
			durationMs: nowMs - this.#startedMs,
			bytes: Math.max(0, this.bytesDone - (this.#firstBytes ?? this.bytesDone)),
		};
	}

	#measure(bytes: number, nowMs: number): void {
		// Fewer bytes than before: another file or phase began.
		if (this.#sample === undefined || bytes < this.#sample.bytes) {
			this.#sample = { atMs: nowMs, bytes };
			return;
		}
		const passedMs = nowMs - this.#sample.atMs;
		if (passedMs < SHORTEST_SAMPLE_MS) return;
		const rate = ((bytes - this.#sample.bytes) / passedMs) * 1000;
		const weight = this.#rate === undefined ? 1 : 1 - Math.exp(-passedMs / TIME_CONSTANT_MS);
		this.#rate = (this.#rate ?? 0) + weight * (rate - (this.#rate ?? 0));
		this.#sample = { atMs: nowMs, bytes };
	}

	/** A transfer that reports nothing any more has no rate for long. */
	#rateAt(nowMs: number): number {
		if (this.#rate === undefined || this.#sample === undefined) return 0;
		const silentMs = nowMs - this.#sample.atMs - 2 * SHORTEST_SAMPLE_MS;
		return silentMs <= 0 ? this.#rate : this.#rate * Math.exp(-silentMs / TIME_CONSTANT_MS);
	}
}
