/** Flags that every command understands, wherever they stand on the line. */
import type { Args, Values } from "./args.ts";
import { context, duration, path } from "./values.ts";

export const GLOBAL_ARGS = {
	json: { type: "boolean", description: "Print the API's answer as JSON (same as -o json)" },
	output: {
		type: "enum",
		alias: "o",
		options: ["table", "wide", "json", "yaml", "name"],
		valueHint: "FORMAT",
		description: "table, wide (more columns), json, yaml, or name (one name per line)",
	},
	quiet: { type: "boolean", alias: "q", description: "Print names or ids only, and no messages but errors" },
	"data-dir": {
		type: "string",
		value: path,
		valueHint: "DIR",
		description: "Data directory of the agent (GSWARM_HOME, else ~/.gswarm)",
	},
	context: {
		type: "string",
		value: context,
		valueHint: "NAME",
		description: "Cluster to talk to, as `gswarm login` stored it; `local` is this machine's agent",
	},
	timeout: {
		type: "string",
		value: duration,
		valueHint: "TIME",
		description: "Stop waiting after this long, e.g. 10m; a task goes on (exit 124)",
	},
	yes: { type: "boolean", alias: "y", description: "Do not ask for confirmation" },
	input: {
		type: "boolean",
		default: true,
		negativeDescription: "Never ask anything; what would be asked is an error",
	},
	color: { type: "boolean", default: true, negativeDescription: "No colours (also NO_COLOR)" },
	debug: { type: "boolean", description: "Show each API call and the inside of an error, on stderr" },
	help: { type: "boolean", alias: "h", description: "Show help for a command" },
} as const satisfies Args;

export type Globals = Values<typeof GLOBAL_ARGS>;
