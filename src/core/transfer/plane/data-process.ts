/**
 * The agent's side of the data process: starts it when there is something to receive, ends it when it is idle, and
 * never waits for it without a limit. Its end, however it comes, ends its jobs as `crashed`; no byte counts then that
 * was not reported as part of a whole part.
 */
import type { Clock } from "../../../platform/clock.ts";
import { endChild, hearChild, tellChild } from "../../../platform/line-child.ts";
import type { Log } from "../../../platform/log.ts";
import { minimalEnvironment } from "../../../platform/process.ts";
import {
	type DataJob,
	type Failure,
	type JobEvent,
	MAX_LINE_CHARS,
	type Order,
	type Report,
} from "./messages.ts";

export interface DataPlane extends AsyncDisposable {
	/** False once it has shown that it does not work on this system. */
	isUsable(): boolean;
	/** Resolves when nothing of the job is written any more. Never throws for what the peer or the process does. */
	receive(what: DataJob, hears: DataListener, signal: AbortSignal): Promise<DataOutcome>;
	/** Of the process, while there is one. */
	pid(): number | undefined;
}

export interface DataListener {
	/** So many more bytes are in the file; resolves when more may come. */
	onBytes(bytes: number): Promise<void>;
	onPart(part: number, xxh64: string, tag: string | undefined): void;
}

export type DataOutcome =
	| { kind: "done" }
	/** The process ended in the middle. */
	| { kind: "crashed" }
	| { kind: "failed"; failure: Failure; message: string; code: string | undefined };

export interface DataPlaneOptions {
	/** Up to and including the subcommand, e.g. `["/usr/bin/gswarm", "__data"]`. */
	command: readonly string[];
	/** Of the agent; the child gets the few variables that it needs. */
	environment: Readonly<Record<string, string | undefined>>;
	limits?: Partial<DataPlaneLimits>;
}

export interface DataPlaneLimits {
	/** Without a job for so long the process ends; the next job starts another. */
	idleMs: number;
	/** A job that was cancelled ends within this, or the process does. */
	cancelMs: number;
	/** A job whose process says nothing for so many times its stall limit is not under way. */
	silentStalls: number;
	/** Ends in a row, without a job between them that was done. */
	mostCrashes: number;
}

const LIMITS: DataPlaneLimits = { idleMs: 30_000, cancelMs: 5000, silentStalls: 4, mostCrashes: 5 };
const LOOK_EVERY_MS = 500;

interface Pending {
	what: DataJob;
	hears: DataListener;
	settle: (outcome: DataOutcome) => void;
	heardMs: number;
	/** Reports of bytes that the agent has not let pass yet. */
	holding: number;
	cancelledMs: number | undefined;
}

interface Child {
	process: Bun.Subprocess<"pipe", "pipe", "pipe">;
	jobs: Map<number, Pending>;
	idleSinceMs: number;
}

