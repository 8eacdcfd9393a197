import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";

/** Ids of the processes whose program lies below `dir`, so that nothing of somebody else's is ever meant. */
export function processesOf(dir: string): number[] {
	if (existsSync("/proc/self/exe")) {
		return readdirSync("/proc")
			.filter((name) => /^\d+$/.test(name))
			.filter((pid) => programOf(pid).startsWith(`${dir}/`))
			.map(Number);
	}
	const listing = Bun.spawnSync(["ps", "-axo", "pid=,command="]).stdout.toString();
	return listing
		.split("\n")
		.filter((line) => line.replace(/^\s*\d+\s+/, "").startsWith(`${dir}/`))
		.map((line) => Number.parseInt(line, 10));
}

/** What a process was started as, for a message. */
export function commandLineOf(pid: number): string {
	try {
		return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").join(" ").trim();
	} catch {
		return `process ${pid}`;
	}
}

function programOf(pid: string): string {
	try {
		return readlinkSync(`/proc/${pid}/exe`);
	} catch {
		// Gone meanwhile, a kernel thread, or another user's.
		return "";
	}
}
