/**
 * The changes of all queues of the cluster as one stream: the host's own and each node's, each of which goes on where
 * it was when it or its reader comes back. A reader takes one event at a time from whoever has one, so nothing piles up.
 */
import { type ReceivedEvent, readEvents } from "../../api/event-reader.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Log } from "../../platform/log.ts";
import { invalid } from "../../schema/errors.ts";
import type { ServerEvent } from "../http/event-stream.ts";

/** A node that went away or came back is noticed so often. */
const LOOK_EVERY_MS = 1000;

export interface StreamSources {
	clock: Clock;
	log: Log;
	/** Names of the queues that can be read now. */
	reachable(): string[];
	/** The events of one queue after an id of its own, or from now on. */
	open(queue: string, after: string | undefined, signal: AbortSignal): AsyncIterable<ServerEvent>;
}

/** The last event that a reader has of each queue. */
export type EventPlaces = ReadonlyMap<string, string>;

interface Offer {
	queue: string;
	event: ServerEvent;
	taken(): void;
}

/** Begins after the places, where there are any, and now for every queue that is not among them. */
export async function* clusterChanges(
	{ clock, log, reachable, open }: StreamSources,
	{ after, signal }: { after: EventPlaces; signal: AbortSignal },
): AsyncGenerator<ServerEvent, void> {
	const places = new Map(after);
	const begun = new Set<string>();
	const offers: Offer[] = [];
	const over = new AbortController();
	const all = AbortSignal.any([signal, over.signal]);
	let wake = Promise.withResolvers<void>();
	/** What the reader has and did not come back from. */
	let given: Offer | undefined;
	all.addEventListener("abort", () => {
		for (const { taken } of offers) taken();
		given?.taken();
		wake.resolve();
	});

	const offer = (queue: string, event: ServerEvent): Promise<void> =>
		new Promise((resolve) => {
			if (all.aborted) return resolve();
			offers.push({ queue, event, taken: resolve });
			wake.resolve();
		});
	const read = async (queue: string): Promise<void> => {
		try {
			for await (const event of open(queue, places.get(queue), all)) {
				if (all.aborted) return;
				await offer(queue, event);
			}
		} catch (error) {
			// It went away; what it does meanwhile is told when it is back.
			log.debug("events.queue_away", { queue, error });
		} finally {
			begun.delete(queue);
		}
	};
	let isFirst = true;
	const look = async (): Promise<void> => {
		while (!all.aborted) {
			for (const queue of reachable()) {
				if (begun.has(queue)) continue;
				begun.add(queue);
				// Whoever appears under way was away: what it did before is unknown to the reader.
				if (!isFirst && !places.has(queue)) await offer(queue, { event: "reset", data: { node: queue } });
				void read(queue);
			}
			isFirst = false;
			await clock.sleep(LOOK_EVERY_MS, all);
		}
	};
	const looking = look();
	try {
		while (!all.aborted) {
			given = offers.shift();
			if (given === undefined) {
				await wake.promise;
				wake = Promise.withResolvers();
				continue;
			}
			const { id, ...rest } = given.event;
			if (id !== undefined) places.set(given.queue, id);
			yield id === undefined ? rest : { ...rest, id: formatPlaces(places) };
			given.taken();
		}
	} finally {
		over.abort();
		await looking;
	}
}

/** What the id of an event of this stream says; none: everything begins now. @throws 400 bad_event_id */
export function parsePlaces(text: string | undefined): EventPlaces {
	const places = new Map<string, string>();
	if (text === undefined) return places;
	for (const part of text.split(",")) {
		const [, queue, id] = /^([A-Za-z0-9][A-Za-z0-9._-]{0,62})=(\d{1,15})$/.exec(part) ?? [];
		if (queue === undefined || id === undefined) {
			throw invalid("bad_event_id", "The event id is not one that this stream gave.", {
				field: "Last-Event-ID",
			});
		}
		places.set(queue, id);
	}
	return places;
}

/** A node's stream, as this host's readers get it. It may end at any time; who reads asks again. */
export async function* opened(opening: Promise<Response>): AsyncGenerator<ServerEvent, void> {
	const { body } = await opening;
	if (body === null) return;
	const events = readEvents(body);
	for (;;) {
		const next = await events.next().catch(() => undefined);
		if (next === undefined || next.done === true) return;
		yield toServerEvent(next.value);
	}
}

function toServerEvent({ id, event, data }: ReceivedEvent): ServerEvent {
	// Only events that are worth going on after bring an id of their own.
	const parsed: unknown = JSON.parse(data);
	return id === undefined || event === "progress" || event === "reset"
		? { event, data: parsed }
		: { id, event, data: parsed };
}

/** `node1=17,node2=3`. */
function formatPlaces(places: EventPlaces): string {
	return [...places].map(([queue, id]) => `${queue}=${id}`).join(",");
}
