/**
 * A model to a GPU, beside the fastest that the machine can do of the same: from memory beside copies out of page-locked
 * memory, from a disk beside `dd iflag=direct` of the same file. Ours is the time until every byte is on the device, of
 * the product's own holder process; it is read back and compared besides, at the rate that is said on the way.
 * Where there is no GPU that can be used, both rows say so and count as missed.
 */
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Accelerator, type LoadInput, openAccelerator } from "../src/core/accelerator/accelerator.ts";
import { openCudaDriver } from "../src/core/accelerator/holder/cuda-driver.ts";
import { PLACES } from "../src/core/accelerator/probe/reading.ts";
import { systemClock } from "../src/platform/clock.ts";
import { xxh64Hex } from "../src/platform/hash.ts";
import { silentLog } from "../src/platform/log.ts";
import { type Manifest, partSizeBytes } from "../src/schema/manifest.ts";
import { parseModelName, parseRevision } from "../src/schema/names.ts";
import { BINARY } from "./cluster.ts";
import type { BenchContext, Measured } from "./row.ts";

const ROWS = {
	memory: { name: "memory to GPU, copied", unit: "GB/s", goal: { ratioAtLeast: 0.9 } },
	disk: { name: "disk to GPU, copied", unit: "GB/s", goal: { ratioAtLeast: 0.95 } },
} as const;

const MIB = 1024 * 1024;
const FULL = { fileBytes: 4096 * MIB, rounds: 5 };
const QUICK = { fileBytes: 512 * MIB, rounds: 2 };
const PINNED_BYTES = 128 * MIB;
const NEVER = new AbortController().signal;

export async function benchGpu({ say, quick }: BenchContext): Promise<Measured[]> {
	const { fileBytes, rounds } = quick ? QUICK : FULL;
	await using gpus = await openAccelerator(
		{ clock: systemClock, log: silentLog },
		{
			nodeName: "bench",
			simulatedBytes: [],
			holderCommand: [BINARY, "__holder"],
			probeCommand: [BINARY, "__probe"],
			environment: process.env,
			lookMs: { wait: 30_000, every: 60_000 },
		},
	);
	const device = gpus.devices().find(({ problem }) => problem === undefined);
	if (device === undefined) {
		const found = gpus.summaries().map(({ product, problem }) => `${product}: ${problem}`);
		say(`no GPU that can be used here (${found.length === 0 ? "none found" : found.join("; ")})`);
		return [
			{ ...ROWS.memory, ours: [], peer: "missing" },
			{ ...ROWS.disk, ours: [], peer: "missing" },
		];
	}
	say(`${device.name}, ${device.product}; a file of ${fileBytes / MIB} MiB, ${rounds} rounds`);
	const memoryDir = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "gswarm-bench-"));
	const diskDir = mkdtempSync(join(tmpdir(), "gswarm-bench-"));
	try {
		const inMemory = writeModel(memoryDir, fileBytes);
		const onDisk = writeModel(diskDir, fileBytes);
		const measure = async (from: typeof inMemory, direct: boolean): Promise<number> => {
			const { copied, verified } = await rateOf(gpus, { ...from, device: device.name, direct });
			say(`copied at ${copied.toFixed(2)} GB/s, read back and compared at ${verified.toFixed(2)} GB/s`);
			return copied;
		};
		// The holder's start, and the device's context with it, is nobody's rate.
		await measure(inMemory, false);
		const memory: { ours: number[]; peer: number[] } = { ours: [], peer: [] };
		const disk: { ours: number[]; peer: number[] } = { ours: [], peer: [] };
		for (let round = 0; round < rounds; round++) {
			memory.ours.push(await measure(inMemory, false));
			memory.peer.push(pinnedRate(fileBytes));
			disk.ours.push(await measure(onDisk, true));
			disk.peer.push(await directReadRate(join(diskDir, "weights.bin"), fileBytes));
		}
		return [
			{ ...ROWS.memory, ...memory },
			{ ...ROWS.disk, ...disk },
		];
	} finally {
		for (const dir of [memoryDir, diskDir]) rmSync(dir, { recursive: true, force: true });
	}
}

function writeModel(directory: string, fileBytes: number): Omit<LoadInput, "device" | "direct"> {
	mkdirSync(directory, { recursive: true });
	const part = partSizeBytes(fileBytes);
	const bytes = new Uint8Array(part);
	for (let at = 0; at < part; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536));
	const fd = openSync(join(directory, "weights.bin"), "w");
	const xxh64: string[] = [];
	try {
		for (let at = 0; at < fileBytes; at += part) {
			new DataView(bytes.buffer).setFloat64(0, at);
			writeSync(fd, bytes, 0, part, at);
			xxh64.push(xxh64Hex(bytes));
		}
	} finally {
		closeSync(fd);
	}
	const file = {
		path: "weights.bin",
		size_bytes: fileBytes,
		sha256: "0".repeat(64),
		part_size_bytes: part,
		xxh64,
	};
	const manifest: Manifest = { files: [file], total_bytes: fileBytes };
	return {
		model: parseModelName("bench"),
		revision: parseRevision("r1"),
		pathOf: (path) => join(directory, path),
		manifest,
		from: { content_id: "bench", model_type: "llm", source_url: null, format: "safetensors" },
	};
}

/** GB/s of the two halves of a load; the model is gone from the device afterwards. */
async function rateOf(gpus: Accelerator, input: LoadInput): Promise<{ copied: number; verified: number }> {
	const startMs = systemClock.monotonicMs();
	let copiedMs: number | undefined;
	const onProgress: LoadInput["onProgress"] = ({ phase }) => {
		if (phase === "verifying") copiedMs ??= systemClock.monotonicMs();
	};
	const copy = await gpus.load({ ...input, onProgress }, NEVER);
	const endMs = systemClock.monotonicMs();
	await gpus.unload(input.model, input.revision, input.device);
	const rate = (ms: number): number => copy.size_bytes / 1e6 / ms;
	return { copied: rate((copiedMs ?? endMs) - startMs), verified: rate(endMs - (copiedMs ?? startMs)) };
}

/** GB/s of copies out of page-locked memory that are asked for one behind the other on two lanes. */
function pinnedRate(bytes: number): number {
	const driver = openCudaDriver(PLACES.cuda);
	const target = driver.allocate(PINNED_BYTES);
	const halves = [0, 1].map(() => ({ from: driver.allocateHost(PINNED_BYTES), lane: driver.createLane() }));
	const startMs = systemClock.monotonicMs();
	for (let done = 0, turn = 0; done < bytes; done += PINNED_BYTES, turn++)
		halves[turn % 2]?.lane.copyIn(target, halves[turn % 2]?.from.address ?? 0, PINNED_BYTES);
	for (const { lane } of halves) lane.wait();
	const ms = systemClock.monotonicMs() - startMs;
	driver.free(target);
	return bytes / 1e6 / ms;
}

async function directReadRate(path: string, bytes: number): Promise<number> {
	const startMs = systemClock.monotonicMs();
	const dd = Bun.spawn(["dd", `if=${path}`, "of=/dev/null", "bs=16M", "iflag=direct"], { stderr: "ignore" });
	if ((await dd.exited) !== 0) throw new Error("dd cannot read past the page cache here");
	return bytes / 1e6 / (systemClock.monotonicMs() - startMs);
}
