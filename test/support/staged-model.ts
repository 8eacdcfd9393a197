/** Storage on temporary directories, and models to put into it. */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import {
	openStorage,
	type Storage,
	storageModule,
	type TierOptions,
} from "../../src/core/storage/storage.ts";
import { systemClock } from "../../src/platform/clock.ts";
import {
	type Database,
	openInlineDatabase,
	type WriterModule,
	type WriteTable,
} from "../../src/platform/database.ts";
import { sha256Hex, xxh64Hex } from "../../src/platform/hash.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { createIoPool, type IoPool } from "../../src/platform/io-pool.ts";
import { silentLog } from "../../src/platform/log.ts";
import { type Manifest, partSizeBytes } from "../../src/schema/manifest.ts";
import type { CopyPurpose } from "../../src/schema/model.ts";
import { parseModelName, parseRevision } from "../../src/schema/names.ts";

export const MODEL = parseModelName("acme/tiny");
export const REVISION = parseRevision("main-1");

/** A model of two files, one below a folder. */
export const FILES: Record<string, string> = { "config.json": "{}", "weights/part-1.bin": "0123456789" };

export function manifestOf(files: Record<string, string | Uint8Array>): Manifest {
	const list = Object.entries(files).map(([path, content]) => {
		const bytes = typeof content === "string" ? Buffer.from(content) : content;
		const partSize = partSizeBytes(bytes.byteLength);
		const xxh64: string[] = [];
		for (let at = 0; at < bytes.byteLength; at += partSize)
			xxh64.push(xxh64Hex(bytes.subarray(at, at + partSize)));
		return { path, size_bytes: bytes.byteLength, sha256: sha256Hex(bytes), part_size_bytes: partSize, xxh64 };
	});
	return { files: list, total_bytes: list.reduce((sum, file) => sum + file.size_bytes, 0) };
}

export function writeFiles(directory: string, files: Record<string, string | Uint8Array>): void {
	for (const [path, content] of Object.entries(files)) {
		mkdirSync(dirname(join(directory, path)), { recursive: true });
		writeFileSync(join(directory, path), content);
	}
}

export interface StorageStand extends AsyncDisposable {
	db: Database;
	io: IoPool;
	storage: Storage;
	/** Closes everything and opens it again on the same directories, as a new start does. */
	restart(change?: { bootId?: string | undefined; tiers?: readonly TierOptions[] }): Promise<void>;
}

/** Storage with a `disk` and a `dram` tier below a directory; no floor, so that small filesystems will do. */
export async function standStorage(
	directory: string,
	options: { tiers?: readonly TierOptions[]; modules?: readonly WriterModule[] } = {},
): Promise<StorageStand> {
	const modules = [storageModule, ...(options.modules ?? [])];
	const defaults: readonly TierOptions[] = [
		{ name: "disk", kind: "disk", root: join(directory, "disk"), floorBytes: 0 },
		{
			name: "dram",
			kind: "dram",
			root: join(directory, "dram"),
			floorBytes: 0,
			limitBytes: 64 * 1024 * 1024,
		},
	];
	const io = createIoPool({ threads: 1 });
	const open = async (bootId: string | undefined, tiers: readonly TierOptions[]) => {
		const db = openInlineDatabase(join(directory, "agent.sqlite"), modules);
		const dependencies = { db, clock: systemClock, ids: systemIds, log: silentLog, io };
		try {
			return { db, storage: await openStorage(dependencies, { tiers, bootId }) };
		} catch (error) {
			await db[Symbol.asyncDispose]();
			throw error;
		}
	};
	const tiers = options.tiers ?? defaults;
	const stand: StorageStand = {
		io,
		...(await open("boot-1", tiers)),
		async restart(change = {}) {
			await stand.storage[Symbol.asyncDispose]();
			await stand.db[Symbol.asyncDispose]();
			const bootId = "bootId" in change ? change.bootId : "boot-1";
			Object.assign(stand, await open(bootId, change.tiers ?? tiers));
		},
		async [Symbol.asyncDispose]() {
			await stand.storage[Symbol.asyncDispose]();
			await stand.db[Symbol.asyncDispose]();
			await io[Symbol.asyncDispose]();
		},
	};
	return stand;
}

/** A storage whose process "dies" at a write: the named operation never comes back, so nothing after it happens. */
export async function storageThatStopsAt(
	stand: StorageStand,
	directory: string,
	operation: string,
): Promise<{ storage: Storage; stopped: () => boolean }> {
	let stopped = false;
	const db: Database = {
		...stand.db,
		read: stand.db.read,
		writer(module) {
			const calls: Record<string, (input: unknown) => Promise<unknown>> = {};
			const real = stand.db.writer<WriteTable>(module);
			for (const name of Object.keys(module.writes)) {
				calls[name] = (input) => {
					if (name !== operation) return (real[name] as (input: unknown) => Promise<unknown>)(input);
					stopped = true;
					return new Promise(() => {});
				};
			}
			return calls as never;
		},
	};
	const dependencies = { db, clock: systemClock, ids: systemIds, log: silentLog, io: stand.io };
	const tiers = [{ name: "disk", kind: "disk" as const, root: join(directory, "disk"), floorBytes: 0 }];
	return { storage: await openStorage(dependencies, { tiers, bootId: "boot-1" }), stopped: () => stopped };
}

/** Stages and publishes a model. */
export async function publishFiles(
	storage: Storage,
	{
		tier = "disk",
		transferId = "download-1",
		files = FILES,
		model = MODEL,
		revision = REVISION,
		purpose,
	}: Partial<{
		tier: string;
		transferId: string;
		files: Record<string, string | Uint8Array>;
		model: typeof MODEL;
		revision: typeof REVISION;
		purpose: CopyPurpose;
	}> = {},
) {
	writeFiles(await storage.openStaging(tier, transferId), files);
	const manifest = manifestOf(files);
	const about = { modelType: "llm", sourceUrl: "hf:acme/tiny@main-1", format: "gguf" };
	return storage.publish({ tier, transferId, model, revision, manifest, purpose, ...about });
}
