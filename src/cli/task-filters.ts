/** The flags by which tasks are chosen, the same for every list of them. */
import type { Priority } from "../schema/task.ts";
import { shellWord } from "./render/shell-word.ts";
import { type ValueKind, node } from "./values.ts";
import { PRIORITY_NAMES, TASK_TYPE_NAMES } from "./words.ts";

export const TASK_FILTER_ARGS = {
	type: {
		type: "enum",
		options: TASK_TYPE_NAMES,
		valueHint: "TYPE",
		description: `Only ${TASK_TYPE_NAMES.slice(0, -1).join(", ")} or ${TASK_TYPE_NAMES.at(-1) ?? ""} tasks`,
	},
	priority: {
		type: "enum",
		options: PRIORITY_NAMES,
		valueHint: "PRIORITY",
		description: `Only ${PRIORITY_NAMES.slice(0, -1).join(", ")} or ${PRIORITY_NAMES.at(-1) ?? ""} ones`,
	},
	node: { type: "string", value: node, valueHint: "NODE", description: "Only tasks of this node" },
} as const;

const LIVE_STATUSES: ("pending" | "running")[] = ["pending", "running"];

/** Of tasks that have not ended. */
export const LIVE_STATUS_ARG = {
	type: "enum",
	options: LIVE_STATUSES,
	valueHint: "STATUS",
	description: "Only pending or running ones",
} as const;

export const WATCH_ARG = {
	type: "boolean",
	description: "Go on showing what changes, until Ctrl-C",
} as const;

/** Several priorities, with commas between them. */
export const priorities: ValueKind<Priority[]> = {
	parse: (text) => {
		const known = text.split(",").flatMap((word) => PRIORITY_NAMES.filter((name) => name === word.trim()));
		return known.length === text.split(",").length ? known : undefined;
	},
	wanted: `some of ${PRIORITY_NAMES.join(",")}`,
};

/** The command line of the next page: the same question, from where this page ended. */
export function nextPage(
	command: string,
	cursor: string,
	filter: Record<string, string | undefined>,
): string {
	const flags = Object.entries(filter).flatMap(([name, value]) =>
		value === undefined ? [] : [`--${name} ${shellWord(value)}`],
	);
	return [command, `--cursor ${cursor}`, ...flags].join(" ");
}

/** The filters that were given, as a query has them. */
export function given<Filter extends object>(
	filter: Filter,
): { [K in keyof Filter]?: NonNullable<Filter[K]> } {
	return Object.fromEntries(Object.entries(filter).filter(([, value]) => value !== undefined)) as {
		[K in keyof Filter]?: NonNullable<Filter[K]>;
	};
}

/** What an answer about the whole cluster does not know of. */
export function missing(nodes: readonly string[] | undefined): string | undefined {
	if (nodes === undefined || nodes.length === 0) return undefined;
	return `Without ${nodes.join(", ")}, which ${nodes.length === 1 ? "does" : "do"} not answer.`;
}
