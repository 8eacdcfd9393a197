/** Texts and objects that come out of a model's files, made fit to be shown. */

const MAX_TEXT = 120;

/** A short text from outside, for people; control characters make it no answer. */
export function shownText(value: unknown): string | undefined {
	if (typeof value !== "string" || value === "" || /\p{Cc}/u.test(value)) return undefined;
	return value.length > MAX_TEXT ? `${value.slice(0, MAX_TEXT - 1)}…` : value;
}

/** An object from outside; anything else has no keys. */
export function recordOf(value: unknown): Record<string, unknown> {
	return typeof value === "object" && value !== null && !Array.isArray(value)
		? (value as Record<string, unknown>)
		: {};
}
