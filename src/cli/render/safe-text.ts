/** Text of other machines, made harmless for a terminal: names, messages and logs may hold anything. */

/** C0 but tab and newline, DEL, C1, and the marks that reorder what is shown. */
// oxlint-disable-next-line no-control-regex -- control characters are what is removed
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
/** Control strings (DCS, SOS, OSC, PM, APC) with all they carry, in their 7- and 8-bit forms. */
const CONTROL_STRING =
	// oxlint-disable-next-line no-control-regex -- control characters are what is removed
	/(?:\u001b[P\]X^_]|[\u0090\u0098\u009d-\u009f])[^\u0007\u001b\u009c]*(?:\u0007|\u001b\\|\u009c|$)/g;

/** The text without escape sequences and control characters; lines and tabs stay. */
export function safeText(text: string): string {
	return Bun.stripANSI(text.replace(CONTROL_STRING, "")).replace(HIDDEN, "");
}

/** The same on one line, for a table's cell or a message. */
export function safeLine(text: string): string {
	return safeText(text.replaceAll(/\r\n?/g, "\n"))
		.replaceAll(/[\n\t]+/g, " ")
		.trim();
}

/** JSON of a document, with the controls that JSON leaves as they are written as escapes: the same value. */
export function safeJson(value: unknown): string {
	return JSON.stringify(value, null, 2).replace(
		/[\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g,
		(character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
	);
}
