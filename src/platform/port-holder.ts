/** Who listens on a TCP port of this machine, so that "port taken" can name its holder. Linux; elsewhere unknown. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** e.g. `process 4711 (nginx)`; undefined when it cannot be told: another user's process, or no /proc. */
export function describePortHolder(port: number): string | undefined {
	const inodes = new Set(
		["/proc/net/tcp", "/proc/net/tcp6"].flatMap((table) => listeningInodes(readText(table), port)),
	);
	if (inodes.size === 0) return undefined;
	for (const pid of list("/proc").filter((name) => /^\d+$/.test(name))) {
		if (!list(`/proc/${pid}/fd`).some((fd) => inodes.has(socketInode(`/proc/${pid}/fd/${fd}`)))) continue;
		// The name only: a command line may hold secrets.
		return `process ${pid} (${readText(`/proc/${pid}/comm`).trim() || "unknown"})`;
	}
	return undefined;
}

/** Inodes of the sockets that listen on the port, from the text of /proc/net/tcp or tcp6. */
export function listeningInodes(table: string, port: number): string[] {
	const wanted = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
	return table
		.split("\n")
		.slice(1)
		.map((line) => line.trim().split(/\s+/))
		.filter(([, local, , state]) => local?.endsWith(wanted) === true && state === LISTEN)
		.flatMap((fields) => fields[INODE_FIELD] ?? []);
}

const LISTEN = "0A";
const INODE_FIELD = 9;

function socketInode(path: string): string {
	try {
		return /^socket:\[(\d+)\]$/.exec(readlinkSync(path))?.[1] ?? "";
	} catch {
		return "";
	}
}

function list(path: string): string[] {
	try {
		return readdirSync(path);
	} catch {
		return [];
	}
}

function readText(path: string): string {
	try {
		return readFileSync(path, "utf8");
	} catch {
		return "";
	}
}
