import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { loadInput, openTestAccelerator } from "../support/accelerator.ts";
import { someBytes } from "../support/faulty-source.ts";
import { MODEL, REVISION } from "../support/staged-model.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const MIB = 1024 * 1024;
const NEVER = new AbortController().signal;
const FILES = { "config.json": "{}", "empty.txt": "", "weights.bin": someBytes(20 * MIB + 123, 3) };
const SIZE = 2 + 20 * MIB + 123;

test("a model is loaded, verified and listed as simulated, and its bytes count until it is unloaded", async () => {
	using dir = tempDir();
	await using gpus = await openTestAccelerator({ simulatedBytes: [64 * MIB] });
	expect(gpus.usage("gpu0")).toEqual({
		total: 64 * MIB,
		used: 0,
		reserved: 0,
		available: 64 * MIB,
		simulated: true,
	});
	const before = gpus.version();
	const phases = new Set<string>();
	const input = loadInput(dir.path, FILES, { onProgress: ({ phase }) => phases.add(phase) });
	const copy = await gpus.load(input, NEVER);
	expect(copy).toMatchObject({ tier: "gpu0", status: "ready", size_bytes: SIZE, simulated: true });
	expect(phases).toContain("verifying");
	expect(gpus.residencies()).toEqual([copy]);
	expect(gpus.version()).toBeGreaterThan(before);
	expect(gpus.usage("gpu0")).toMatchObject({ used: SIZE, reserved: 0, available: 64 * MIB - SIZE });
	await gpus.verify(copy, input.manifest, NEVER);
	expect(await gpus.load(input, NEVER)).toEqual(copy);
	expect(await gpus.unload(MODEL, REVISION, "gpu0")).toEqual({ freedBytes: SIZE });
	expect(gpus.residencies()).toEqual([]);
	expect(gpus.usage("gpu0")).toMatchObject({ used: 0, available: 64 * MIB });
});

test("what is on the device and is not what the manifest says is freed again, and the file and part are named", async () => {
	using dir = tempDir();
	await using gpus = await openTestAccelerator({ simulatedBytes: [64 * MIB] });
	const input = loadInput(dir.path, FILES);
	const wrong = Uint8Array.from(FILES["weights.bin"]);
	wrong[17 * MIB] = (wrong[17 * MIB] ?? 0) ^ 1;
	writeFileSync(join(dir.path, "weights.bin"), wrong);
	const failed = gpus.load(input, NEVER);
	expect(failed).rejects.toMatchObject({
		code: "TASK_FAILED",
		details: {
			reason: "verification_failed",
			file: "weights.bin",
			part: 2,
			device: "node1:gpu0",
			bad_parts: 1,
		},
	});
	await failed.catch(() => {});
	expect(gpus.residencies()).toEqual([]);
	expect(gpus.usage("gpu0")).toMatchObject({ used: 0, reserved: 0 });
});

test("a model that is larger than what is free is refused with both numbers and the device", async () => {
	using dir = tempDir();
	await using gpus = await openTestAccelerator({ simulatedBytes: [8 * MIB, 64 * MIB] });
	const input = loadInput(dir.path, FILES);
	expect(gpus.load(input, NEVER)).rejects.toMatchObject({
		code: "RESOURCE_UNAVAILABLE",
		status: 507,
		details: { reason: "insufficient_space", required: SIZE, available: 8 * MIB, device: "node1:gpu0" },
	});
	using engine = gpus.occupy("gpu1", 60 * MIB);
	expect(gpus.load({ ...input, device: "gpu1" }, NEVER)).rejects.toMatchObject({
		details: { available: 4 * MIB, device: "node1:gpu1" },
	});
	void engine;
});

