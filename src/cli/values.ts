/** Kinds of values that flags and arguments take: how each is read, and how its wanted form is said. */
import { parseSize } from "../schema/byte-size.ts";
import { parseDevice } from "../schema/device.ts";
import {
	isModelName,
	parseContextName,
	parseNewTokenName,
	parseModelName,
	parseNodeName,
	parseRevision,
	parseServiceId,
	parseTaskId,
	parseTokenName,
} from "../schema/names.ts";
import { parseDuration, parseRate } from "./render/format.ts";

/** Names that a shell can complete from the running agent. */
export type LiveName = "models" | "nodes" | "devices" | "tasks" | "services" | "tokens" | "contexts";

export interface ValueKind<Value> {
	/** The value, or undefined when the text is none. @throws GswarmError that says more */
	parse: (text: string) => Value | undefined;
	/** Completes "wanted …" in the message. */
	wanted: string;
	live?: LiveName;
	/** All there is, where the choice is small. */
	words?: readonly string[];
	/** It names a file or directory of this machine. */
	isPath?: boolean;
}

export const size: ValueKind<number> = {
	parse: parseSize,
	wanted: "a size such as 64MB, 10GiB or a number of bytes",
};
/** Null: no limit. */
export const rateOrNone: ValueKind<number | null> = {
	parse: (text) => (text === "none" ? null : parseRate(text)),
	wanted: "a rate such as 100MB/s, or none",
	words: ["none"],
};
export const rate: ValueKind<number> = { parse: parseRate, wanted: "a rate such as 100MB/s" };
/** Milliseconds. */
export const duration: ValueKind<number> = {
	parse: parseDuration,
	wanted: "a duration such as 90s, 10m or 1h30m",
};
/** Milliseconds; who writes 0 may mean for ever or not at all. */
export const lifetime: ValueKind<number> = {
	parse: (text) => {
		const ms = parseDuration(text);
		return ms !== undefined && ms >= 1000 ? ms : undefined;
	},
	wanted: "a duration of at least a second, such as 90m or 30d",
};
export const port: ValueKind<number> = {
	parse: (text) => integer(text, 0, 65_535),
	wanted: "a port from 1 to 65535 (0: any free one)",
};
export const count: ValueKind<number> = {
	parse: (text) => integer(text, 1, 1_000_000),
	wanted: "a whole number from 1",
};
export const model: ValueKind<string> = { parse: parseModelName, wanted: "a model name", live: "models" };
/** NAME, or NAME@REVISION. */
export const modelAt: ValueKind<{ name: string; revision: string | undefined }> = {
	parse(text) {
		const at = text.indexOf("@");
		if (at < 0) return { name: parseModelName(text), revision: undefined };
		return { name: parseModelName(text.slice(0, at)), revision: parseRevision(text.slice(at + 1)) };
	},
	wanted: "a model name, or NAME@REVISION",
	live: "models",
};
export const revision: ValueKind<string> = {
	parse: parseRevision,
	wanted: "a revision, or the beginning of one",
};
export const node: ValueKind<string> = { parse: parseNodeName, wanted: "a node name", live: "nodes" };
export const task: ValueKind<string> = { parse: parseTaskId, wanted: "a task id", live: "tasks" };
export const service: ValueKind<string> = {
	parse: (text) => (isModelName(text) ? text : parseServiceId(text)),
	wanted: "a service id or the name of a served model",
	live: "services",
};
export const token: ValueKind<string> = {
	parse: parseTokenName,
	wanted: "a token's id or name",
	live: "tokens",
};
export const tokenName: ValueKind<string> = { parse: parseNewTokenName, wanted: "a token's name" };
/** sha256, hex; what was copied with colons or capitals is the same. */
export const pin: ValueKind<string> = {
	parse: (text) => {
		const hex = text.replaceAll(":", "").toLowerCase();
		return /^[0-9a-f]{64}$/.test(hex) ? hex : undefined;
	},
	wanted: "64 hex digits",
};
export const context: ValueKind<string> = {
	parse: parseContextName,
	wanted: "a context's name",
	live: "contexts",
};
/** Checked here and sent as it was typed: the agent writes names its own way. */
export const device: ValueKind<string> = {
	parse: (text) => {
		parseDevice(text);
		return text;
	},
	wanted: "a device such as node1:disk",
	live: "devices",
};

/** With commas between them; `all:disk` is the disk of every node. */
export const devices: ValueKind<string> = {
	parse: (text) => {
		for (const one of text.split(",")) parseDevice(one);
		return text;
	},
	wanted: "a device such as node1:disk, or several with commas",
	live: "devices",
};
/** With commas between them. */
export const models: ValueKind<string> = {
	parse: (text) => {
		for (const one of text.split(",")) parseModelName(one);
		return text;
	},
	wanted: "a model name, or several with commas",
	live: "models",
};

export const path: ValueKind<string> = { parse: (text) => text, wanted: "a path", isPath: true };

function integer(text: string, least: number, most: number): number | undefined {
	if (!/^\d{1,9}$/.test(text)) return undefined;
	const value = Number(text);
	return value >= least && value <= most ? value : undefined;
}