export function createDataPlane(
	{ clock, log }: { clock: Clock; log: Log },
	{ command, environment, limits: given = {} }: DataPlaneOptions,
): DataPlane {
	const limits = { ...LIMITS, ...given };
	const children = new Set<Child>();
	const watches = new Set<Promise<void>>();
	let current: Child | undefined;
	let crashes = 0;
	let unusable: string | undefined;
	let closed = false;
	let nextJob = 1;

	const giveUp = (why: string): void => {
		if (unusable === undefined) log.warn("data_plane.unusable", { why });
		unusable ??= why;
	};
	const hear = (child: Child, report: Report): void => {
		if (report.kind === "unable") {
			giveUp("this system has no blocking sockets for it");
			return;
		}
		const pending = child.jobs.get(report.job);
		if (pending === undefined) return;
		pending.heardMs = clock.monotonicMs();
		if (report.kind === "bytes") {
			const { job, bytes } = report;
			pending.holding++;
			void pending.hears.onBytes(bytes).finally(() => {
				pending.holding--;
				pending.heardMs = clock.monotonicMs();
				tellChild(child.process, { kind: "passed", job, bytes } satisfies Order);
			});
		} else if (report.kind === "part") pending.hears.onPart(report.part, report.xxh64, report.tag);
		else end(child, report.job, outcomeOf(report));
	};
	const end = (child: Child, job: number, outcome: DataOutcome): void => {
		const pending = child.jobs.get(job);
		child.jobs.delete(job);
		child.idleSinceMs = clock.monotonicMs();
		if (outcome.kind === "done") crashes = 0;
		pending?.settle(outcome);
	};
	const gone = (child: Child, stderr: string): void => {
		children.delete(child);
		if (current === child) current = undefined;
		if (child.jobs.size > 0 && !closed) {
			crashes++;
			const { exitCode, signalCode } = child.process;
			log.warn("data_plane.crashed", { code: exitCode, signal: signalCode, jobs: child.jobs.size, stderr });
			if (crashes >= limits.mostCrashes) giveUp(`it ended ${crashes} times in the middle of its work`);
		}
		for (const job of child.jobs.keys()) end(child, job, { kind: "crashed" });
	};
	const start = (): Child => {
		const process = Bun.spawn({
			cmd: [...command],
			cwd: "/",
			env: minimalEnvironment(environment),
			stdio: ["pipe", "pipe", "pipe"],
			// A signal of a terminal is for the agent, which ends this one in its order.
			detached: true,
		});
		const child: Child = { process, jobs: new Map(), idleSinceMs: clock.monotonicMs() };
		children.add(child);
		process.unref();
		const said = hearChild(process, (report) => hear(child, report as Report), { maxChars: MAX_LINE_CHARS });
		void Promise.all([process.exited, said]).then(([, stderr]) => gone(child, stderr));
		const watching = watch(child);
		watches.add(watching);
		void watching.finally(() => watches.delete(watching));
		return child;
	};
	/** Ends what does not answer, and what has nothing to do. */
	const watch = async (child: Child): Promise<void> => {
		const ended = new AbortController();
		void child.process.exited.then(() => ended.abort());
		while (!ended.signal.aborted) {
			await clock.sleep(LOOK_EVERY_MS, ended.signal);
			const nowMs = clock.monotonicMs();
			for (const { what, heardMs, holding, cancelledMs } of child.jobs.values()) {
				const isSilent = holding === 0 && nowMs - heardMs >= what.stallMs * limits.silentStalls;
				const isDeaf = cancelledMs !== undefined && nowMs - cancelledMs >= limits.cancelMs;
				if (isSilent || isDeaf) child.process.kill("SIGKILL");
			}
			if (child.jobs.size === 0 && nowMs - child.idleSinceMs >= limits.idleMs) {
				if (current === child) current = undefined;
				await endChild({ clock }, child.process);
			}
		}
	};
	const running = (): Child => {
		if (current === undefined || current.process.exitCode !== null || current.process.signalCode !== null)
			current = start();
		return current;
	};

	return {
		isUsable: () => unusable === undefined && !closed,
		pid: () => current?.process.pid,
		async receive(what, hears, signal) {
			if (signal.aborted || closed)
				return { kind: "failed", failure: "cancelled", message: "cancelled", code: undefined };
			const job = nextJob++;
			const { promise, resolve } = Promise.withResolvers<DataOutcome>();
			let child: Child;
			try {
				child = running();
			} catch (error) {
				giveUp(`it cannot be started: ${String(error)}`);
				return { kind: "crashed" };
			}
			const pending: Pending = {
				what,
				hears,
				settle: resolve,
				heardMs: clock.monotonicMs(),
				holding: 0,
				cancelledMs: undefined,
			};
			child.jobs.set(job, pending);
			const cancel = (): void => {
				pending.cancelledMs = clock.monotonicMs();
				tellChild(child.process, { kind: "cancel", job } satisfies Order);
			};
			signal.addEventListener("abort", cancel, { once: true });
			tellChild(child.process, { kind: "receive", job, what } satisfies Order);
			try {
				return await promise;
			} finally {
				signal.removeEventListener("abort", cancel);
			}
		},
		async [Symbol.asyncDispose]() {
			closed = true;
			await Promise.all([...children].map((child) => endChild({ clock }, child.process)));
			await Promise.all(watches);
		},
	};
}

function outcomeOf(event: Extract<JobEvent, { kind: "done" | "failed" }>): DataOutcome {
	if (event.kind === "done") return { kind: "done" };
	const { failure, message, code } = event;
	return { kind: "failed", failure, message, code };
}
