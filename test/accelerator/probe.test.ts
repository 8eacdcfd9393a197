import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Accelerator, AcceleratorOptions } from "../../src/core/accelerator/accelerator.ts";
import { hasGpus, permissionProblem } from "../../src/core/accelerator/probe/machine.ts";
import { parseNvidiaSmi } from "../../src/core/accelerator/probe/nvidia-smi.ts";
import { blankReading, type ProbePlaces } from "../../src/core/accelerator/probe/reading.ts";
import { visibleGpus } from "../../src/core/accelerator/visible.ts";
import { openTestAccelerator, PROBE_COMMAND } from "../support/accelerator.ts";
import { compileGpuStandIn, type GpuStandIn } from "../support/gpu-stand-in.ts";
import { requires } from "../support/requires.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(60_000);

const MIB = 1024 * 1024;

/** A root of a filesystem with these files in it. */
function rootWith(directory: string, files: Record<string, string>): string {
	for (const [path, text] of Object.entries(files)) {
		mkdirSync(dirname(join(directory, path)), { recursive: true });
		writeFileSync(join(directory, path), `${text}\n`);
	}
	return directory;
}

const open = (places: ProbePlaces, options: Partial<AcceleratorOptions> = {}): Promise<Accelerator> =>
	openTestAccelerator({
		probeCommand: PROBE_COMMAND,
		places,
		lookMs: { wait: 20_000, every: 60_000 },
		...options,
	});
const nowhere = (root: string): ProbePlaces => ({
	nvml: join(root, "no-nvml.so"),
	cuda: join(root, "no-cuda.so"),
	smi: join(root, "no-smi"),
	root,
});

test("a machine without a sign of a GPU starts no process to look for one", async () => {
	using dir = tempDir();
	expect(hasGpus(dir.path)).toBe(false);
	await using gpus = await open(nowhere(dir.path), { probeCommand: ["/nonexistent"] });
	expect(gpus.devices()).toEqual([]);
	expect(gpus.readDevices()).toEqual([]);
});

test("NVIDIA's GPUs on the bus without a driver are told of, and why they cannot be used", async () => {
	using dir = tempDir();
	const device = "sys/bus/pci/devices/0000:01:00";
	rootWith(dir.path, {
		[`${device}.0/vendor`]: "0x10de",
		[`${device}.0/class`]: "0x030200",
		// Its sound is no GPU.
		[`${device}.1/vendor`]: "0x10de",
		[`${device}.1/class`]: "0x040300",
	});
	await using gpus = await open(nowhere(dir.path));
	expect(gpus.summaries()).toEqual([
		{ device: "gpu0", product: "NVIDIA GPU", problem: expect.stringContaining("driver is not installed") },
	]);
	expect(() => gpus.usage("gpu0")).toThrow(
		expect.objectContaining({ status: 503, details: expect.objectContaining({ reason: "gpu_not_usable" }) }),
	);
});

test("AMD's figures come from sysfs, in the order of the cards, and it says that nothing can be loaded", async () => {
	using dir = tempDir();
	const card = "sys/class/drm/card1/device";
	rootWith(dir.path, {
		[`${card}/vendor`]: "0x1002",
		[`${card}/mem_info_vram_total`]: String(64 * MIB),
		[`${card}/mem_info_vram_used`]: String(8 * MIB),
		[`${card}/gpu_busy_percent`]: "37",
		[`${card}/unique_id`]: "abc123",
		[`${card}/hwmon/hwmon3/temp1_input`]: "54000",
		[`${card}/hwmon/hwmon3/power1_average`]: "121000000",
		"sys/class/drm/card1-DP-1/status": "connected",
		// Another maker's, and an integrated one without memory of its own.
		"sys/class/drm/card0/device/vendor": "0x8086",
		"sys/class/drm/card2/device/vendor": "0x1002",
	});
	await using gpus = await open(nowhere(dir.path));
	expect(gpus.readDevices()).toEqual([
		expect.objectContaining({
			device: "gpu0",
			product: "AMD GPU",
			uuid: "abc123",
			usage: 37,
			temperature: 54,
			power_w: 121,
			memory: null,
			problem: expect.stringContaining("AMD"),
		}),
	]);
});

test("nvidia-smi's table is read, with names that have commas and figures that are not there", () => {
	const text = [
		"0, NVIDIA H100 80GB HBM3, GPU-1, 81559, 1024, 78, 65, 251.50, 700.00, 1980, 2619",
		"1, Quadro, the second, GPU-2, 8192, 1, [N/A], 40, [Not Supported], [N/A], 300, 405",
		"2, NVIDIA GB10, GPU-3, [N/A], [N/A], 0, 50, 10.0, [N/A], 2418, [N/A]",
		"",
		"Failed to initialize NVML: Unknown Error",
		"3, cut off",
	].join("\n");
	expect(parseNvidiaSmi(text)).toEqual([
		expect.objectContaining({ index: 0, totalBytes: 81559 * MIB, usedBytes: 1024 * MIB, powerW: 251.5 }),
		expect.objectContaining({
			product: "Quadro, the second",
			uuid: "GPU-2",
			usagePercent: null,
			powerW: null,
		}),
		expect.objectContaining({ index: 2, totalBytes: null, memoryClockMhz: null, clockMhz: 2418 }),
	]);
});

