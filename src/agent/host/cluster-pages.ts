/**
 * Pages of tasks over several queues, merged: each queue keeps its own order, and the cursor of a merged page names
 * for each of them the task that it had come to. Pure, but for asking.
 */
import { invalid } from "../../schema/errors.ts";
import type { TaskDocument } from "../../schema/task.ts";

/** One page of one queue. */
export interface Page {
	tasks: TaskDocument[];
	next_cursor: string | null;
}

/** Where the reading of each queue goes on; null: it has come to its end. A queue that is not named begins. */
type Places = Readonly<Record<string, string | null>>;

export interface Merge {
	/** Below zero: the first task comes first. Within a queue its own order counts. */
	compare: (one: TaskDocument, other: TaskDocument) => number;
	/** The cursor of a queue that goes on after this task. */
	cursorOf: (task: TaskDocument) => string;
	limit: number;
}

/** The next `limit` tasks of all queues. `ask` is given each queue's own cursor. */
export async function mergedPage<Answer extends Page>(
	queues: readonly string[],
	cursor: string | undefined,
	ask: (queue: string, cursor: string | undefined) => Promise<Answer | undefined>,
	{ compare, cursorOf, limit }: Merge,
): Promise<Page & { answers: Map<string, Answer> }> {
	const places = cursor === undefined ? {} : parsePlaces(cursor);
	const open = queues.filter((queue) => places[queue] !== null);
	const given = await Promise.all(
		open.map(async (queue) => [queue, await ask(queue, places[queue] ?? undefined)] as const),
	);
	const answers = new Map(given.flatMap(([queue, page]) => (page === undefined ? [] : [[queue, page]])));
	const lines = [...answers].map(([queue, page]) => ({ queue, page, taken: 0 }));
	const tasks: TaskDocument[] = [];
	while (tasks.length < limit) {
		const [next] = lines
			.filter(({ page, taken }) => taken < page.tasks.length)
			.sort((a, b) => compare(head(a), head(b)) || (a.queue < b.queue ? -1 : 1));
		if (next === undefined) break;
		tasks.push(head(next));
		next.taken++;
	}
	const after: Record<string, string | null> = { ...places };
	for (const { queue, page, taken } of lines) {
		const last = page.tasks[taken - 1];
		if (taken === page.tasks.length && page.next_cursor === null) after[queue] = null;
		else if (last !== undefined) after[queue] = cursorOf(last);
	}
	const isOver = lines.every(({ queue }) => after[queue] === null);
	return { tasks, next_cursor: isOver ? null : formatPlaces(after), answers };
}

/** Running ones first, then by priority and age. */
export function inLine(one: TaskDocument, other: TaskDocument): number {
	const waits = (task: TaskDocument): number => (task.status === "running" ? 0 : 1);
	return (
		waits(one) - waits(other) ||
		RANK[one.priority] - RANK[other.priority] ||
		one.created_at - other.created_at
	);
}

/** The newest first. */
export function newestFirst(one: TaskDocument, other: TaskDocument): number {
	return (other.completed_at ?? 0) - (one.completed_at ?? 0);
}

const RANK = { critical: 0, high: 1, normal: 2, low: 3 } as const;

function head({ page, taken }: { page: Page; taken: number }): TaskDocument {
	const task = page.tasks[taken];
	if (task === undefined) throw new Error("a line that is not empty has a head");
	return task;
}

function formatPlaces(places: Places): string {
	return Buffer.from(JSON.stringify(places)).toString("base64url");
}

function parsePlaces(cursor: string): Places {
	try {
		const places = JSON.parse(Buffer.from(cursor, "base64url").toString("utf8")) as unknown;
		if (typeof places === "object" && places !== null && Object.values(places).every(isPlace))
			return places as Places;
	} catch {
		// Not ours, see below.
	}
	throw invalid("bad_cursor", "The cursor is not one that a page of this list gave.", { field: "cursor" });
}

function isPlace(value: unknown): boolean {
	return value === null || typeof value === "string";
}
