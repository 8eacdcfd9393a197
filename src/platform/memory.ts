/**
 * The memory that this process may use: the machine's, and not more than its control groups allow (a container, a
 * systemd slice). Linux; elsewhere nothing is told.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";

export interface Memory {
	/** The smallest of what limits it. */
	totalBytes: number;
	/** Could be used without swapping and without being killed. */
	availableBytes: number;
	/** Of a control group; undefined: the machine is the limit. */
	limitBytes: number | undefined;
}

export interface MemoryReader {
	/** Undefined where the system does not tell. */
	read(): Memory | undefined;
}

/** Where a control group says what it has; the names differ between the two versions. */
interface Group {
	limit: string;
	usage: string;
	stat: string;
	/** Page cache that the kernel would give up first, in `stat`. */
	reclaimable: RegExp;
}

const KIB = 1024;
/** What version 1 says where there is no limit is almost 2^63. */
const NO_LIMIT_BYTES = 2 ** 60;

/** Finds the control groups once; `root` is for tests. */
export function createMemoryReader(root = "/"): MemoryReader {
	const groups = groupsOf(root);
	return {
		read() {
			const machine = machineMemory(root);
			if (machine === undefined) return undefined;
			let memory: Memory = { ...machine, limitBytes: undefined };
			for (const group of groups) {
				const limit = numberIn(group.limit);
				if (limit === undefined || limit >= NO_LIMIT_BYTES || limit >= memory.totalBytes) continue;
				const used = numberIn(group.usage) ?? 0;
				const cache = Number(group.reclaimable.exec(textOf(group.stat) ?? "")?.[1] ?? 0);
				const availableBytes = Math.max(0, limit - used + Math.min(cache, used));
				memory = {
					totalBytes: limit,
					availableBytes: Math.min(memory.availableBytes, availableBytes),
					limitBytes: limit,
				};
			}
			return memory;
		},
	};
}

function machineMemory(root: string): Omit<Memory, "limitBytes"> | undefined {
	const text = textOf(join(root, "proc/meminfo"));
	const total = /^MemTotal:\s+(\d+) kB$/m.exec(text ?? "")?.[1];
	const available = /^MemAvailable:\s+(\d+) kB$/m.exec(text ?? "")?.[1];
	if (total === undefined || available === undefined) return undefined;
	return { totalBytes: Number(total) * KIB, availableBytes: Number(available) * KIB };
}

/** The group of this process and those above it, in either version; the root has no limit of its own. */
function groupsOf(root: string): Group[] {
	const groups: Group[] = [];
	for (const line of (textOf(join(root, "proc/self/cgroup")) ?? "").split("\n")) {
		const [, id, controllers = "", path = ""] = /^(\d+):([^:]*):(\/.*)$/.exec(line) ?? [];
		const isUnified = id === "0" && controllers === "";
		if (!isUnified && !controllers.split(",").includes("memory")) continue;
		const base = join(root, "sys/fs/cgroup", isUnified ? "" : "memory");
		// In a container the path is often that of the machine, and its own group is mounted at the root.
		for (const above of [...ancestors(path), ""]) {
			const at = (file: string): string => join(base, above, file);
			groups.push(
				isUnified
					? {
							limit: at("memory.max"),
							usage: at("memory.current"),
							stat: at("memory.stat"),
							reclaimable: /^inactive_file (\d+)$/m,
						}
					: {
							limit: at("memory.limit_in_bytes"),
							usage: at("memory.usage_in_bytes"),
							stat: at("memory.stat"),
							reclaimable: /^total_inactive_file (\d+)$/m,
						},
			);
		}
	}
	// What is not there now is not going to be: a process seldom changes its groups.
	return groups.filter(({ limit }) => numberIn(limit) !== undefined);
}

/** `/a/b`, `/a`. */
function ancestors(path: string): string[] {
	const parts = path.split("/").filter((part) => part !== "" && part !== "..");
	return parts.map((_part, at) => `/${parts.slice(0, parts.length - at).join("/")}`);
}

function numberIn(path: string): number | undefined {
	const text = textOf(path)?.trim();
	return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
}

function textOf(path: string): string | undefined {
	try {
		return readFileSync(path, "utf8");
	} catch {
		return undefined;
	}
}
