/** The copying threads of a holder: one job at a time, all of them at it. */
import type { CopyJob, CopyResult } from "./copier.ts";
import type { CopyOrder, CopyReport } from "./copy-worker.ts";
import type { HolderFailure, HolderPlan } from "./messages.ts";
import { cancelShare, newShare } from "./pieces.ts";

export class CrewFailure extends Error {
	readonly failure: HolderFailure;
	readonly code: string | undefined;

	constructor({
		failure,
		message,
		code,
	}: { failure: HolderFailure; message: string; code?: string | undefined }) {
		super(message);
		this.failure = failure;
		this.code = code;
	}
}

export interface Crew {
	/** @throws CrewFailure, when every thread has let go of the job */
	run(
		job: Omit<CopyJob, "share">,
		onBytes: (bytes: number) => void,
		signal: AbortSignal,
	): Promise<CopyResult>;
}

interface Thread {
	worker: Worker;
	hear: (report: CopyReport) => void;
}

export function createCrew(plan: HolderPlan): Crew {
	const threads: Thread[] = [];
	const start = (): Thread => {
		const worker = new Worker(new URL("./copy-worker.ts", import.meta.url));
		const thread: Thread = { worker, hear: () => {} };
		worker.onmessage = ({ data }: MessageEvent<CopyReport>) => thread.hear(data);
		worker.onerror = ({ message }) => {
			// What is wrong with one is wrong with all; the agent sees the end and says so.
			process.stderr.write(`a copying thread failed: ${message}\n`);
			process.exit(1);
		};
		threads.push(thread);
		return thread;
	};
	return {
		async run(job, onBytes, signal) {
			const parts = job.files.reduce((sum, { xxh64 }) => sum + xxh64.length, 0);
			const wanted = Math.max(1, Math.min(plan.threads, parts));
			while (threads.length < wanted) start();
			const share = newShare();
			const cancel = (): void => cancelShare(share);
			signal.addEventListener("abort", cancel, { once: true });
			if (signal.aborted) cancel();
			let failed: CrewFailure | undefined;
			const results = await Promise.all(
				threads.slice(0, wanted).map(async (thread) => {
					const { promise, resolve } = Promise.withResolvers<CopyResult | undefined>();
					thread.hear = (report) => {
						if (report.kind === "bytes") onBytes(report.bytes);
						else if (report.kind === "done") resolve(report);
						else {
							// The first one has the reason; the others stop because of it.
							failed ??= new CrewFailure(report);
							cancel();
							resolve(undefined);
						}
					};
					thread.worker.postMessage({ plan, job: { ...job, share } } satisfies CopyOrder);
					return promise;
				}),
			);
			signal.removeEventListener("abort", cancel);
			if (failed !== undefined) throw failed;
			const done = results.filter((result) => result !== undefined);
			return { bad: done.flatMap(({ bad }) => bad), isDirect: done.some(({ isDirect }) => isDirect) };
		},
	};
}
