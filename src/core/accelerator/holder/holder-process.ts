/**
 * The agent's side of a holder: started with the first model, ended when it holds nothing for a while, and never waited
 * for without a limit. Its end, however it comes, is the end of everything it held.
 */
import type { Clock } from "../../../platform/clock.ts";
import { endChild, hearChild, tellChild } from "../../../platform/line-child.ts";
import type { Log } from "../../../platform/log.ts";
import { minimalEnvironment } from "../../../platform/process.ts";
import {
	type BadPart,
	type HeldFile,
	type HolderFailure,
	type HolderPlan,
	MAX_REPORT_CHARS,
	type Order,
	type Report,
} from "./messages.ts";

export interface Holder extends AsyncDisposable {
	/** Loads and verifies; what did not end well holds no memory. @throws HolderTrouble, the signal's reason */
	load(
		input: { id: number; files: readonly HeldFile[]; direct: boolean },
		hears: LoadListener,
		signal: AbortSignal,
	): Promise<LoadOutcome>;
	/** Reads back what is held. @throws HolderTrouble, the signal's reason */
	verify(id: number, onBytes: (bytes: number) => void, signal: AbortSignal): Promise<BadPart[]>;
	/** Resolves when the memory is free. */
	unload(id: number): Promise<void>;
	/** Of the process, while there is one. */
	pid(): number | undefined;
}

export interface LoadListener {
	onAllocated(): void;
	onProgress(phase: "moving" | "verifying", bytes: number): void;
}

export type LoadOutcome =
	| { kind: "loaded"; handles: (string | null)[]; isDirect: boolean }
	/** On the device is not what the manifest says; it was freed again. */
	| { kind: "damaged"; bad: BadPart[] };

/** Why a holder did not do it. `gone`: it ended; `unable`: it cannot work on this device. */
export class HolderTrouble extends Error {
	readonly failure: HolderFailure | "gone" | "unable";
	readonly code: string | undefined;
	readonly availableBytes: number | undefined;

	constructor(
		failure: HolderTrouble["failure"],
		message: string,
		{ code, availableBytes }: { code?: string | undefined; availableBytes?: number | undefined } = {},
	) {
		super(message);
		this.name = "HolderTrouble";
		this.failure = failure;
		this.code = code;
		this.availableBytes = availableBytes;
	}
}

export interface HolderOptions {
	/** Up to and including the subcommand, e.g. `["/usr/bin/gswarm", "__holder"]`. */
	command: readonly string[];
	/** Of the agent; the holder gets the few variables that it needs. */
	environment: Readonly<Record<string, string | undefined>>;
	/** What the holder gets beside them, e.g. which device it sees. */
	given: Readonly<Record<string, string>>;
	plan: HolderPlan;
	/** A process ended, and with it what it held. */
	onGone: (ids: readonly number[]) => void;
	/** What the driver said last of the device's free memory. */
	onMemory: (freeBytes: number) => void;
	limits?: Partial<HolderLimits>;
}

export interface HolderLimits {
	/** Without anything on the device for so long the process ends: its context alone takes memory there. */
	idleMs: number;
	/** What was cancelled ends within this, or the process does. */
	cancelMs: number;
	/** A process that says nothing for so long, with work to do, hangs. */
	silentMs: number;
}

const LIMITS: HolderLimits = { idleMs: 10_000, cancelMs: 10_000, silentMs: 120_000 };
const LOOK_EVERY_MS = 250;

interface Waiting {
	hear: (report: Extract<Report, { id: number }>) => void;
	fail: (trouble: HolderTrouble) => void;
	cancelledMs: number | undefined;
}

interface Child {
	process: Bun.Subprocess<"pipe", "pipe", "pipe">;
	/** What it has been asked and not answered, by id. */
	waiting: Map<number, Waiting>;
	holds: Set<number>;
	heardMs: number;
	idleSinceMs: number;
	isEnding: boolean;
	/** Why it cannot work. */
	unable: HolderTrouble | undefined;
	/** Resolves when it is over with, and all is told. */
	over: Promise<unknown>;
}

