/** How a running agent is found: the file that it keeps in its data directory while it is ready. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { GswarmError } from "../schema/errors.ts";

export interface AgentFile {
	pid: number;
	role: string;
	name: string;
	/** Seconds since the epoch. */
	started_at: number;
	host_url?: string;
	node_url?: string;
	peer_url?: string;
	/** Where the host has a certificate of the operator's own: by which name or address that one is met. */
	advertised_url?: string;
	/** PEM of the cluster's CA, where the agent speaks https. */
	ca_file?: string;
	/** The name in the agent's certificate of that CA. */
	server_name?: string;
}

/** The file, or undefined when no agent is (or was, before a crash) ready. */
export function readAgentFile(dataDir: string): AgentFile | undefined {
	const path = join(dataDir, "agent.json");
	let text: string;
	try {
		text = readFileSync(path, "utf8");
	} catch (error) {
		const { code } = error as NodeJS.ErrnoException;
		if (code === "ENOENT" || code === "ENOTDIR") return undefined;
		throw unreadable(path, error);
	}
	try {
		const file = JSON.parse(text) as AgentFile;
		if (Number.isSafeInteger(file.pid) && file.pid > 1) return file;
	} catch (error) {
		throw unreadable(path, error);
	}
	throw unreadable(path, undefined);
}

/** An agent that runs and is not ready yet. */
export interface StartingAgent {
	pid: number;
	name: string;
	/** Who has to do what. */
	waits_for: string;
}

/** The agent that waits to be let into a cluster with this directory; undefined when none does. */
export function startingAgent(dataDir: string): StartingAgent | undefined {
	try {
		const file = JSON.parse(readFileSync(join(dataDir, "starting.json"), "utf8")) as StartingAgent;
		return Number.isSafeInteger(file.pid) && file.pid > 1 && isAgentProcess(file.pid) ? file : undefined;
	} catch {
		// There is none, or it is being replaced.
		return undefined;
	}
}

/** Whether a process with this id runs; one of another user counts, one that only waits to be reaped does not. */
export function isAlive(pid: number): boolean {
	try {
		process.kill(pid, 0);
	} catch (error) {
		return (error as NodeJS.ErrnoException).code === "EPERM";
	}
	try {
		// proc(5): the state follows the name, which is in parentheses and may hold anything.
		const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
		return !stat.slice(stat.lastIndexOf(")") + 2).startsWith("Z");
	} catch {
		return process.platform !== "linux";
	}
}

/**
 * Whether the process is an agent and not a later one that got the same id.
 * Where the system does not tell (no /proc), being alive has to do.
 */
export function isAgentProcess(pid: number): boolean {
	if (!isAlive(pid)) return false;
	try {
		return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").includes("agent");
	} catch {
		return process.platform !== "linux";
	}
}

function unreadable(path: string, cause: unknown): GswarmError {
	return new GswarmError("RESOURCE_UNAVAILABLE", `${path} cannot be read.`, {
		reason: "bad_agent_file",
		hint: "Does the data directory belong to this user? A stopped agent's file may be removed.",
		cause,
	});
}
