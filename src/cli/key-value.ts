/** KEY=VALUE, as flags that may be repeated give it. */
import { invalid } from "../schema/errors.ts";

/** The last of a key counts. @throws usage */
export function keysAndValues(texts: readonly string[]): Record<string, string> {
	return Object.fromEntries(texts.map(keyAndValue));
}

function keyAndValue(text: string): [string, string] {
	const at = text.indexOf("=");
	if (at < 1) throw invalid("usage", `--meta ${JSON.stringify(text)}: wanted KEY=VALUE.`);
	return [text.slice(0, at), text.slice(at + 1)];
}