test("a holder that is killed takes its models with it, and the next load starts another", async () => {
	using dir = tempDir();
	await using gpus = await openTestAccelerator({ simulatedBytes: [64 * MIB] });
	await gpus.load(loadInput(dir.path, FILES), NEVER);
	const pid = gpus.holderPid("gpu0");
	let told = 0;
	using subscription = gpus.onChange(() => told++);
	void subscription;
	process.kill(pid ?? 0, "SIGKILL");
	await until("the residency is gone", () => gpus.residencies().length === 0);
	expect(told).toBeGreaterThan(0);
	expect(gpus.usage("gpu0").used).toBe(0);
	expect(await gpus.load(loadInput(dir.path, FILES), NEVER)).toMatchObject({ status: "ready" });
	expect(gpus.holderPid("gpu0")).not.toBe(pid);
});

test("a cancelled load leaves nothing, and a load that waits behind it goes on", async () => {
	using dir = tempDir();
	await using gpus = await openTestAccelerator({ simulatedBytes: [64 * MIB] });
	const stop = new AbortController();
	const first = gpus.load(loadInput(dir.path, FILES), stop.signal).catch((error: unknown) => error);
	const other = loadInput(dir.path, FILES, { model: "acme/other" as typeof MODEL });
	const second = gpus.load(other, NEVER);
	// At once: a cancel that waits for progress may come after the end of so short a load.
	stop.abort(new Error("cancelled"));
	expect(await first).toMatchObject({ message: "cancelled" });
	expect(await second).toMatchObject({ model_name: "acme/other" });
	expect(gpus.residencies()).toHaveLength(1);
	expect(gpus.usage("gpu0")).toMatchObject({ used: SIZE, reserved: 0 });
});

test("what is in use is not unloaded, and who uses it is named", async () => {
	using dir = tempDir();
	await using gpus = await openTestAccelerator({ simulatedBytes: [64 * MIB] });
	await gpus.load(loadInput(dir.path, FILES), NEVER);
	const hold = gpus.hold(MODEL, REVISION, "gpu0", "service s-1");
	expect(gpus.unload(MODEL, REVISION, "gpu0")).rejects.toMatchObject({
		code: "CONFLICT",
		details: { reason: "in_use", holders: ["service s-1"] },
	});
	hold[Symbol.dispose]();
	expect(await gpus.unload(MODEL, REVISION, "gpu0")).toEqual({ freedBytes: SIZE });
});

test("a file that is not there, or is too short, fails the load and leaves nothing", async () => {
	using dir = tempDir();
	await using gpus = await openTestAccelerator({ simulatedBytes: [64 * MIB] });
	const input = loadInput(dir.path, FILES);
	writeFileSync(join(dir.path, "weights.bin"), "short");
	const failed = await gpus.load(input, NEVER).catch((error: unknown) => error);
	expect(failed).toMatchObject({ code: "TASK_FAILED", details: { reason: "file_unreadable" } });
	expect(gpus.usage("gpu0")).toMatchObject({ used: 0, reserved: 0 });
});

test("another model of the same name and revision is a conflict, and what is there stays", async () => {
	using dir = tempDir();
	await using gpus = await openTestAccelerator({ simulatedBytes: [64 * MIB] });
	const input = loadInput(dir.path, FILES);
	const copy = await gpus.load(input, NEVER);
	const other = { ...input, from: { ...input.from, content_id: "d".repeat(64) } };
	expect(await gpus.load(other, NEVER).catch((error: unknown) => error)).toMatchObject({
		code: "CONFLICT",
		details: { reason: "copy_exists", content_id: "c".repeat(64), device: "node1:gpu0" },
	});
	expect(gpus.residencies()).toEqual([copy]);
});

test("a device that is not there is a 404 that names those that are", async () => {
	await using gpus = await openTestAccelerator({ simulatedBytes: [MIB] });
	expect(() => gpus.device("gpu3")).toThrow(expect.objectContaining({ code: "NOT_FOUND" }));
	await using none = await openTestAccelerator();
	expect(none.devices()).toEqual([]);
	expect(() => none.usage("gpu0")).toThrow(expect.objectContaining({ code: "NOT_FOUND" }));
});
