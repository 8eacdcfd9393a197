/** What a submit asks for, and the row that is made of it. */
import { sha256Hex } from "../../platform/hash.ts";
import type { Priority, TaskDocument, TaskType } from "../../schema/task.ts";
import { defaultMaxAttempts } from "./backoff.ts";
import { type Reservation, mergeReservations } from "./conflicts.ts";
import type { SubmitRow } from "./submit.ts";
import { type QueueName, priorityRank } from "./task-row.ts";

const MAX_RESERVATIONS = 64;
const NO_RESOURCES: TaskDocument["resources"] = { devices: [], models: [], exclusive: false };

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
	/** The same key with the same input within 24 h gives the same task. */
	idempotencyKey?: string | undefined;
	/** A live task with the same key is joined instead of doing the work twice; not where there are dependencies. */
	joinKey?: string | undefined;
	/** 5, or 8 for downloads. */
	maxAttempts?: number | undefined;
	/** Bytes that the task will move, where known; used to estimate its time. */
	sizeBytes?: number | undefined;
}

/** `suffix` makes the task id unique. */
export function toSubmitRow(
	input: SubmitInput,
	{
		queue,
		suffix,
		maxPending,
		nowMs,
	}: { queue: QueueName; suffix: string; maxPending: number; nowMs: number },
): SubmitRow {
	const { type, model, idempotencyKey } = input;
	const reservations = mergeReservations(input.reservations ?? []);
	if (reservations.length > MAX_RESERVATIONS)
		throw new Error(`${reservations.length} reservations for one task`);
	return {
		queue,
		taskId: `${type}-${slug(model)}-${suffix}`,
		type,
		model,
		rank: priorityRank(input.priority),
		request: JSON.stringify(input.request),
		resources: JSON.stringify(input.resources ?? NO_RESOURCES),
		reservations: JSON.stringify(reservations),
		dependencies: input.dependencies ?? [],
		sizeBytes: input.sizeBytes ?? null,
		joinKey: input.joinKey ?? null,
		idempotency: idempotencyKey === undefined ? null : { key: idempotencyKey, bodySha256: bodyDigest(input) },
		maxAttempts: input.maxAttempts ?? defaultMaxAttempts(type),
		maxPending,
		nowMs,
	};
}

/** A model's name as a part of a task id. */
function slug(model: string): string {
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
	joinKey,
}: SubmitInput): string {
	const sorted = (_key: string, value: unknown): unknown =>
		typeof value === "object" && value !== null && !Array.isArray(value)
			? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
			: value;
	return sha256Hex(
		JSON.stringify({ type, model, request, priority, resources, dependencies, joinKey }, sorted),
	);
}
