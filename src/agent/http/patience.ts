/**
 * How long a connection may be silent. A model may think for minutes before its first word, and a receiver may be slow
 * on purpose; but who was not let in, and who has got their answer, has no reason to be waited for: otherwise anybody
 * could hold connections for ever, one request each.
 */

import { endingBody } from "../../platform/ending-body.ts";

/** What a listener lets be done to the connection of a request. */
export interface Connection {
	/** Silence has no end until `hurry`. */
	wait(): void;
	/** Silence ends the connection, as it did before. */
	hurry(): void;
}

/** Makes an answer in its own time; a stream of events has its time until the last of them. */
export async function inOwnTime(
	connection: Connection | undefined,
	answer: () => Promise<Response> | Response,
): Promise<Response> {
	if (connection === undefined) return answer();
	connection.wait();
	let isOver = true;
	try {
		const response = await answer();
		const { body, status } = response;
		const isStream = response.headers.get("content-type")?.startsWith("text/event-stream") === true;
		if (!isStream || body === null) return response;
		isOver = false;
		const hurry = (): void => connection.hurry();
		const whole = endingBody(body, { end: hurry, cancel: hurry });
		return new Response(whole, { status, headers: response.headers });
	} finally {
		if (isOver) connection.hurry();
	}
}
