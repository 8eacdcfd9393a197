/**
 * Work that the host dispatched to this node: who may act for it, and for how long it goes on without the host.
 *
 * The host renews the lease of a part whenever it asks how the part stands. When it has not asked for 30 seconds, this
 * node asks the host: a part whose operation has ended meanwhile is cancelled here, one that goes on is renewed. While
 * the host is away a part goes on, because what it makes is additive; only a step that destroys something waits, for it
 * needs the host's word at that very moment.
 */
import type { Queue } from "../../core/queue/queue.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Log } from "../../platform/log.ts";
import { asGswarmError } from "../../schema/errors.ts";
import { LEASE_S, type OperationToken } from "../../schema/operation.ts";
import { type TaskDocument, isTerminal } from "../../schema/task.ts";
import { isSameToken, isStaleToken, staleToken, toDispatch, toToken } from "../operation-token.ts";
import { hostUnreachable } from "./host-link.ts";

export interface PartStanding extends OperationToken {
	/** Null: this node has no such part. */
	task: TaskDocument | null;
	/** How long the part goes on without another word of the host. */
	lease_s: number;
}

export interface HostedWork extends AsyncDisposable {
	/** Refuses a dispatch that comes too late: an older one, or one that was revoked before. @throws 409 stale_token */
	accept(token: OperationToken): void;
	/**
	 * Renews the lease, from when the host sent its question by its own clock, and tells how the part stands.
	 * @throws 409 stale_token
	 */
	follow(token: OperationToken, sentMs?: number): Promise<PartStanding>;
	/** Ends the part, or sees to it that it never begins. @throws 409 stale_token */
	revoke(token: OperationToken): Promise<PartStanding>;
	/**
	 * The host's word, asked for now, that a part still is to be done: before every step that destroys something.
	 * The token under which it is, for who asks the host for more.
	 * @throws 409 stale_token, 503 host_unreachable
	 */
	confirm(operationId: string): Promise<OperationToken>;
	/** Begins to look after leases. */
	start(): void;
}

export interface HostedWorkDependencies {
	clock: Clock;
	log: Log;
	queue: Pick<Queue, "dispatched" | "dispatches" | "fence" | "cancel" | "get">;
	/** Asks the host about a part. @throws what it answers, NETWORK_ERROR */
	ask(token: OperationToken): Promise<unknown>;
	/** The host's wall clock, as far as it is known here. */
	hostNowMs(): number;
}

const LEASE_MS = LEASE_S * 1000;
const LOOK_EVERY_MS = 5_000;
const MAX_FLOORS = 10_000;

/** The least that a token must be for a part that is not here: the call that brings it may still be under way. */
interface Floor {
	token: OperationToken;
	/** It is not to be brought any more, under this token either. */
	revoked: boolean;
}

