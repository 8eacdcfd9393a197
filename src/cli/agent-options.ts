/** The flags of `gswarm agent` as one plain object, and the join string from where a secret may come. */
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { AgentOptions } from "./agent.ts";
import { parseSize } from "../schema/byte-size.ts";
import { invalid } from "../schema/errors.ts";
import { parseHostUrl, readTokenFile } from "./connection.ts";
import type { Context } from "./context.ts";

export interface AgentFlags {
	host: boolean;
	join: string | undefined;
	"join-file": string | undefined;
	node: string | undefined;
	port: number | undefined;
	"node-port": number | undefined;
	"peer-port": number | undefined;
	bind: string | undefined;
	advertise: readonly string[];
	tls: boolean;
	"tls-cert": string | undefined;
	"tls-key": string | undefined;
	disk: readonly string[];
	dram: number | undefined;
	"sim-gpu": readonly number[];
	"log-level": AgentOptions["logLevel"];
}

const LONGEST_JOIN_STRING = 1000;
const SILENT_MS = 2000;

/** @throws INVALID_REQUEST usage or unsafe_token_file */
export async function agentOptions(context: Context, flags: AgentFlags): Promise<AgentOptions> {
	if (flags.join !== undefined && flags.host) {
		throw invalid("usage", "--host and --join exclude each other: a machine is the host, or joins one.");
	}
	if (flags["join-file"] !== undefined && flags.join === undefined) {
		throw invalid("usage", "--join-file needs --join URL.");
	}
	if ((flags["tls-cert"] === undefined) !== (flags["tls-key"] === undefined)) {
		throw invalid("usage", "--tls-cert and --tls-key go together: a certificate and its key.");
	}
	for (const name of flags.advertise) if (/[/@]|^[^:]*:\d*$/.test(name)) throw notAName(name);
	const joinUrl = flags.join === undefined ? undefined : parseHostUrl(flags.join, "--join").origin;
	const joinString = joinUrl === undefined ? undefined : await readJoinString(context, flags["join-file"]);
	return {
		dataDir: resolve(context.dataDir),
		disks: flags.disk.map(parseDisk),
		logLevel: flags["log-level"],
		...(flags.host ? { role: { host: true, node: flags.node !== undefined } } : {}),
		...(joinUrl === undefined ? {} : { role: { host: false, node: true }, joinUrl }),
		...(joinString === undefined ? {} : { joinString }),
		...(flags.node === undefined ? {} : { nodeName: flags.node }),
		...(flags.bind === undefined ? {} : { bind: flags.bind }),
		...(flags.advertise.length === 0 ? {} : { advertise: flags.advertise }),
		...(flags.tls ? { tls: true } : {}),
		...tlsFilesOf(flags),
		...(flags.port === undefined ? {} : { hostPort: flags.port }),
		...(flags["node-port"] === undefined ? {} : { nodePort: flags["node-port"] }),
		...(flags["peer-port"] === undefined ? {} : { peerPort: flags["peer-port"] }),
		...(flags.dram === undefined ? {} : { dramBytes: flags.dram }),
		...(flags["sim-gpu"].length === 0 ? {} : { simulatedGpus: flags["sim-gpu"] }),
	};
}

function tlsFilesOf({ "tls-cert": certificate, "tls-key": key }: AgentFlags): Pick<AgentOptions, "tlsFiles"> {
	if (certificate === undefined || key === undefined) return {};
	return { tlsFiles: { certificate: resolve(certificate), key: resolve(key) } };
}

function notAName(text: string): Error {
	return invalid(
		"usage",
		`--advertise ${JSON.stringify(text.slice(0, 120))}: wanted a host name or an address, without scheme and port.`,
		{},
		"e.g. `--advertise gpu1.lan`; the port is --port.",
	);
}

/** `/mnt/nvme1=2TB`: the last `=` divides, so that a path may hold one. */
export function parseDisk(text: string): AgentOptions["disks"][number] {
	const at = text.lastIndexOf("=");
	if (at < 0) return { path: resolve(text) };
	const sizeBytes = parseSize(text.slice(at + 1));
	if (at === 0 || sizeBytes === undefined) {
		throw invalid("usage", `--disk ${JSON.stringify(text)}: wanted PATH or PATH=SIZE, e.g. /mnt/nvme1=2TB.`);
	}
	return { path: resolve(text.slice(0, at)), sizeBytes };
}

/** `--host 0.0.0.0` is what fingers know from other programs. */
export function strayOnAgent(word: string, flagBefore: string | undefined): string | undefined {
	return flagBefore === "--host"
		? `--host is a role and takes no value; did you mean \`--bind ${word}\`?`
		: undefined;
}

async function readJoinString(
	{ world, say, globals, screen, dataDir }: Context,
	file: string | undefined,
): Promise<string | undefined> {
	if (file !== undefined) return readTokenFile(file, "--join-file");
	const { stdin, stderr } = world.terminal;
	if (stdin.isTty) {
		if (!globals.input || hasJoined(dataDir)) return undefined;
		screen.clear();
		const typed = await stdin.readHidden(LONGEST_JOIN_STRING, () =>
			stderr.write("Join string (not shown): "),
		);
		stderr.write("\n");
		return typed?.trim() || undefined;
	}
	const over = new AbortController();
	const sayThatWeWait = async (): Promise<void> => {
		await world.clock.sleep(SILENT_MS, over.signal);
		if (!over.signal.aborted) say.info("Waiting for the join string on standard input…");
	};
	void sayThatWeWait();
	try {
		const line = (await stdin.readLine(LONGEST_JOIN_STRING))?.trim();
		return line === undefined || line === "" ? undefined : line;
	} finally {
		over.abort();
	}
}

/** A machine that has joined before needs no string; what its file holds is the agent's to judge. */
function hasJoined(dataDir: string): boolean {
	try {
		const file = JSON.parse(readFileSync(join(dataDir, "node.json"), "utf8")) as { joined?: unknown };
		return file.joined !== undefined;
	} catch {
		return false;
	}
}
