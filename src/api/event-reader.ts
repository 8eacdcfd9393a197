/** Reading server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html, section 9.2.6). */

export interface ReceivedEvent {
	/** The last id that the stream gave; undefined before the first. */
	id: string | undefined;
	event: string;
	data: string;
}

/** Longer than any event of ours; a stream that exceeds it is not one. */
const MAX_EVENT_CHARACTERS = 8 * 1024 * 1024;

/** The events of a body, as they come. Comments yield nothing. @throws RangeError for an event without end */
export async function* readEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<ReceivedEvent> {
	const decoder = new TextDecoder();
	let text = "";
	let id: string | undefined;
	for await (const bytes of body) {
		text += decoder.decode(bytes, { stream: true });
		let from = 0;
		for (;;) {
			const end = text.indexOf("\n\n", from);
			if (end < 0) break;
			const fields = fieldsOf(text.slice(from, end));
			from = end + 2;
			id = fields.id ?? id;
			if (fields.data !== undefined) yield { id, event: fields.event ?? "message", data: fields.data };
		}
		text = text.slice(from);
		if (text.length > MAX_EVENT_CHARACTERS) throw new RangeError("an event that does not end");
	}
}

function fieldsOf(block: string): { id?: string; event?: string; data?: string } {
	const fields: { id?: string; event?: string; data?: string } = {};
	for (const line of block.split("\n")) {
		const at = line.indexOf(":");
		if (at === 0) continue;
		const name = at < 0 ? line : line.slice(0, at);
		const value = at < 0 ? "" : line.slice(at + 1).replace(/^ /, "");
		if (name === "data") fields.data = fields.data === undefined ? value : `${fields.data}\n${value}`;
		else if (name === "id" && !value.includes("\0")) fields.id = value;
		else if (name === "event") fields.event = value;
	}
	return fields;
}