export function createHostedWork({ clock, log, queue, ask, hostNowMs }: HostedWorkDependencies): HostedWork {
	const stop = new AbortController();
	const startedMs = clock.bootMs();
	/** When the lease of a part ends; the time that the machine sleeps counts. */
	const leases = new Map<string, number>();
	const floors = new Map<string, Floor>();
	let looking: Promise<void> | undefined;

	const renew = ({ operation }: OperationToken, fromMs = clock.bootMs()): void => {
		leases.set(operation, Math.max(fromMs + LEASE_MS, leases.get(operation) ?? 0));
	};
	const refuseBelowFloor = (token: OperationToken): void => {
		const floor = floors.get(token.operation);
		if (floor === undefined) return;
		if (isStaleToken(floor.token, token)) throw staleToken(token, floor.token);
	};
	const raiseFloor = (floor: Floor): void => {
		const { operation } = floor.token;
		floors.delete(operation);
		floors.set(operation, floor);
		const [oldest] = floors.keys();
		if (floors.size > MAX_FLOORS && oldest !== undefined) floors.delete(oldest);
	};
	/** What the network kept for a while renews the lease from when it was sent. */
	const arrivedFrom = (sentMs: number | undefined): number =>
		clock.bootMs() - (sentMs === undefined ? 0 : Math.min(LEASE_MS, Math.max(0, hostNowMs() - sentMs)));
	/** The task under this token, which counts from now on. @throws 409 stale_token */
	const raised = async (token: OperationToken, sentMs?: number): Promise<TaskDocument | undefined> => {
		const fromMs = arrivedFrom(sentMs);
		refuseBelowFloor(token);
		const known = queue.dispatched(token.operation);
		// Asked five times a second: only a token that is new is written.
		const task =
			known !== undefined && isSameToken(toToken(known), token)
				? known.task
				: await queue.fence(toDispatch(token));
		if (task === undefined) raiseFloor({ token, revoked: floors.get(token.operation)?.revoked ?? false });
		renew(token, fromMs);
		return task;
	};
	const standing = (token: OperationToken, task: TaskDocument | undefined): PartStanding => ({
		...token,
		task: task ?? null,
		lease_s: LEASE_S,
	});
	const confirm: HostedWork["confirm"] = async (operationId) => {
		// The host may have gone on under another token since the task began.
		const known = queue.dispatched(operationId);
		if (known === undefined) throw new Error(`no part ${operationId} is here`);
		const token = toToken(known);
		const askedMs = clock.bootMs();
		try {
			await ask(token);
		} catch (error) {
			const { code, reason } = asGswarmError(error);
			// A host that has just started does not follow all of its operations yet.
			if (code === "NETWORK_ERROR" || reason === "operation_not_running") throw hostUnreachable(error);
			throw error;
		}
		renew(token, askedMs);
		return token;
	};
	const cancel = async (taskId: string): Promise<void> => {
		try {
			await queue.cancel(taskId);
		} catch (error) {
			if (asGswarmError(error).reason !== "already_terminal") throw error;
		}
	};
	/** Asks about a part whose lease has ended. */
	const look = async (taskId: string, operation: string): Promise<void> => {
		try {
			await confirm(operation);
		} catch (error) {
			const { reason } = asGswarmError(error);
			if (reason === "stale_token") {
				log.warn("operation.ended_elsewhere", { task_id: taskId, operation });
				await cancel(taskId);
			} else log.debug("operation.not_confirmed", { task_id: taskId, reason });
		}
	};
	const lookAround = async (): Promise<void> => {
		const live = queue.dispatches();
		const now = clock.bootMs();
		for (const { taskId, dispatch } of live) {
			if ((leases.get(dispatch.operationId) ?? startedMs + LEASE_MS) > now) continue;
			await look(taskId, dispatch.operationId).catch((error: unknown) =>
				log.error("operation.look_failed", { task_id: taskId, error }),
			);
		}
		const operations = new Set(live.map(({ dispatch }) => dispatch.operationId));
		for (const operation of leases.keys()) if (!operations.has(operation)) leases.delete(operation);
	};

	return {
		accept(token) {
			refuseBelowFloor(token);
			const floor = floors.get(token.operation);
			if (floor?.revoked === true && isSameToken(floor.token, token)) throw staleToken(token, floor.token);
			renew(token);
		},
		follow: async (token, sentMs) => standing(token, await raised(token, sentMs)),
		async revoke(token) {
			const task = await raised(token);
			raiseFloor({ token, revoked: true });
			if (task === undefined || isTerminal(task.status)) return standing(token, task);
			await cancel(task.task_id);
			return standing(token, queue.get(task.task_id));
		},
		confirm,
		start() {
			looking = (async () => {
				while (!stop.signal.aborted) {
					await clock.sleep(LOOK_EVERY_MS, stop.signal);
					if (!stop.signal.aborted) await lookAround();
				}
			})();
		},
		async [Symbol.asyncDispose]() {
			stop.abort();
			await looking;
		},
	};
}