test("where the library cannot be loaded the tool is asked, and one that hangs is not waited for", async () => {
	using dir = tempDir();
	const smi = join(dir.path, "smi");
	const say = (script: string): void => {
		writeFileSync(smi, `#!/bin/sh\n${script}\n`);
		chmodSync(smi, 0o755);
	};
	const places = { ...nowhere(rootWith(dir.path, { "dev/nvidiactl": "" })), smi };
	say('echo "0, NVIDIA T4, GPU-9, 15360, 100, 3, 41, 30.1, 70.0, 585, 5000"');
	await using gpus = await open(places);
	expect(gpus.summaries()).toEqual([
		{
			device: "gpu0",
			product: "NVIDIA T4",
			problem: expect.stringContaining("libcuda.so.1 cannot be loaded"),
		},
	]);
	say("exec sleep 1000");
	await using none = await open(places, { lookMs: { wait: 300, every: 60_000 } });
	expect(none.devices()).toEqual([]);
});

test("a device file that this user may not open is named", () => {
	using dir = tempDir();
	rootWith(dir.path, { "dev/nvidiactl": "", "dev/nvidia1": "" });
	expect(permissionProblem(dir.path, 0)).toBeNull();
	chmodSync(join(dir.path, "dev/nvidia1"), 0);
	// Root may open everything.
	const isRoot = process.getuid?.() === 0;
	expect(permissionProblem(dir.path, 1)).toBe(isRoot ? null : "this user may not open /dev/nvidia1");
});

test("CUDA_VISIBLE_DEVICES leaves the devices that it names their own numbers", () => {
	const gpu = (index: number) => ({
		...blankReading({ index, vendor: "nvidia", product: "a GPU", problem: null }),
		uuid: `GPU-${index}abc`,
	});
	const amd = blankReading({ index: 3, vendor: "amd", product: "another", problem: null });
	const all = [gpu(0), gpu(1), gpu(2), amd];
	const seen = (text: string | undefined): number[] => visibleGpus(all, text).map(({ index }) => index);
	expect(seen(undefined)).toEqual([0, 1, 2, 3]);
	expect(seen("")).toEqual([3]);
	expect(seen("2,0")).toEqual([0, 2, 3]);
	expect(seen("GPU-1")).toEqual([1, 3]);
	expect(seen("GPU-")).toEqual([3]);
	// As CUDA does: what comes behind a wrong entry is not seen.
	expect(seen("1,-1,2")).toEqual([1, 3]);
	expect(seen("MIG-1")).toEqual([3]);
});

// A compiler, and the headers of the C library, which bring gencat along.
const hasCompiler =
	requires("cc", "NVIDIA's management library through FFI", "gcc") &&
	requires("gencat", "NVIDIA's management library through FFI", "libc6-dev");
(hasCompiler ? describe : describe.skip)("NVIDIA's management library", () => {
	const dir = tempDir();
	let gpu: GpuStandIn;
	beforeAll(() => {
		gpu = compileGpuStandIn(dir.path);
	});
	afterAll(() => dir[Symbol.dispose]());

	test("gives name, memory, load, temperature, power, clocks and processes of each device", async () => {
		gpu.set({ devices: 2, memory: 64 * MIB, nvml_used: 16 * MIB });
		await using gpus = await open(gpu.places);
		expect(gpus.devices().map(({ name }) => name)).toEqual(["gpu0", "gpu1"]);
		expect(gpus.readDevices()[1]).toEqual({
			device: "gpu1",
			product: "Stand-in GPU 1",
			uuid: "GPU-stand-in-1",
			simulated: false,
			problem: null,
			memory: { total: 64 * MIB, used: 16 * MIB, reserved: 0, available: 48 * MIB },
			usage: 78,
			temperature: 65,
			power_w: 251.5,
			power_limit_w: 700,
			clock_mhz: 1980,
			memory_clock_mhz: 2619,
			processes: [
				{ pid: 1234, used_bytes: 2 ** 30 },
				{ pid: 5678, used_bytes: null },
			],
			read_at: expect.any(Number),
		});
	});

	test("figures that a device does not have are null, and one without a size cannot be used", async () => {
		gpu.set({ nvmlDeviceGetUtilizationRates: 3, nvmlDeviceGetComputeRunningProcesses_v3: 3 });
		await using gpus = await open(gpu.places);
		expect(gpus.readDevices()[0]).toMatchObject({ usage: null, processes: [], problem: null });
		gpu.set({ nvmlDeviceGetMemoryInfo: 3 });
		await using other = await open(gpu.places);
		expect(other.summaries()[0]?.problem).toContain("size of its memory");
	});

	test("a driver that does not answer stalls nobody: the look ends, the devices say so, and come back", async () => {
		gpu.set({});
		await using gpus = await open(gpu.places, { lookMs: { wait: 3000, every: 100 } });
		expect(gpus.usage("gpu0").total).toBe(64 * MIB);
		gpu.set({ "hang.nvmlDeviceGetMemoryInfo": 1 });
		await until("it is told", () => gpus.summaries()[0]?.problem === "its driver does not answer");
		gpu.set({});
		await until("it is back", () => gpus.summaries()[0]?.problem === null);
	});

	test("a device that falls off the bus stays, and says so", async () => {
		gpu.set({ devices: 2 });
		await using gpus = await open(gpu.places, { lookMs: { wait: 20_000, every: 50 } });
		gpu.set({ devices: 1 });
		await until("it is told", () => gpus.summaries()[1]?.problem === "it is not there any more");
		expect(gpus.summaries()[0]?.problem).toBeNull();
	});

	test("a CUDA that does not start is named by its own name for it", async () => {
		gpu.set({ cuInit: 100 });
		await using gpus = await open(gpu.places);
		expect(gpus.summaries()[0]?.problem).toBe("CUDA does not start (CUDA_ERROR_NO_DEVICE)");
	});
});
