/**
 * Sends the parts of an operation to nodes and follows them to their end, through restarts of either side.
 *
 * A part is in the operation's row before it is sent, and so is the token of this try, so that whatever happens to the
 * answer the same part is asked for again, and the node knows whether it has it. Each life of the host has a higher
 * epoch, and each try of an operation a higher n: what an earlier one sent and the network kept for later is refused by
 * the node. An answer that carries another token than the one that was sent is not listened to.
 */
import type { TaskContext } from "../../core/queue/queue.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Log } from "../../platform/log.ts";
import { type ErrorCode, GswarmError, asGswarmError } from "../../schema/errors.ts";
import {
	OPERATION_HEADER,
	type OperationToken,
	formatToken,
	operationTaskId,
} from "../../schema/operation.ts";
import { type TaskDocument, isTerminal } from "../../schema/task.ts";
import { isSameToken, knownEpoch, staleToken } from "../operation-token.ts";

/** What a node answers when it is asked for a part. */
export interface PartAnswer extends OperationToken {
	/** Null: the node never heard of it. */
	task: TaskDocument | null;
}

/**
 * The calls that a part needs. The agent's are those of its typed client of the node.
 * @throws 409 stale_token, NETWORK_ERROR, node_unreachable
 */
export interface PartLine {
	/** Renews the node's lease of the part and tells how it stands. */
	follow(token: OperationToken, signal: AbortSignal): Promise<PartAnswer>;
	/** Ends the part, or sees to it that it never begins. */
	revoke(token: OperationToken, signal: AbortSignal): Promise<PartAnswer>;
}

export interface Part {
	/** Names it within the operation, over restarts. */
	key: string;
	node: string;
	/** Submits the task to the node with these headers. */
	send(headers: Record<string, string>): Promise<{ task_id: string }>;
	/** Hears how it goes; left out: it is how the operation goes. */
	report?: ((progress: Parameters<TaskContext["report"]>[0]) => void) | undefined;
}

/** One try of an operation. */
export interface OperationRun {
	/** Parts that an earlier try has begun, by key. */
	readonly begun: readonly { key: string; node: string }[];
	/**
	 * The completed task of a part, which is sent once however often it is asked for.
	 * @throws the task's own error, not to be retried: the node has done that; the signal's reason
	 */
	part(part: Part): Promise<TaskDocument>;
}

export interface Dispatcher {
	run(context: TaskContext): OperationRun;
	/**
	 * Whether the node may go on with a part: this host follows it now, under this token.
	 * @throws 409 stale_token when the operation has ended; 503 operation_not_running when it goes on, but not so;
	 * 403 not_your_node
	 */
	confirm(node: string, token: OperationToken): void;
}

export interface DispatcherDependencies {
	clock: Clock;
	log: Log;
	/** @throws node_unreachable */
	line(node: string): PartLine;
	/** How an operation stands; undefined when there is none of that id. */
	operation(taskId: string): Pick<TaskDocument, "status"> | undefined;
	/** How often a node is asked how a part stands; left out: sooner for one that has just begun. */
	followEveryMs?: number;
}

/** A node that stays away longer fails the operation for now; the queue tries again. */
export const PATIENCE_MS = 10 * 60_000;
export const FOLLOW_EVERY_MS = 200;
/** Within the grace of a cancelled handler. */
const REVOKE_WITHIN_MS = 4_000;

/** Short work is not made long by looks that come late, nor long work busy by many. */
const FOLLOW_SHARE = 0.1;
const SHORTEST_PAUSE_MS = 10;

/** How long until the next look at a task that began so long ago. */
export function followPauseMs(ageMs: number, task: Pick<TaskDocument, "progress"> | undefined): number {
	const { bytes_done: done, bytes_total: total } = task?.progress ?? { bytes_done: 0, bytes_total: 0 };
	// All has come: what is left is its verification and publishing.
	const share = total > 0 && done >= total ? FOLLOW_SHARE / 4 : FOLLOW_SHARE;
	return Math.min(Math.max(Math.round(ageMs * share), SHORTEST_PAUSE_MS), FOLLOW_EVERY_MS);
}

