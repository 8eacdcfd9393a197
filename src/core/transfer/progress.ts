/** Bytes over the whole manifest, with rate and time left; told at most a few times a second. */
import type { Clock } from "../../platform/clock.ts";

export type TransferPhase =
	| "resolving"
	| "downloading"
	| "copying"
	| "uploading"
	| "verifying"
	| "publishing"
	| "done";

export interface TransferProgress {
	phase: TransferPhase;
	/** Over all files, never more than `bytesTotal`, and never less than before unless all of it starts over. */
	bytesDone: number;
	/** 0 until it is known. */
	bytesTotal: number;
	rateBytesPerSecond: number;
	/** Seconds; undefined until it can be told. */
	etaS: number | undefined;
	/** What it waits for, in words; undefined while bytes come. */
	waitingFor: string | undefined;
	/** How bytes come: by the data process, or by the agent itself. Undefined until some do. */
	plane: TransferPlane | undefined;
	/** What came compressed: its bytes, and those that came for them; undefined when nothing did. */
	compressed: { bytes: number; wireBytes: number } | undefined;
}

export type TransferPlane = "fast" | "portable";

export interface Meter {
	/** Starts counting: `done` bytes are there from before. */
	begin(done: number, total: number): void;
	/** Bytes landed, or (negative) were thrown away. */
	add(bytes: number): void;
	enter(phase: TransferPhase): void;
	/** In words, until the next bytes; undefined ends it. */
	wait(what: string | undefined): void;
	/** What comes now comes this way. */
	via(plane: TransferPlane): void;
	/** Of the bytes that landed, so many came as so many. */
	inflated(bytes: number, wireBytes: number): void;
	done(): number;
}

const REPORT_EVERY_MS = 250;
/** The rate is that of about the last so many milliseconds. */
const RATE_OVER_MS = 5000;

export function createMeter(
	{ clock }: { clock: Clock },
	report: (progress: TransferProgress) => void,
): Meter {
	let phase: TransferPhase = "resolving";
	let bytesDone = 0;
	let bytesTotal = 0;
	/** What was told last: bytes that are thrown away and come again do not make it smaller. */
	let shown = 0;
	let waitingFor: string | undefined;
	let plane: TransferPlane | undefined;
	let compressed: TransferProgress["compressed"];
	let reportedAtMs = -Infinity;
	let samples: { atMs: number; bytes: number }[] = [];

	const rate = (): number => {
		const [first] = samples;
		const last = samples.at(-1);
		if (first === undefined || last === undefined || last.atMs === first.atMs) return 0;
		return Math.max(0, ((last.bytes - first.bytes) / (last.atMs - first.atMs)) * 1000);
	};
	const tell = (): void => {
		const nowMs = clock.monotonicMs();
		shown = Math.max(shown, bytesDone);
		reportedAtMs = nowMs;
		samples = [
			...samples.filter(({ atMs }) => nowMs - atMs <= RATE_OVER_MS),
			{ atMs: nowMs, bytes: bytesDone },
		];
		const rateBytesPerSecond = rate();
		const left = bytesTotal - bytesDone;
		const etaS = left <= 0 ? 0 : rateBytesPerSecond > 0 ? left / rateBytesPerSecond : undefined;
		report({
			phase,
			bytesDone: shown,
			bytesTotal,
			rateBytesPerSecond,
			etaS: bytesTotal === 0 ? undefined : etaS,
			waitingFor,
			plane,
			compressed,
		});
	};
	return {
		begin(done, total) {
			bytesDone = done;
			shown = done;
			bytesTotal = Math.max(total, done);
			samples = [];
			tell();
		},
		add(bytes) {
			bytesDone += bytes;
			// Only a file of unknown size can exceed what was announced.
			bytesTotal = Math.max(bytesTotal, bytesDone);
			if (bytes > 0) waitingFor = undefined;
			if (clock.monotonicMs() - reportedAtMs >= REPORT_EVERY_MS) tell();
		},
		enter(next) {
			if (phase === next) return;
			phase = next;
			waitingFor = undefined;
			tell();
		},
		wait(what) {
			if (waitingFor === what) return;
			waitingFor = what;
			tell();
		},
		via(now) {
			if (plane === now) return;
			plane = now;
			tell();
		},
		inflated(bytes, wireBytes) {
			const { bytes: before, wireBytes: wireBefore } = compressed ?? { bytes: 0, wireBytes: 0 };
			compressed = { bytes: before + bytes, wireBytes: wireBefore + wireBytes };
		},
		done: () => bytesDone,
	};
}
