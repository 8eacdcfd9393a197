/**
 * Server-sent events. A stream holds nothing for its reader: the next event is looked for when the reader has taken
 * the one before, so a slow reader costs as much as a fast one, and one that reads no more is closed by the listener.
 */
import type { Clock } from "../../platform/clock.ts";

export interface ServerEvent {
	/** What `Last-Event-ID` goes on after; left out where nothing is missed by missing this event. */
	id?: string;
	event: string;
	/** Sent as JSON. */
	data: unknown;
}

/** The listener closes connections that are silent for a minute; proxies often do after half of one. */
const HEARTBEAT_MS = 15_000;
const encoder = new TextEncoder();

/** The answer of a route. The events end with it, or when the reader goes away; `open` hears of that by its signal. */
export function eventStream(
	clock: Clock,
	request: Request,
	open: (signal: AbortSignal) => AsyncIterator<ServerEvent>,
): Response {
	const over = new AbortController();
	const signal = AbortSignal.any([over.signal, request.signal]);
	const events = open(signal);
	let next: Promise<IteratorResult<ServerEvent>> | undefined;
	const stop = async (): Promise<void> => {
		over.abort();
		await events.return?.();
	};
	const body = new ReadableStream<Uint8Array>(
		{
			// At once, so that who asks sees that it listens.
			start: (controller) => controller.enqueue(encoder.encode(":\n\n")),
			async pull(controller) {
				next ??= events.next();
				const quiet = new AbortController();
				const silence = clock.sleep(HEARTBEAT_MS, AbortSignal.any([quiet.signal, signal]));
				try {
					const got = await Promise.race([next, silence]);
					if (got === undefined) {
						if (signal.aborted) controller.close();
						else controller.enqueue(encoder.encode(":\n\n"));
						return;
					}
					next = undefined;
					if (got.done === true) controller.close();
					else controller.enqueue(encoder.encode(formatEvent(got.value)));
				} catch (error) {
					await stop();
					throw error;
				} finally {
					quiet.abort();
				}
			},
			cancel: stop,
		},
		{ highWaterMark: 0 },
	);
	return new Response(body, {
		headers: { "content-type": "text/event-stream", "cache-control": "no-store", "x-accel-buffering": "no" },
	});
}

/** As the wire has it; JSON has no line breaks, so `data` is one line. */
export function formatEvent({ id, event, data }: ServerEvent): string {
	return `${id === undefined ? "" : `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}
