/**
 * How a task goes on, reading by reading: from the agent's stream of its events, which says what changed when it
 * changes, or by asking again and again where there is no such stream.
 */
import type { ApiClient } from "../api/client.ts";
import { type ReceivedEvent, readEvents } from "../api/event-reader.ts";
import { GswarmError } from "../schema/errors.ts";
import type { TaskDocument } from "../schema/task.ts";
import type { Context } from "./context.ts";

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 500;
/** How often the last reading is given again while nothing changes: what is shown has a clock in it. */
const REFRESH_MS = 1_000;
/** How long an agent may be away (it restarts, the network blinks) before the waiting gives up. */
const AWAY_MS = 60_000;

export interface Reading {
	taskId: string;
	/** Monotonic; infinite where there is none. */
	deadlineMs: number;
	signal: AbortSignal;
	/** The agent does not answer; called once each time. */
	onAway: () => void;
	/** What is thrown when it stays away. */
	gaveUp: (error: GswarmError) => GswarmError;
}

/** Ends with the task, at the deadline, or when the signal aborts. @throws what the API says, e.g. 404 */
export async function* readings(
	context: Context,
	api: ApiClient,
	reading: Reading,
): AsyncGenerator<TaskDocument, void> {
	const patience = createPatience(context, reading);
	if (!(yield* streamed(api, reading, patience))) yield* polled(api, reading, patience);
}

interface Patience {
	/** Whether the waiting goes on at all. */
	isOver(): boolean;
	heard(): void;
	/** @throws the error, when it is not that the agent is away or when it is away for too long */
	failed(error: unknown): void;
	/** So long at most, and not beyond the end of the waiting. */
	pause(ms: number, signal?: AbortSignal): Promise<void>;
}

function createPatience({ world: { clock } }: Context, reading: Reading): Patience {
	const { deadlineMs, signal, onAway, gaveUp } = reading;
	let awaySinceMs: number | undefined;
	return {
		isOver: () => signal.aborted || clock.monotonicMs() >= deadlineMs,
		heard: () => (awaySinceMs = undefined),
		failed(error) {
			if (signal.aborted) return;
			const isAway =
				error instanceof GswarmError &&
				(error.code === "NETWORK_ERROR" || error.code === "RESOURCE_UNAVAILABLE");
			if (!isAway) throw error;
			const now = clock.monotonicMs();
			if (awaySinceMs === undefined) onAway();
			awaySinceMs ??= now;
			if (now - awaySinceMs > AWAY_MS) throw gaveUp(error);
		},
		pause(ms, until) {
			const leftMs = Math.max(0, Math.min(ms, deadlineMs - clock.monotonicMs()));
			return clock.sleep(leftMs, until === undefined ? signal : AbortSignal.any([signal, until]));
		},
	};
}

async function* polled(
	api: ApiClient,
	{ taskId, signal }: Reading,
	patience: Patience,
): AsyncGenerator<TaskDocument, void> {
	let pauseMs = FIRST_PAUSE_MS;
	do {
		let task: TaskDocument | undefined;
		try {
			task = await api.call("getTask", { params: { task_id: taskId }, signal });
			patience.heard();
		} catch (error) {
			patience.failed(error);
		}
		if (task !== undefined) yield task;
		await patience.pause(task === undefined ? LONGEST_PAUSE_MS : pauseMs);
		if (task !== undefined) pauseMs = Math.min(pauseMs * 1.5, LONGEST_PAUSE_MS);
	} while (!patience.isOver());
}

/** False: this agent has no such stream. A stream that is cut, which happens, is opened again. */
async function* streamed(
	api: ApiClient,
	{ taskId, signal }: Reading,
	patience: Patience,
): AsyncGenerator<TaskDocument, boolean> {
	while (!patience.isOver()) {
		let events: AsyncGenerator<ReceivedEvent> | undefined;
		try {
			const response = await api.open("taskEvents", { params: { task_id: taskId }, signal });
			if (response.body === null) return false;
			patience.heard();
			events = readEvents(response.body);
		} catch (error) {
			if (error instanceof GswarmError && (error.status === 404 || error.status === 405)) return false;
			patience.failed(error);
		}
		if (events !== undefined) {
			try {
				if (yield* told(events, patience)) return true;
			} finally {
				// Not waited for: a read that is under way may never end.
				void events.return(undefined);
			}
		}
		await patience.pause(FIRST_PAUSE_MS);
	}
	return true;
}

/** What one stream tells; true when the task or the waiting has ended with it. */
async function* told(
	events: AsyncGenerator<ReceivedEvent>,
	patience: Patience,
): AsyncGenerator<TaskDocument, boolean> {
	let last: TaskDocument | undefined;
	let next: Promise<IteratorResult<ReceivedEvent> | "cut"> | undefined;
	while (!patience.isOver()) {
		next ??= events.next().catch(() => "cut" as const);
		const arrived = new AbortController();
		const got = await Promise.race([next, patience.pause(REFRESH_MS, arrived.signal)]);
		arrived.abort();
		if (got === undefined) {
			if (last !== undefined && !patience.isOver()) yield last;
			continue;
		}
		next = undefined;
		if (got === "cut" || got.done === true) return false;
		last = JSON.parse(got.value.data) as TaskDocument;
		yield last;
		if (got.value.event === "end") return true;
	}
	return true;
}
