/** `gswarm agent --detach`: the same program again in the background, until it is ready or has failed. */
import { closeSync, openSync, readSync, fstatSync } from "node:fs";
import { join } from "node:path";
import type { AgentOptions } from "./agent.ts";
import { LOG_LIMIT_BYTES, trimLog } from "../platform/log-file.ts";
import { ensurePrivateDirectory } from "../platform/private-directory.ts";
import { GswarmError } from "../schema/errors.ts";
import { isAgentProcess, readAgentFile, startingAgent } from "./agent-file.ts";
import { safeText } from "./render/safe-text.ts";
import type { Context } from "./context.ts";
import { EXIT } from "./exit-codes.ts";
import { withSpinner } from "./spinner.ts";

const READY_WITHIN_MS = 60_000;
const LOOK_EVERY_MS = 50;
/** The agent prints its banner right after it says that it is ready. */
const BANNER_WITHIN_MS = 2_000;
const LAST_LINES = 15;

/** Starts it and prints what it would print; answers its exit status when it ends instead. */
export async function startDetached(context: Context, options: AgentOptions): Promise<number> {
	const { dataDir } = options;
	const { say, out, globals } = context;
	const last = readAgentFile(dataDir);
	const running = last !== undefined && isAgentProcess(last.pid) ? last : startingAgent(dataDir);
	if (running !== undefined) {
		throw new GswarmError("CONFLICT", `An agent runs already with ${dataDir} (pid ${running.pid}).`, {
			reason: "data_dir_in_use",
			hint: "`gswarm agent status` shows it, `gswarm agent stop` stops it.",
		});
	}
	ensurePrivateDirectory(dataDir);
	trimLog(join(dataDir, "agent.log"), LOG_LIMIT_BYTES);
	const log = openSync(join(dataDir, "agent.log"), "a+", 0o600);
	try {
		const from = fstatSync(log).size;
		const child = Bun.spawn({
			cmd: [...selfCommand(), ...argumentsOf(options)],
			stdio: [options.joinString === undefined ? "ignore" : Buffer.from(`${options.joinString}\n`), log, log],
			// Its own session: it outlives this terminal.
			detached: true,
		});
		const ready = await withSpinner(context, "Starting the agent", () =>
			waitForReady(context, dataDir, { child, said: () => readFrom(log, from) }),
		);
		if (!ready) {
			if (child.exitCode === null) {
				child.kill("SIGTERM");
				say.error(`The agent was not ready within ${READY_WITHIN_MS / 1000} s.`);
			}
			context.screen.print(safeText(lastWords(readFrom(log, from))));
			// What is wrong with the command line says so itself.
			if (child.exitCode !== EXIT.usage) say.hint(`The whole log is ${join(dataDir, "agent.log")}`);
			return child.exitCode === null || child.exitCode === 0 ? EXIT.failed : child.exitCode;
		}
		child.unref();
		const banner = await waitForBanner(context, () => readFrom(log, from));
		if (!globals.quiet) out.text(banner);
		say.info(`It runs in the background (pid ${child.pid}); \`gswarm agent stop${say.place}\` stops it.`);
		return EXIT.done;
	} finally {
		closeSync(log);
	}
}

/** The last lines that are for people; when there are none, of the log. */
function lastWords(said: string): string {
	const lines = said.trimEnd().split("\n");
	const forPeople = lines.filter((line) => !line.startsWith("{"));
	return (forPeople.length > 0 ? forPeople : lines).slice(-LAST_LINES).join("\n");
}

/** How this very program is started: compiled it is one file, from source bun runs its entry. */
function selfCommand(): string[] {
	return Bun.main.startsWith("/$bunfs/") ? [process.execPath] : [process.execPath, Bun.main];
}

/** The command line of an agent with these options. */
export function argumentsOf(options: AgentOptions): string[] {
	const { role, joinUrl, nodeName, bind, tls, tlsFiles, hostPort, nodePort, peerPort } = options;
	const { advertise = [], disks, dramBytes, simulatedGpus = [] } = options;
	const flag = (name: string, value: string | number | undefined): string[] =>
		value === undefined ? [] : [`--${name}=${value}`];
	return [
		"agent",
		...(role?.host ? ["--host"] : []),
		...flag("join", joinUrl),
		...flag("node", nodeName),
		...flag("data-dir", options.dataDir),
		...flag("bind", bind),
		...advertise.flatMap((name) => flag("advertise", name)),
		...(tls === true ? ["--tls"] : []),
		...flag("tls-cert", tlsFiles?.certificate),
		...flag("tls-key", tlsFiles?.key),
		...flag("port", hostPort),
		...flag("node-port", nodePort),
		...flag("peer-port", peerPort),
		...disks.flatMap(({ path, sizeBytes }) =>
			flag("disk", sizeBytes === undefined ? path : `${path}=${sizeBytes}`),
		),
		...flag("dram", dramBytes),
		...simulatedGpus.flatMap((sizeBytes) => flag("sim-gpu", sizeBytes)),
		...flag("log-level", options.logLevel),
	];
}

interface Started {
	child: Pick<Bun.Subprocess, "pid" | "exitCode" | "signalCode">;
	/** What it has written until now. */
	said: () => string;
}

/** True when its file says that it is ready; false when it ended or took too long, but for an admin to let it in. */
async function waitForReady(
	{ world, say }: Context,
	dataDir: string,
	{ child, said }: Started,
): Promise<boolean> {
	const deadline = world.clock.monotonicMs() + READY_WITHIN_MS;
	let asks = false;
	while (asks || world.clock.monotonicMs() < deadline) {
		if (readAgentFile(dataDir)?.pid === child.pid) return true;
		if (child.exitCode !== null || child.signalCode !== null) return false;
		const hint = asks ? undefined : admission(said());
		if (hint !== undefined) {
			asks = true;
			say.info(`It waits in the background (pid ${child.pid}) to be let in: ${hint}`);
		}
		await world.clock.sleep(LOOK_EVERY_MS);
	}
	return false;
}

/** What an agent that an admin has to let in says in its log. */
function admission(said: string): string | undefined {
	// The last line may be half written.
	const lines = said.split("\n").slice(0, -1);
	const line = lines.find((it) => it.includes('"event":"join.waiting"'));
	return line === undefined ? undefined : String((JSON.parse(line) as { hint?: unknown }).hint);
}

async function waitForBanner({ world }: Context, read: () => string): Promise<string> {
	const deadline = world.clock.monotonicMs() + BANNER_WITHIN_MS;
	for (;;) {
		const lines = read()
			.split("\n")
			.filter((line) => !line.startsWith("{") && !line.startsWith("Ctrl-C"));
		const text = lines.join("\n").trim();
		if (text !== "" || world.clock.monotonicMs() > deadline) return text;
		await world.clock.sleep(LOOK_EVERY_MS);
	}
}

function readFrom(fd: number, position: number): string {
	const bytes = Buffer.alloc(Math.max(0, fstatSync(fd).size - position));
	const read = readSync(fd, bytes, 0, bytes.length, position);
	return bytes.toString("utf8", 0, read);
}
