/**
 * How a task of this node brings the bytes of a copy to one of its tiers: with room that it takes first, progress that it
 * tells, what is learned of the line, and what the finished task says of the copy.
 */
import type { TaskContext } from "../../core/queue/queue.ts";
import type { Clock } from "../../platform/clock.ts";
import type { TransferInput, TransferProgress, Transfers } from "../../core/transfer/transfer.ts";
import { GswarmError } from "../../schema/errors.ts";
import type { ModelCopy } from "../../schema/model.ts";
import type { Eviction } from "./eviction.ts";
import type { Line, Rates } from "./rates.ts";
import type { Room } from "./room.ts";

export interface Receiving {
	/** @throws what the transfer throws, with this node's device for its tier */
	receive(context: TaskContext, input: Received, onBytes?: (bytesDone: number) => void): Promise<ModelCopy>;
	/** The same for a task that tells its progress itself, and of which nothing is learned. */
	run(context: TaskContext, input: Omit<TransferInput, "signal">): Promise<ModelCopy>;
	/** The devices that bytes of a task came from; its result names them where they are several. */
	cameFrom(context: TaskContext, devices: string[]): void;
	/** The result of a task, once the host has been told of the copy. */
	finished(copied: ModelCopy, context: TaskContext): Promise<Record<string, unknown>>;
}

export type Received = Omit<TransferInput, "signal" | "onProgress">;

export interface ReceivingDependencies {
	nodeName: string;
	/** Its clock tells how fast a line was. */
	sources: { clock: Clock };
	transfers: Transfers;
	room: Pick<Room, "take">;
	eviction: Pick<Eviction, "remember">;
	rates: Rates;
	/** Tells the host now, so that what a finished task changed is visible when it is seen to be finished. */
	reportNow(): Promise<unknown>;
}

export function createReceiving(d: ReceivingDependencies): Receiving {
	/** What of a task came compressed. */
	const compressed = new WeakMap<TaskContext, NonNullable<TransferProgress["compressed"]>>();
	/** The devices that bytes of a task came from. */
	const sentBy = new WeakMap<TaskContext, string[]>();
	return {
		async receive(context, input, onBytes) {
			const { clock } = d.sources;
			const { tier, model } = input;
			let first: { bytes: number; ms: number } | undefined;
			try {
				const got = await d.transfers.run({
					...input,
					signal: transferSignal(context.signal),
					room: (bytes) => d.room.take(context, input.tier, bytes),
					onProgress(p) {
						first ??= { bytes: p.bytesDone, ms: clock.monotonicMs() };
						context.report(progressOf(p));
						if (p.compressed !== undefined) compressed.set(context, p.compressed);
						onBytes?.(p.bytesDone);
					},
				});
				d.eviction.remember(tier, model, undefined);
				if (first !== undefined && input.bandwidthLimit === undefined)
					d.rates.observe(lineOf(context), got.size_bytes - first.bytes, clock.monotonicMs() - first.ms);
				return got;
			} catch (error) {
				if (isSourcesFault(error)) d.eviction.remember(tier, model, error);
				throw withNode(error, d.nodeName);
			}
		},
		async run(context, input) {
			try {
				return await d.transfers.run({
					...input,
					room: (bytes) => d.room.take(context, input.tier, bytes),
					signal: transferSignal(context.signal),
				});
			} catch (error) {
				throw withNode(error, d.nodeName);
			}
		},
		cameFrom: (context, devices) => void sentBy.set(context, devices),
		async finished(copied, context) {
			await d.reportNow();
			const saved = compressed.get(context);
			const senders = sentBy.get(context) ?? [];
			return {
				device: `${d.nodeName}:${copied.tier}`,
				revision: copied.revision,
				size_bytes: copied.size_bytes,
				content_id: copied.content_id,
				...(senders.length > 1 ? { sources: senders } : {}),
				...(saved === undefined ? {} : { saved_bytes: saved.bytes - saved.wireBytes }),
			};
		},
	};
}

/** The queue aborts with "shutdown" when the agent stops: then what was received is kept for the next run. */
export function transferSignal(signal: AbortSignal): AbortSignal {
	const controller = new AbortController();
	const forward = (): void => {
		const reason: unknown = signal.reason;
		const stopping = reason === "shutdown" || (reason instanceof Error && reason.message === "shutdown");
		controller.abort(
			stopping
				? new GswarmError("RESOURCE_UNAVAILABLE", "The agent is stopping.", {
						reason: "stopping",
						retryable: true,
					})
				: reason,
		);
	};
	if (signal.aborted) forward();
	else signal.addEventListener("abort", forward, { once: true });
	return controller.signal;
}

/** As a task tells it. */
export function progressOf(p: TransferProgress): Parameters<TaskContext["report"]>[0] {
	return {
		phase: p.phase === "done" ? "publishing" : p.phase,
		bytesDone: p.bytesDone,
		bytesTotal: p.bytesTotal,
		waitingFor: p.waitingFor ?? null,
		...(p.plane === undefined ? {} : { plane: p.plane }),
		...(p.compressed === undefined ? {} : { compression: "zstd" as const }),
	};
}

/** Where a task's bytes come from. */
function lineOf({ request, type }: Pick<TaskContext, "request" | "type">): Line {
	if (type === "download") return "web";
	return request["pull"] === undefined && request["swarm"] === undefined ? "local" : "peer";
}

/** The same source would fail in the same way: no other copy is to go for it. */
function isSourcesFault(error: unknown): error is GswarmError {
	if (!(error instanceof GswarmError) || error.retryable) return false;
	return !NOT_THE_SOURCES.includes(error.reason ?? "");
}

const NOT_THE_SOURCES: readonly string[] = ["insufficient_space", "disk_full", "cancelled", "copy_exists"];

/** Rooms of a node know tiers; people and the host know devices. */
function withNode(error: unknown, nodeName: string): unknown {
	if (!(error instanceof GswarmError)) return error;
	const { code, reason, details, hint, status, retryable } = error;
	const { required, available, device: tier } = details;
	if (typeof required !== "number" || typeof tier !== "string" || tier.includes(":")) return error;
	const device = `${nodeName}:${tier}`;
	return new GswarmError(
		code,
		`${device} has ${String(available)} bytes available; ${required} are needed.`,
		{
			...(reason === undefined ? {} : { reason }),
			details: { ...details, device },
			...(hint === undefined ? {} : { hint }),
			status,
			retryable,
			cause: error,
		},
	);
}
