/** What a submit asks for, and the row that is made of it. */
import { sha256Hex } from "../../platform/hash.ts";
import type { Ids } from "../../platform/ids.ts";
import type { Priority, TaskDocument, TaskType } from "../../schema/task.ts";
import { defaultMaxAttempts } from "./backoff.ts";
import { type Reservation, mergeReservations } from "./conflicts.ts";
import type { Dispatch } from "./dispatch.ts";
import type { Elsewhere } from "./elsewhere.ts";
import { type NewTask, PLAIN, type Room } from "./insert.ts";
import type { SubmitRow } from "./submit.ts";
import type { BatchRow } from "./submit-batch.ts";
import { type QueueName, priorityRank } from "./task-row.ts";

const MAX_RESERVATIONS = 64;
/** Most names are parts of a task id as they are. */
const PLAIN_NAME = /^(?!.*\.\.)[A-Za-z0-9._-]{1,100}$/;

export interface SubmitInput {
	type: TaskType;
	/** What the task works on; part of the task id. */
	model: string;
	/** Kept in the row and shown to people: never a secret in it. */
	request: Record<string, unknown>;
	priority: Priority;
	/** What must not be held in a conflicting way by a running task; at most 64. */
	reservations?: readonly Reservation[] | undefined;
	/** As the API shows them; they decide nothing. */
	resources?: TaskDocument["resources"] | undefined;
	/** Task ids of this queue that must complete first; at most 64. */
	dependencies?: readonly string[] | undefined;
	/** Unfinished tasks of other queues that must complete first; `heard` tells how they end. At most 64 of both. */
	elsewhere?: readonly Elsewhere[] | undefined;
	/** The same key with the same input within 24 h gives the same task. */
	idempotencyKey?: string | undefined;
	/** A live task with the same key is joined instead of doing the work twice; not where there are dependencies. */
	joinKey?: string | undefined;
	/** 5, or 8 for downloads. */
	maxAttempts?: number | undefined;
	/** Bytes that the task will move, where known; used to estimate its time. */
	sizeBytes?: number | undefined;
	/**
	 * Set for work that the host dispatched: a later dispatch of the same operation finds the task of the earlier one,
	 * and an earlier one is refused.
	 */
	dispatch?: Dispatch | undefined;
}

/** A task of a batch. It joins nothing and was not dispatched. */
export interface BatchItem
	extends Omit<SubmitInput, "idempotencyKey" | "joinKey" | "dispatch" | "elsewhere"> {
	/** Places in the batch, from 0, of tasks that must complete first; each smaller than the item's own. */
	after?: readonly number[] | undefined;
}

export interface NewRowOptions {
	queue: QueueName;
	/** Makes the task id unique. */
	suffix: string;
	nowMs: number;
}

export function toSubmitRow(input: SubmitInput, options: NewRowOptions & { room: Room }): SubmitRow {
	const { idempotencyKey } = input;
	return {
		...toNewTask(input, options),
		dependencies: input.dependencies ?? [],
		elsewhere: input.elsewhere ?? [],
		idempotency: idempotencyKey === undefined ? null : { key: idempotencyKey, bodySha256: bodyDigest(input) },
		room: options.room,
	};
}

export function toBatchRow(item: BatchItem, options: Pick<NewRowOptions, "suffix">): BatchRow {
	const { type, model, priority, request, resources, reservations, sizeBytes, dependencies, after } = item;
	return {
		taskId: newTaskId(type, model, options.suffix),
		type,
		model,
		rank: priorityRank(priority),
		request: JSON.stringify(request),
		maxAttempts: item.maxAttempts ?? defaultMaxAttempts(type),
		resources: resources === undefined ? undefined : JSON.stringify(resources),
		reservations: reservations === undefined ? undefined : reservationsText(reservations),
		sizeBytes,
		dependencies,
		after,
	};
}

/**
 * What makes a task id unique: the time in milliseconds and a random part. Ids that rise with time lie side by side in
 * the database's index, and a commit of many new tasks writes few of its pages. Thousands may come within one
 * millisecond, so the random part alone has to keep them apart.
 */
export function newSuffix(ids: Ids, nowMs: number): string {
	return `${nowMs.toString(36)}${ids.short(9)}`;
}

export function newTaskId(type: TaskType, model: string, suffix: string): string {
	return `${type}-${slug(model)}-${suffix}`;
}

/** What an Idempotency-Key stands for in a batch: every task that was asked for, in order. */
export function batchDigest(items: readonly BatchItem[]): string {
	return sha256Hex(items.map((item) => `${bodyDigest(item)} ${(item.after ?? []).join()}`).join("\n"));
}

function toNewTask(input: SubmitInput, { queue, suffix, nowMs }: NewRowOptions): NewTask {
	const { type, model } = input;
	return {
		queue,
		taskId: newTaskId(type, model, suffix),
		type,
		model,
		rank: priorityRank(input.priority),
		request: JSON.stringify(input.request),
		resources: input.resources === undefined ? PLAIN.resources : JSON.stringify(input.resources),
		reservations: reservationsText(input.reservations ?? []),
		sizeBytes: input.sizeBytes ?? null,
		joinKey: input.joinKey ?? null,
		maxAttempts: input.maxAttempts ?? defaultMaxAttempts(type),
		dispatch: input.dispatch ?? null,
		retryOf: null,
		nowMs,
	};
}

function reservationsText(reservations: readonly Reservation[]): string {
	if (reservations.length === 0) return PLAIN.reservations;
	const merged = mergeReservations(reservations);
	if (merged.length > MAX_RESERVATIONS) throw new Error(`${merged.length} reservations for one task`);
	return JSON.stringify(merged);
}

/** A model's name as a part of a task id. */
function slug(model: string): string {
	if (PLAIN_NAME.test(model)) return model;
	return (
		model
			.replaceAll(/[^A-Za-z0-9._-]+/g, "-")
			.replaceAll(/\.{2,}/g, ".")
			.slice(0, 100) || "task"
	);
}

/** What an Idempotency-Key stands for: everything that the caller asked, whatever the order of the fields. */
function bodyDigest({
	type,
	model,
	request,
	priority,
	resources,
	dependencies,
	elsewhere,
	joinKey,
}: SubmitInput): string {
	const sorted = (_key: string, value: unknown): unknown =>
		typeof value === "object" && value !== null && !Array.isArray(value)
			? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
			: value;
	return sha256Hex(
		JSON.stringify({ type, model, request, priority, resources, dependencies, elsewhere, joinKey }, sorted),
	);
}