/** What the operation's row keeps of a part; the task is null until the node has answered: it may have it or not. */
interface PartRecord {
	node: string;
	task_id: string | null;
}

export function createDispatcher(d: DispatcherDependencies): Dispatcher {
	const { followEveryMs = FOLLOW_EVERY_MS } = d;
	/** Above the epoch of this start when a node remembers a higher one. */
	let adoptedEpoch = 0;
	/** The parts that are followed now, by operation. */
	const active = new Map<string, { node: string; token: OperationToken }>();
	/** Nodes that took something of this very process: one that refuses it later listens to another host. */
	const known = new Set<string>();

	/** The node has seen a higher epoch: this host's database is older than what the node remembers. */
	const adopt = (node: string, own: OperationToken, error: GswarmError): boolean => {
		const seen = knownEpoch(error);
		if (seen === undefined || seen < own.host_epoch || known.has(node)) return false;
		d.log.warn("operation.epoch_adopted", { node, own: own.host_epoch, seen });
		adoptedEpoch = seen + 1;
		return true;
	};

	const run: Dispatcher["run"] = (context) => {
		const { signal, taskId, log } = context;
		let parts = readParts(context.state);
		let fence: ReturnType<TaskContext["nextFence"]> | undefined;
		const save = async (key: string, record: PartRecord): Promise<void> => {
			parts = { ...parts, [key]: record };
			await context.saveState({ parts });
		};
		/** The token of the next call about a part, which a node's questions are held against. */
		const tokenOf = async ({ key, node }: Part): Promise<OperationToken> => {
			fence ??= context.nextFence();
			const { hostEpoch, n } = await fence;
			const token = { operation: `${taskId}/${key}`, host_epoch: Math.max(hostEpoch, adoptedEpoch), n };
			active.set(token.operation, { node, token });
			return token;
		};
		/**
		 * Calls the node until it answers: one that is away (it restarts, the network blinks) is waited for.
		 * @throws what the node says, or its silence after so long
		 */
		const patiently = async <T>(
			part: Part,
			call: (token: OperationToken, line: PartLine) => Promise<T>,
		): Promise<T> => {
			let silentSinceMs: number | undefined;
			for (;;) {
				signal.throwIfAborted();
				const token = await tokenOf(part);
				try {
					const answer = await call(token, d.line(part.node));
					known.add(part.node);
					return answer;
				} catch (error) {
					signal.throwIfAborted();
					const failure = asGswarmError(error);
					if (failure.reason === "stale_token" && adopt(part.node, token, failure)) continue;
					if (!isAway(failure)) throw error;
					const now = d.clock.monotonicMs();
					silentSinceMs ??= now;
					if (now - silentSinceMs > PATIENCE_MS) throw error;
					const { node = part.node } = failure.details;
					(part.report ?? context.report)({ waitingFor: `${String(node)} to come back` });
					await d.clock.sleep(followEveryMs, signal);
				}
			}
		};
		const dispatch = async (part: Part): Promise<void> => {
			const { key, node } = part;
			if (parts[key] === undefined) await save(key, { node, task_id: null });
			const { task_id } = await patiently(part, (token) =>
				part.send({ [OPERATION_HEADER]: formatToken(token) }),
			);
			await save(key, { node, task_id });
		};
		const ended = async (part: Part): Promise<TaskDocument> => {
			const sinceMs = d.clock.monotonicMs();
			for (;;) {
				if ((parts[part.key]?.task_id ?? null) === null) await dispatch(part);
				const answer = await patiently(part, async (token, line) => {
					const given = await line.follow(token, signal);
					return isSameToken(token, given) ? given : undefined;
				});
				if (answer?.task === null) {
					// The node lost its memory of the task, and its effect with it: the same part is sent once more.
					await save(part.key, { node: part.node, task_id: null });
					continue;
				}
				if (answer !== undefined) {
					const { phase, progress, waiting_for: waitingFor, status } = answer.task;
					const { bytes_done: bytesDone, bytes_total: bytesTotal, plane, compression } = progress;
					const told = { phase, bytesDone, bytesTotal, waitingFor, plane, compression };
					(part.report ?? context.report)(told);
					if (isTerminal(status)) return answer.task;
				}
				const pauseMs = d.followEveryMs ?? followPauseMs(d.clock.monotonicMs() - sinceMs, answer?.task);
				await d.clock.sleep(pauseMs, signal);
			}
		};
		/**
		 * Sees to it that nothing of a part goes on or begins any more, and tells its end. Undefined when the node is
		 * away: its lease of the part ends, it asks, and hears that the operation has ended.
		 */
		const revoke = async (part: Part): Promise<TaskDocument | undefined> => {
			const over = new AbortController();
			const timer = d.clock.sleep(REVOKE_WITHIN_MS, over.signal).then(() => over.abort());
			try {
				while (!over.signal.aborted) {
					try {
						const { task } = await d.line(part.node).revoke(await tokenOf(part), over.signal);
						if (task === null || isTerminal(task.status)) return task ?? undefined;
					} catch (error) {
						log.debug("operation.revoke_unheard", { node: part.node, error });
						if (!isAway(asGswarmError(error))) return undefined;
					}
					await d.clock.sleep(followEveryMs, over.signal);
				}
				return undefined;
			} finally {
				over.abort();
				await timer;
			}
		};

		return {
			begun: Object.entries(parts).map(([key, { node }]) => ({ key, node })),
			async part(part) {
				try {
					return completedOrThrow(await ended(part), part.node);
				} catch (error) {
					// A shutdown of the host leaves the node's task running; only a cancel ends it.
					if (signal.reason !== "cancelled" || parts[part.key] === undefined) throw error;
					const task = await revoke(part);
					// What the node had published before it heard of the cancel is done.
					if (task?.status === "completed") return task;
					throw error;
				} finally {
					active.delete(`${taskId}/${part.key}`);
				}
			},
		};
	};

	return {
		run,
		confirm(node, token) {
			const held = active.get(token.operation);
			if (held !== undefined) {
				if (held.node !== node) throw notYourPart();
				if (isSameToken(held.token, token)) return;
			} else {
				const status = d.operation(operationTaskId(token))?.status;
				if (status === undefined || isTerminal(status)) throw staleToken(token, undefined);
			}
			// It goes on, or will: under a token that this node has not heard of yet.
			throw new GswarmError("RESOURCE_UNAVAILABLE", "The operation goes on under another token; ask again.", {
				reason: "operation_not_running",
				details: { operation: token.operation },
				retryable: true,
				retryAfterS: 1,
			});
		},
	};
}

