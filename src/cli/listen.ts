/** The agent's stream of events, over cuts: it goes on after the last event that came. */
import type { ApiClient } from "../api/client.ts";
import { type ReceivedEvent, readEvents } from "../api/event-reader.ts";
import { GswarmError } from "../schema/errors.ts";
import type { Clock } from "../platform/clock.ts";

const PAUSE_MS = 500;
/** How long an agent may be away before nobody waits for it any more. */
const AWAY_MS = 60_000;

export interface Listening {
	api: ApiClient;
	clock: Clock;
	node: string | undefined;
	signal: AbortSignal;
	/** The agent does not answer; called once each time. */
	onAway?: () => void;
}

/** Ends when the signal aborts. @throws what the API says, and that the agent stays away */
export async function* listen({
	api,
	clock,
	node,
	signal,
	onAway,
}: Listening): AsyncGenerator<ReceivedEvent, void> {
	let lastId: string | undefined;
	let awaySinceMs: number | undefined;
	while (!signal.aborted) {
		try {
			const response = await api.open("queueEvents", {
				query: node === undefined ? {} : { node },
				...(lastId === undefined ? {} : { headers: { "last-event-id": lastId } }),
				signal,
			});
			awaySinceMs = undefined;
			if (response.body === null) return;
			for await (const event of untilCut(readEvents(response.body), signal)) {
				lastId = event.id ?? lastId;
				yield event;
			}
		} catch (error) {
			if (signal.aborted) return;
			const isAway =
				error instanceof GswarmError &&
				(error.code === "NETWORK_ERROR" || error.code === "RESOURCE_UNAVAILABLE");
			if (!isAway) throw error;
			if (awaySinceMs === undefined) onAway?.();
			awaySinceMs ??= clock.monotonicMs();
			if (clock.monotonicMs() - awaySinceMs > AWAY_MS) throw error;
		}
		await clock.sleep(PAUSE_MS, signal);
	}
}

/** A stream that is cut has simply ended for now. */
async function* untilCut(
	events: AsyncGenerator<ReceivedEvent>,
	signal: AbortSignal,
): AsyncGenerator<ReceivedEvent, void> {
	const { promise: stopped, resolve: stop } = Promise.withResolvers<undefined>();
	const onAbort = (): void => stop(undefined);
	signal.addEventListener("abort", onAbort, { once: true });
	try {
		for (;;) {
			const next = await Promise.race([events.next().catch(() => undefined), stopped]);
			if (next === undefined || next.done === true) return;
			yield next.value;
		}
	} finally {
		signal.removeEventListener("abort", onAbort);
		// Not waited for: a read that is under way may never end.
		void events.return(undefined);
	}
}
