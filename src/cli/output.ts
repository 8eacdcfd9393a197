/** The answer of a command on standard output, in the form that was asked for. */
import { safeJson, safeLine } from "./render/safe-text.ts";
import type { TextSink } from "./terminal.ts";

export type OutputFormat = "table" | "wide" | "json" | "yaml" | "name";

export interface View {
	/** Names or ids, for `-o name` and `--quiet`. */
	names: () => readonly string[];
	/** For people; every text of a server in it has gone through safeLine. Empty: nothing is printed. */
	human: (wide: boolean) => string;
}

export interface Output {
	readonly format: OutputFormat;
	/** Whether a program reads it, which wants the whole answer and no words. */
	readonly forPrograms: boolean;
	/** The API's answer: as it came for programs, else as the view shows it. */
	show(body: unknown, view: View): Promise<void>;
	/** Text as it is. */
	text(text: string): void;
}

export function createOutput(
	sink: TextSink,
	{ format, quiet }: { format: OutputFormat; quiet: boolean },
): Output {
	const text = (value: string): void => {
		if (value !== "") sink.write(value.endsWith("\n") ? value : `${value}\n`);
	};
	return {
		format,
		forPrograms: format === "json" || format === "yaml",
		text,
		async show(body, view) {
			if (format === "json") return text(safeJson(body));
			if (format === "yaml") return text(await toYaml(body));
			if (format === "name" || quiet) return text(view.names().map(safeLine).join("\n"));
			text(view.human(format === "wide"));
		},
	};
}

/** C1, and the marks that reorder what is shown: YAML leaves them as they are. */
const LEFT_BY_YAML = /[\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

async function toYaml(body: unknown): Promise<string> {
	const { stringify } = await import("yaml");
	const text = stringify(body, { lineWidth: 0 });
	if (text.search(LEFT_BY_YAML) < 0) return text;
	// Only a double-quoted string has escapes.
	const quoted = stringify(body, {
		lineWidth: 0,
		defaultStringType: "QUOTE_DOUBLE",
		defaultKeyType: "QUOTE_DOUBLE",
	});
	return quoted.replace(
		LEFT_BY_YAML,
		(character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
	);
}
