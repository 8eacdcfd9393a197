/**
 * A queue's changes as events for a stream. Changes of state are read from the queue's log, so that a reader who is
 * slow or was away misses none and nobody keeps any for it; progress is only what it is when somebody looks.
 */
import type { Queue } from "../core/queue/queue.ts";
import type { Clock } from "../platform/clock.ts";
import { invalid } from "../schema/errors.ts";
import { isTerminal } from "../schema/task.ts";
import type { ServerEvent } from "./http/event-stream.ts";

/** The same task's progress is told no more often than this. */
const PROGRESS_EVERY_MS = 1000;
/** A bar that somebody looks at. */
const TASK_EVERY_MS = 250;

interface Source {
	queue: Queue;
	clock: Clock;
	/** Shown with each event. */
	node: string;
}

/** All changes after an event, or from now on. Ends when the signal aborts. */
export async function* queueChanges(
	{ queue, clock, node }: Source,
	{ after, signal }: { after: number | undefined; signal: AbortSignal },
): AsyncGenerator<ServerEvent, void> {
	let last = after ?? queue.newestEventId();
	/** Running tasks whose progress has changed: never more than run at once. */
	const moved = new Set<string>();
	let toldMs = Number.NEGATIVE_INFINITY;
	let wake = Promise.withResolvers<void>();
	using _listening = queue.onEvent(({ kind, taskId }) => {
		if (kind === "progress") moved.add(taskId);
		wake.resolve();
	});
	using _aborting = onAbort(signal, () => wake.resolve());
	// Where a reader goes on that is cut off before anything has changed.
	yield { id: String(last), event: "open", data: { node } };
	while (!signal.aborted) {
		wake = Promise.withResolvers();
		for (;;) {
			const { gap, events, lastId } = queue.events({ after: last });
			if (gap) yield { event: "reset", data: { node } };
			for (const event of events) {
				yield { id: String(event.id), event: "task", data: { ...event, node } };
				if (isTerminal(event.status)) moved.delete(event.task_id);
			}
			if (lastId === last || signal.aborted) break;
			last = lastId;
		}
		const dueMs = toldMs + PROGRESS_EVERY_MS - clock.monotonicMs();
		if (moved.size > 0 && dueMs <= 0) {
			toldMs = clock.monotonicMs();
			const told = [...moved];
			moved.clear();
			for (const taskId of told) yield { event: "progress", data: progressOf(queue, taskId) };
			continue;
		}
		if (moved.size === 0) await wake.promise;
		else await soonerOf(clock, dueMs, wake.promise);
	}
}

/** One task as it goes on; ends with it, or when the signal aborts. @throws 404 task_not_found */
export async function* taskChanges(
	{ queue, clock }: Pick<Source, "queue" | "clock">,
	{ taskId, signal }: { taskId: string; signal: AbortSignal },
): AsyncGenerator<ServerEvent, void> {
	let wake = Promise.withResolvers<void>();
	/** A change of state is told at once; only progress may wait. */
	let state = Promise.withResolvers<void>();
	using _listening = queue.onEvent((event) => {
		if (event.taskId !== taskId) return;
		wake.resolve();
		if (event.kind === "state") state.resolve();
	});
	using _aborting = onAbort(signal, () => {
		wake.resolve();
		state.resolve();
	});
	let shown = "";
	while (!signal.aborted) {
		wake = Promise.withResolvers();
		state = Promise.withResolvers();
		const task = queue.get(taskId);
		if (isTerminal(task.status)) {
			yield { event: "end", data: task };
			return;
		}
		const text = JSON.stringify(task);
		if (text !== shown) yield { event: "task", data: task };
		shown = text;
		await wake.promise;
		await soonerOf(clock, TASK_EVERY_MS, state.promise);
	}
}

/** The id that a reader goes on after. @throws 400 bad_event_id */
export function parseEventId(text: string | undefined): number | undefined {
	if (text === undefined) return undefined;
	if (/^\d{1,15}$/.test(text)) return Number(text);
	throw invalid("bad_event_id", "The event id is not one that this stream gave.", { field: "Last-Event-ID" });
}

/** The id in a request: the header that browsers send by themselves, or the query of who cannot send headers. */
export function eventIdOf(request: Request, after: string | undefined): string | undefined {
	return request.headers.get("last-event-id") ?? after;
}

function progressOf(queue: Queue, taskId: string): unknown {
	const { task_id, task_type, node, status, phase, progress, waiting_for } = queue.get(taskId);
	return { task_id, task_type, node, status, phase, progress, waiting_for };
}

async function soonerOf(clock: Clock, ms: number, woken: Promise<void>): Promise<void> {
	const over = new AbortController();
	await Promise.race([woken, clock.sleep(ms, over.signal)]);
	over.abort();
}

function onAbort(signal: AbortSignal, listener: () => void): Disposable {
	signal.addEventListener("abort", listener, { once: true });
	if (signal.aborted) listener();
	return { [Symbol.dispose]: () => signal.removeEventListener("abort", listener) };
}
