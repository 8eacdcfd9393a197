/** The directories of a tier: where things lie, and that they are ours before anything is written. */
import { existsSync, readFileSync } from "node:fs";
import { chmod, lstat, mkdir, realpath } from "node:fs/promises";
import { join } from "node:path";
import { syncPath, writeFileDurably } from "../../platform/durable-file.ts";
import { filesystemSpace } from "../../platform/filesystem.ts";
import type { MemoryReader } from "../../platform/memory.ts";
import type { Ids } from "../../platform/ids.ts";
import { GswarmError } from "../../schema/errors.ts";
import { modelDirName, parseTaskId } from "../../schema/names.ts";
import type { CopyKey } from "./copy-store.ts";

/** One place for models on this node. */
export interface Tier {
	/** As the wire writes it: `disk`, `disk1`, `dram`. */
	name: string;
	kind: "disk" | "dram";
	/** Absolute path of a directory that belongs to this agent alone. */
	root: string;
	/** Keeps its bytes over a restart of the machine. */
	durable: boolean;
	/** Budget for model bytes; undefined: what the filesystem has. */
	limitBytes: number | undefined;
}

export interface TierOptions {
	name: string;
	kind: "disk" | "dram";
	/** Absolute; made if it is not there. */
	root: string;
	limitBytes?: number | undefined;
	/** Bytes of the filesystem that are never used; default max(1 GiB, 2 %) on disk and 2 % on dram. */
	floorBytes?: number | undefined;
}

/** Only this user reads or writes below a tier's root. */
export const DIRECTORY_MODE = 0o700;
export const FILE_MODE = 0o600;

const MARKER = ".gswarm-store";
const FLOOR_BYTES = 1024 ** 3;
const FLOOR_SHARE = 0.02;

export interface TierRoot {
	tier: Tier;
	/** Device number: tiers on one filesystem share its room. */
	filesystem: number;
	floorBytes: number;
	modelsPath: string;
	stagingRoot: string;
	trashPath: string;
}

/**
 * Makes the directories of a tier, 0700.
 * @throws RESOURCE_UNAVAILABLE tier_not_ours: the root belongs to another user, or is a link on a shared tmpfs
 */
export async function openTierRoot(options: TierOptions): Promise<TierRoot> {
	await mkdir(options.root, { recursive: true, mode: DIRECTORY_MODE });
	const durable = options.kind === "disk";
	// A disk may be a link that the operator made; on a tmpfs that all users share it would be somebody's trap.
	const root = durable ? await realpath(options.root) : options.root;
	const info = await lstat(root);
	if (!info.isDirectory()) throw notOurs(options, "it is not a directory");
	if (info.uid !== process.getuid?.()) throw notOurs(options, "it belongs to another user");
	const paths = {
		modelsPath: join(root, "models"),
		stagingRoot: join(root, "staging"),
		trashPath: join(root, "trash"),
	};
	for (const path of Object.values(paths)) await mkdir(path, { recursive: true, mode: DIRECTORY_MODE });
	for (const path of [root, ...Object.values(paths)]) await chmod(path, DIRECTORY_MODE);
	if (durable) await syncPath(root);
	const tier: Tier = {
		name: options.name,
		kind: options.kind,
		root,
		durable,
		limitBytes: options.limitBytes,
	};
	return {
		tier,
		filesystem: info.dev,
		floorBytes: options.floorBytes ?? defaultFloor(root, durable),
		...paths,
	};
}

/**
 * Checks the marker file that tells one disk from another, and from the empty directory it is mounted on.
 * `knownId` is what the database has; the answer is what it should have from now on.
 * @throws RESOURCE_UNAVAILABLE tier_not_mounted, tier_not_ours
 */
export async function checkMarker(
	{ tier }: TierRoot,
	{ ids, knownId, hasCopies }: { ids: Ids; knownId: string | undefined; hasCopies: boolean },
): Promise<string> {
	const path = join(tier.root, MARKER);
	const found = existsSync(path) ? readFileSync(path, "utf8").trim() : undefined;
	if (found !== undefined && found === knownId) return found;
	if (found !== undefined) {
		throw notOurs(
			tier,
			"another agent keeps models there",
			`If that agent is gone for good, delete the file ${MARKER} in that directory and start again.`,
		);
	}
	if (knownId !== undefined && hasCopies) {
		throw new GswarmError(
			"RESOURCE_UNAVAILABLE",
			`The directory of ${tier.name} is not the one that holds its models: its marker ${MARKER} is missing.`,
			{
				reason: "tier_not_mounted",
				details: { device: tier.name },
				hint: "Mount the disk and start again, or start without this tier; its models stay recorded.",
			},
		);
	}
	const id = ids.short(16);
	await writeFileDurably(path, `${id}\n`);
	return id;
}

/** `models/<name as one component>/@<revision>` */
export function copyPath({ modelsPath }: TierRoot, { model, revision }: Omit<CopyKey, "tier">): string {
	return join(modelsPath, modelDirName(model), `@${revision}`);
}

/** `staging/<transfer>`; below it `model` becomes the copy, `scratch` never does. */
export function stagingRootOf({ stagingRoot }: TierRoot, transferId: string): string {
	return join(stagingRoot, parseTaskId(transferId));
}

/** Free and total bytes; memory that other programs took, or that a control group keeps from us, is not free on a tmpfs. */
export function tierSpace(
	{ tier }: TierRoot,
	reader: MemoryReader,
): { freeBytes: number; totalBytes: number } {
	const { freeBytes, totalBytes } = filesystemSpace(tier.root);
	const memory = tier.durable ? undefined : reader.read();
	return {
		freeBytes: Math.min(freeBytes, memory?.availableBytes ?? freeBytes),
		totalBytes: Math.min(totalBytes, memory?.totalBytes ?? totalBytes),
	};
}

function defaultFloor(root: string, durable: boolean): number {
	const share = Math.floor(filesystemSpace(root).totalBytes * FLOOR_SHARE);
	return durable ? Math.max(FLOOR_BYTES, share) : share;
}

function notOurs(tier: Pick<Tier, "name">, problem: string, hint?: string): GswarmError {
	return new GswarmError(
		"RESOURCE_UNAVAILABLE",
		`The directory of ${tier.name} cannot be used: ${problem}.`,
		{
			reason: "tier_not_ours",
			details: { device: tier.name },
			hint: hint ?? "Choose another directory for this tier, or run the agent as the user it belongs to.",
		},
	);
}