/** A checkpoint that an older version wrote has none: its parts are sent anew. */
function readParts(state: Record<string, unknown> | undefined): Readonly<Record<string, PartRecord>> {
	const parts = state?.["parts"];
	return typeof parts === "object" && parts !== null ? (parts as Record<string, PartRecord>) : {};
}

/** The node did not answer, or cannot be asked now. */
export function isAway({ code, reason }: GswarmError): boolean {
	return code === "NETWORK_ERROR" || reason === "node_unreachable" || reason === "node_refuses_host";
}

function completedOrThrow(task: TaskDocument, node: string): TaskDocument {
	const { status, task_id, error } = task;
	if (status === "completed") return task;
	const about = { node, node_task_id: task_id };
	if (status === "cancelled" || error === null) {
		throw new GswarmError("TASK_FAILED", `The task ${task_id} was cancelled on ${node}.`, {
			reason: "cancelled_on_node",
			details: about,
		});
	}
	const { code, message, details, hint } = error;
	const reason = details["reason"];
	throw new GswarmError(code as ErrorCode, message, {
		details: { ...details, ...about },
		...(hint === undefined ? {} : { hint }),
		// The node has waited for that already; the operation does not wait for it once more.
		...(typeof reason !== "string" || WAITED_FOR.includes(reason) ? {} : { reason }),
	});
}

const WAITED_FOR: readonly string[] = ["disk_full", "host_unreachable"];

function notYourPart(): GswarmError {
	return new GswarmError("FORBIDDEN", "This part of the operation is another node's.", {
		reason: "not_your_node",
	});
}
