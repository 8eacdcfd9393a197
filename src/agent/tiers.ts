/** The tiers of this machine's node: the data directory's disk, those of `--disk`, and memory. */
import { statSync } from "node:fs";
import { join } from "node:path";
import type { TierOptions } from "../core/storage/storage.ts";
import type { Config } from "../platform/config.ts";
import { invalid } from "../schema/errors.ts";
import type { NodeFile } from "./data-dir.ts";
import type { AgentOptions } from "./options.ts";

/** @throws INVALID_REQUEST no_such_directory */
export function tiersOf(
	{ disks, dramBytes }: Pick<AgentOptions, "disks" | "dramBytes">,
	{ config, dataDir, nodeFile }: { config: Config; dataDir: string; nodeFile: NodeFile },
): TierOptions[] {
	const budget = config.nodes.find((n) => n.name === nodeFile.name)?.capabilities?.storage;
	const floorBytes = config.storage.free_space_floor;
	const own = `gswarm-${nodeFile.node_id}`;
	const all: TierOptions[] = [
		{ name: "disk", kind: "disk", root: join(dataDir, "disk"), limitBytes: budget?.disk, floorBytes },
		...disks.map(({ path, sizeBytes }, i): TierOptions => {
			requireDirectory(path);
			return { name: `disk${i + 1}`, kind: "disk", root: join(path, own), limitBytes: sizeBytes, floorBytes };
		}),
	];
	if (process.platform !== "linux") return all;
	const dram: TierOptions = {
		name: "dram",
		kind: "dram",
		root: join("/dev/shm", own),
		limitBytes: dramBytes ?? budget?.dram,
		floorBytes,
	};
	return [...all, dram];
}

/** A disk that is not mounted must not silently become a directory of the disk below it. */
function requireDirectory(path: string): void {
	if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) return;
	throw invalid(
		"no_such_directory",
		`--disk ${path}: there is no such directory.`,
		{ path },
		"Mount the disk, or make the directory first.",
	);
}
