/** What was read from a model's files, for people. */
import type { Detected } from "../../schema/detected.ts";
import type { FieldValue } from "./fields.ts";
import { formatBytes, formatCount } from "./format.ts";
import { safeLine } from "./safe-text.ts";
import type { Column } from "./table.ts";

/** Tokens of context whose memory is told: what one chat takes, not the most that is possible. */
const SHOWN_TOKENS = 1000;

export const DETECTED_COLUMNS: readonly Column[] = [
	{ title: "FORMAT" },
	{ title: "ARCHITECTURE" },
	{ title: "PARAMETERS", align: "right" },
	{ title: "PRECISION" },
	{ title: "CONTEXT", align: "right" },
	{ title: "WEIGHTS", align: "right" },
	{ title: "KV/1K", align: "right" },
];

/** A cell for each column; `-` where nothing is known. */
export function detectedCells(detected: Detected | null | undefined): string[] {
	if (detected === null || detected === undefined) return DETECTED_COLUMNS.map(() => "-");
	const { format, architecture, parameters, precision, context_length: context } = detected;
	return [
		safeLine(format),
		safeLine(architecture ?? "-"),
		parameters === null ? "-" : formatCount(parameters),
		safeLine(precision ?? "-"),
		context === null ? "-" : String(context),
		bytesOrNone(detected.weights_bytes),
		bytesOrNone(
			detected.kv_cache_bytes_per_token === null ? null : detected.kv_cache_bytes_per_token * SHOWN_TOKENS,
		),
	];
}

/** The same as fields of one model; those that are not known are left out. */
export function detectedFields({
	architecture,
	parameters,
	precision,
	context_length: context,
	license,
	weights_bytes: weights,
	kv_cache_bytes_per_token: perToken,
	memory_bytes: memory,
}: Omit<Detected, "detector" | "format" | "model_type">): (readonly [string, FieldValue])[] {
	return [
		["Architecture", architecture],
		["Parameters", parameters === null ? null : formatCount(parameters)],
		["Precision", precision],
		["Context", context === null ? null : `${context} tokens`],
		["Licence", license],
		["Weights", weights === null ? null : formatBytes(weights)],
		[
			"KV cache",
			perToken === null ? null : `${formatBytes(perToken * SHOWN_TOKENS)} per ${SHOWN_TOKENS} tokens`,
		],
		[
			"Memory",
			memory === null || perToken === null || context === null
				? null
				: `${formatBytes(memory)} with a full context (estimate)`,
		],
	];
}

function bytesOrNone(bytes: number | null): string {
	return bytes === null ? "-" : formatBytes(bytes);
}
