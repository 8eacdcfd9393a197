/** Flags that every command which moves bytes takes, and what of a request they become. */
import type { Compression } from "../schema/compression.ts";
import { device, model, rate, task } from "./values.ts";
import { COMPRESSION_NAMES, PRIORITY_NAMES } from "./words.ts";

/** What it comes after. */
export const AFTER_ARG = {
	type: "string",
	many: true,
	value: task,
	valueHint: "TASK",
	description: "Begin only when this task has completed, wherever it runs; may bring the model first",
} as const;

/** How much of the machine it may have, and when. */
export const PACE_ARGS = {
	after: AFTER_ARG,
	priority: {
		type: "enum",
		options: PRIORITY_NAMES,
		valueHint: "PRIORITY",
		description: "critical, high, normal or low",
	},
	bandwidth: {
		type: "string",
		value: rate,
		valueHint: "RATE",
		description: "No faster than this over the network, e.g. 100MB/s",
	},
} as const;

/** What goes from node to node. */
export const COMPRESSION_ARG = {
	type: "enum",
	options: COMPRESSION_NAMES,
	valueHint: "HOW",
	description:
		"Compress what goes over the line: auto (where it shrinks and the line is slow), zstd (wherever it shrinks) or none",
} as const;

/** Which files of a source. */
export const FILE_CHOICE_ARGS = {
	include: {
		type: "string",
		many: true,
		valueHint: "PATTERN",
		description: "Only files that match, e.g. '*.safetensors'",
	},
	exclude: { type: "string", many: true, valueHint: "PATTERN", description: "No files that match" },
	"all-files": {
		type: "boolean",
		description: "Also the older formats that a repository keeps beside safetensors",
	},
} as const;

/** The fields of a request that choose files. */
export function fileChoiceFields(values: { include: string[]; exclude: string[]; "all-files": boolean }): {
	include?: string[];
	exclude?: string[];
	all_files?: true;
} {
	return {
		...(values.include.length === 0 ? {} : { include: values.include }),
		...(values.exclude.length === 0 ? {} : { exclude: values.exclude }),
		...(values["all-files"] ? { all_files: true } : {}),
	};
}

/** Sha256 besides the digests of parts. */
export const VERIFY_ARG = {
	type: "boolean",
	description: "Check the sha256 of every file too",
	negativeDescription: "Check the parts' digests only",
} as const;

/** A model and two devices, as words or as --from and --to; `verb` is copy or move. */
export function placeArgs(verb: string) {
	const [from, to] = [`Device to ${verb} from`, `Device to ${verb} to`];
	return {
		name: { type: "positional", value: model, description: "Name of the model" },
		source: { type: "positional", required: false, value: device, description: `${from} (or --from)` },
		target: { type: "positional", required: false, value: device, description: `${to} (or --to)` },
		from: { type: "string", value: device, valueHint: "DEVICE", description: from },
		to: { type: "string", value: device, valueHint: "DEVICE", description: to },
	} as const;
}

type Priority = (typeof PRIORITY_NAMES)[number];

/** The fields of a request; what was not given is left to the agent. */
export function paceFields(values: {
	after?: string[] | undefined;
	priority?: Priority | undefined;
	bandwidth?: number | undefined;
	verify?: boolean | undefined;
	compression?: Compression | undefined;
}): {
	dependencies?: string[];
	priority?: Priority;
	bandwidth_limit?: number;
	verify_checksum?: boolean;
	compression?: Compression;
} {
	const { after = [], priority, bandwidth, verify, compression } = values;
	return {
		...(after.length === 0 ? {} : { dependencies: after }),
		...(priority === undefined ? {} : { priority }),
		...(bandwidth === undefined ? {} : { bandwidth_limit: bandwidth }),
		...(verify === undefined ? {} : { verify_checksum: verify }),
		...(compression === undefined ? {} : { compression }),
	};
}
