/** The CUDA driver's calls, made for real against a library with the same symbols; see gpu-stand-in.c for what it is not. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Accelerator, AcceleratorOptions } from "../../src/core/accelerator/accelerator.ts";
import { loadInput, openTestAccelerator, PROBE_COMMAND } from "../support/accelerator.ts";
import { someBytes } from "../support/faulty-source.ts";
import { compileGpuStandIn, type GpuStandIn } from "../support/gpu-stand-in.ts";
import { requires } from "../support/requires.ts";
import { MODEL, REVISION } from "../support/staged-model.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(60_000);

const MIB = 1024 * 1024;
const NEVER = new AbortController().signal;
const FILES = {
	"config.json": "{}",
	"empty.txt": "",
	"a.safetensors": someBytes(41 * MIB + 123, 3),
	"b.safetensors": someBytes(8 * MIB, 4),
};
const SIZE = 2 + 41 * MIB + 123 + 8 * MIB;
// A compiler, and the headers of the C library, which bring gencat along.
const hasCompiler =
	requires("cc", "a GPU's libraries through FFI", "gcc") &&
	requires("gencat", "a GPU's libraries through FFI", "libc6-dev");
const suite = hasCompiler ? describe : describe.skip;

suite("a GPU through its driver's library", () => {
	const dir = tempDir();
	let gpu: GpuStandIn;
	beforeAll(() => {
		gpu = compileGpuStandIn(dir.path);
	});
	afterAll(() => dir[Symbol.dispose]());
	const open = (options: Partial<AcceleratorOptions> = {}): Promise<Accelerator> =>
		openTestAccelerator({
			probeCommand: PROBE_COMMAND,
			places: gpu.places,
			lookMs: { wait: 20_000, every: 60_000 },
			...options,
		});
	const input = (change = {}) => loadInput(`${dir.path}/model`, FILES, change);

	test("a model is loaded by several threads, read back, exported and freed", async () => {
		gpu.set({ memory: 128 * MIB });
		await using gpus = await open();
		const copy = await gpus.load(input(), NEVER);
		expect(copy).not.toHaveProperty("simulated");
		expect(gpus.usage("gpu0")).toEqual({
			total: 128 * MIB,
			used: SIZE,
			reserved: 0,
			available: 128 * MIB - SIZE,
		});
		const handles = gpus.exportHandles(copy);
		expect(handles.map(({ path }) => path)).toEqual(Object.keys(FILES));
		expect(handles.map(({ handle }) => handle?.length)).toEqual([128, undefined, 128, 128]);
		expect(handles[0]?.handle).toEndWith("aa");
		await gpus.verify(copy, input().manifest, NEVER);
		await gpus.unload(MODEL, REVISION, "gpu0");
		expect(gpus.usage("gpu0").used).toBe(0);
	});

	test("direct reading gives the same bytes", async () => {
		gpu.set({ memory: 128 * MIB });
		await using gpus = await open();
		expect(await gpus.load(input({ direct: true }), NEVER)).toMatchObject({ size_bytes: SIZE });
	});

	test("memory that ran out behind the driver's back is told with the numbers, and what was taken is freed", async () => {
		gpu.set({ memory: 60 * MIB });
		await using gpus = await open({ lookMs: { wait: 20_000, every: 100 } });
		// Somebody else has taken most of it since the last look.
		gpu.set({ memory: 60 * MIB, taken: 15 * MIB });
		expect(await gpus.load(input(), NEVER).catch((error: unknown) => error)).toMatchObject({
			code: "RESOURCE_UNAVAILABLE",
			status: 507,
			details: { reason: "gpu_full", required: SIZE, available: 45 * MIB, device: "node1:gpu0" },
		});
		gpu.set({ memory: 60 * MIB });
		await until("it is free again", () => gpus.usage("gpu0").available === 60 * MIB);
		expect(await gpus.load(input(), NEVER)).toMatchObject({ status: "ready" });
	});

	test.each([
		["a copy that stops short", { short: 1 }],
		["memory that gives back other bytes", { flip: 1 }],
	])("%s is found by reading back, and nothing stays", async (_title, wrong) => {
		gpu.set({ memory: 64 * MIB, ...wrong });
		await using gpus = await open();
		const failure = await gpus.load(input(), NEVER).catch((error: unknown) => error);
		expect(failure).toMatchObject({ code: "TASK_FAILED", details: { reason: "verification_failed" } });
		expect(gpus.residencies()).toEqual([]);
		gpu.set({ memory: 64 * MIB });
		expect(await gpus.load(input(), NEVER)).toMatchObject({ status: "ready" });
	});

	test("a residency that goes bad later is found by the next verification", async () => {
		gpu.set({ memory: 128 * MIB });
		await using gpus = await open();
		const copy = await gpus.load(input(), NEVER);
		gpu.set({ memory: 128 * MIB, flip: 1 });
		expect(await gpus.verify(copy, input().manifest, NEVER).catch((error: unknown) => error)).toMatchObject({
			details: { reason: "verification_failed", device: "node1:gpu0" },
		});
	});

	test.each([
		["cuMemcpyHtoDAsync_v2", 700, "device_failed"],
		["cuMemcpyDtoHAsync_v2", 700, "device_failed"],
		["cuStreamSynchronize", 700, "device_failed"],
		["cuMemHostAlloc", 2, "device_failed"],
		["cuStreamCreate", 700, "device_failed"],
		["cuDevicePrimaryCtxRetain", 100, "gpu_not_usable"],
		["cuInit", 100, "gpu_not_usable"],
		["cuMemGetInfo_v2", 700, "gpu_not_usable"],
	])(
		"a failure of %s is told by the driver's name for it, and the next load works",
		async (call, code, reason) => {
			gpu.set({ memory: 128 * MIB });
			await using gpus = await open();
			gpu.set({ memory: 128 * MIB, [call]: code });
			const failure = await gpus.load(input(), NEVER).catch((error: unknown) => error);
			expect(failure).toMatchObject({ details: { reason, device: "node1:gpu0" } });
			expect((failure as Error).message).toContain("CUDA_ERROR_");
			gpu.set({ memory: 128 * MIB });
			expect(await gpus.load(input(), NEVER)).toMatchObject({ status: "ready" });
		},
	);

	test("a device without handles for other processes holds models all the same", async () => {
		gpu.set({ memory: 128 * MIB, cuIpcGetMemHandle: 801 });
		await using gpus = await open();
		const copy = await gpus.load(input(), NEVER);
		expect(gpus.exportHandles(copy).every(({ handle }) => handle === undefined)).toBe(true);
	});

	test("a driver that hangs in a load is ended with its holder when the load is cancelled", async () => {
		gpu.set({ memory: 128 * MIB });
		await using gpus = await open({ limits: { cancelMs: 200 } });
		gpu.set({ memory: 128 * MIB, "hang.cuStreamSynchronize": 1 });
		const stop = new AbortController();
		const loading = gpus.load(input(), stop.signal).catch((error: unknown) => error);
		const pid = await until(
			"the memory is taken",
			() => gpus.usage("gpu0").reserved === 0 && gpus.holderPid("gpu0"),
		);
		stop.abort(new Error("cancelled"));
		expect(await loading).toMatchObject({ message: "cancelled" });
		await until("it is gone", () => gpus.holderPid("gpu0") !== pid);
		gpu.set({ memory: 128 * MIB });
		expect(await gpus.load(input(), NEVER)).toMatchObject({ status: "ready" });
	});

	test("a driver that hangs in a load that nobody cancels is ended too", async () => {
		gpu.set({ memory: 128 * MIB });
		await using gpus = await open({ limits: { silentMs: 500 } });
		gpu.set({ memory: 128 * MIB, "hang.cuMemAlloc_v2": 1 });
		expect(await gpus.load(input(), NEVER).catch((error: unknown) => error)).toMatchObject({
			details: { reason: "holder_gone" },
		});
	});

	test("a holder that holds nothing ends, and its context's memory with it", async () => {
		gpu.set({ memory: 128 * MIB });
		await using gpus = await open({ limits: { idleMs: 100 } });
		await gpus.load(input(), NEVER);
		expect(gpus.holderPid("gpu0")).toBeDefined();
		await gpus.unload(MODEL, REVISION, "gpu0");
		await until("it has ended", () => gpus.holderPid("gpu0") === undefined);
	});
});