export function createHolder(
	{ clock, log }: { clock: Clock; log: Log },
	{ command, environment, given, plan, onGone, onMemory, limits: asked = {} }: HolderOptions,
): Holder {
	const limits = { ...LIMITS, ...asked };
	let current: Child | undefined;
	let closed = false;

	const hear = (child: Child, report: Report): void => {
		child.heardMs = clock.monotonicMs();
		if (report.kind === "open") {
			onMemory(report.freeBytes);
			return;
		}
		if (report.kind === "unable") {
			child.unable = new HolderTrouble("unable", report.message, { code: report.code });
			return;
		}
		if ("freeBytes" in report && report.freeBytes !== undefined) onMemory(report.freeBytes);
		child.waiting.get(report.id)?.hear(report);
	};
	const gone = (child: Child, stderr: string): void => {
		const { exitCode, signalCode } = child.process;
		const held = [...child.holds];
		if (current === child) current = undefined;
		const trouble =
			child.unable ??
			new HolderTrouble(
				"gone",
				`its process ended (${signalCode ?? exitCode ?? "unknown"})${lastLine(stderr)}`,
			);
		if (!child.isEnding)
			log.warn("holder.ended", { code: exitCode, signal: signalCode, held: held.length, stderr });
		for (const { fail } of child.waiting.values()) fail(trouble);
		child.waiting.clear();
		child.holds.clear();
		onGone(held);
	};
	const start = (): Child => {
		const process = Bun.spawn({
			cmd: [...command, JSON.stringify(plan)],
			cwd: "/",
			env: minimalEnvironment(environment, given),
			stdio: ["pipe", "pipe", "pipe"],
			// A signal of a terminal is for the agent, which ends this one in its order.
			detached: true,
		});
		process.unref();
		const nowMs = clock.monotonicMs();
		const child: Child = {
			process,
			waiting: new Map(),
			holds: new Set(),
			heardMs: nowMs,
			idleSinceMs: nowMs,
			isEnding: false,
			unable: undefined,
			over: Promise.resolve(),
		};
		const said = hearChild(process, (report) => hear(child, report as Report), {
			maxChars: MAX_REPORT_CHARS,
		});
		const ended = Promise.all([process.exited, said]).then(([, stderr]) => gone(child, stderr));
		child.over = Promise.all([ended, watch(child)]);
		log.info("holder.started", { pid: process.pid, driver: plan.driver });
		return child;
	};
	/** Ends what does not answer, and what holds nothing. */
	const watch = async (child: Child): Promise<void> => {
		const ended = new AbortController();
		void child.process.exited.then(() => ended.abort());
		while (!ended.signal.aborted) {
			await clock.sleep(LOOK_EVERY_MS, ended.signal);
			const nowMs = clock.monotonicMs();
			const isBusy = child.waiting.size > 0;
			const isDeaf = [...child.waiting.values()].some(
				({ cancelledMs }) => cancelledMs !== undefined && nowMs - cancelledMs >= limits.cancelMs,
			);
			if (isDeaf || (isBusy && nowMs - child.heardMs >= limits.silentMs)) {
				log.error("holder.hangs", { pid: child.process.pid, cancelled: isDeaf });
				child.process.kill("SIGKILL");
				return;
			}
			if (isBusy || child.holds.size > 0) child.idleSinceMs = nowMs;
			else if (nowMs - child.idleSinceMs >= limits.idleMs && !child.isEnding) {
				if (current === child) current = undefined;
				await stop(clock, child);
			}
		}
	};
	/** Asks, and hears until `take` gives an answer. */
	const ask = <T>(
		order: Order,
		take: (report: Extract<Report, { id: number }>, child: Child) => T | undefined,
		signal?: AbortSignal,
	): Promise<T> => {
		const { promise, resolve, reject } = Promise.withResolvers<T>();
		if (closed) throw new HolderTrouble("gone", "the agent is stopping");
		current ??= start();
		const child = current;
		const { id } = order;
		if (child.waiting.size === 0) child.heardMs = clock.monotonicMs();
		const over = (): void => {
			child.waiting.delete(id);
			child.idleSinceMs = clock.monotonicMs();
			signal?.removeEventListener("abort", cancel);
		};
		const waiting: Waiting = {
			hear(report) {
				if (report.kind === "failed") {
					over();
					const { failure, message, code, freeBytes: availableBytes } = report;
					reject(new HolderTrouble(failure, message, { code, availableBytes }));
					return;
				}
				const answer = take(report, child);
				if (answer === undefined) return;
				over();
				resolve(answer);
			},
			fail(trouble) {
				signal?.removeEventListener("abort", cancel);
				reject(trouble);
			},
			cancelledMs: undefined,
		};
		const cancel = (): void => {
			waiting.cancelledMs = clock.monotonicMs();
			tellChild(child.process, { kind: "cancel", id } satisfies Order);
		};
		child.waiting.set(id, waiting);
		signal?.addEventListener("abort", cancel, { once: true });
		tellChild(child.process, order);
		if (signal?.aborted === true) cancel();
		return promise;
	};

	return {
		pid: () => current?.process.pid,
		async load({ id, files, direct }, { onAllocated, onProgress }, signal) {
			signal.throwIfAborted();
			return await ask<LoadOutcome>(
				{ kind: "load", id, files, direct },
				(report, child) => {
					switch (report.kind) {
						case "allocated":
							onAllocated();
							return undefined;
						case "progress":
							onProgress(report.phase, report.bytes);
							return undefined;
						case "verified":
							return { kind: "damaged", bad: report.bad };
						case "loaded":
							child.holds.add(id);
							return { kind: "loaded", handles: report.handles, isDirect: report.isDirect };
						case "unloaded":
						case "failed":
							return undefined;
					}
				},
				signal,
			);
		},
		verify: async (id, onBytes, signal) =>
			await ask<BadPart[]>(
				{ kind: "verify", id },
				(report) => {
					if (report.kind === "progress") onBytes(report.bytes);
					return report.kind === "verified" ? report.bad : undefined;
				},
				signal,
			),
		async unload(id) {
			// What a process held that has ended is free.
			if (current === undefined || !current.holds.has(id)) return;
			try {
				await ask<true>({ kind: "unload", id }, (report, child) => {
					if (report.kind !== "unloaded") return undefined;
					child.holds.delete(id);
					return true;
				});
			} catch (error) {
				if (!(error instanceof HolderTrouble) || error.failure !== "gone") throw error;
			}
		},
		async [Symbol.asyncDispose]() {
			closed = true;
			const child = current;
			if (child === undefined) return;
			await stop(clock, child);
			await child.over;
		},
	};
}

async function stop(clock: Clock, child: Child): Promise<void> {
	child.isEnding = true;
	await endChild({ clock }, child.process);
}

function lastLine(stderr: string): string {
	const line = stderr.trim().split("\n").at(-1) ?? "";
	return line === "" ? "" : `: ${line.slice(0, 200)}`;
}
