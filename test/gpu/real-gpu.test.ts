/** A GPU that is really there, through its own driver: what the stand-in of test/accelerator cannot show. */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { hasGpus } from "../../src/core/accelerator/probe/machine.ts";
import { loadInput, openTestAccelerator, PROBE_COMMAND } from "../support/accelerator.ts";
import { someBytes } from "../support/faulty-source.ts";
import { hasHardware } from "../support/requires.ts";
import { MODEL, REVISION } from "../support/staged-model.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(120_000);

const MIB = 1024 * 1024;
const NEVER = new AbortController().signal;
const gpus = hasGpus("/")
	? await openTestAccelerator({ probeCommand: PROBE_COMMAND, lookMs: { wait: 30_000, every: 500 } })
	: undefined;
const [first] = gpus?.devices().filter(({ problem }) => problem === undefined) ?? [];

if (hasHardware("GPU that models can be loaded to", first !== undefined, "loading to a real GPU"))
	describe("a real GPU", () => {
		const files = { "config.json": "{}", "weights.bin": someBytes(192 * MIB + 77, 9) };
		const device = first?.name ?? "";
		if (gpus === undefined) throw new Error("there is a GPU, and nothing to reach it by");
		afterAll(() => gpus[Symbol.asyncDispose]());

		test("tells its size, its load and its temperature", () => {
			const reading = gpus.readDevices().find((one) => one.device === device);
			expect(reading?.memory?.total).toBeGreaterThan(1024 * MIB);
			expect(reading?.problem).toBeNull();
			expect(reading?.temperature ?? 20).toBeGreaterThan(0);
		});

		test("takes a model, gives it back bit by bit, and has its memory free again afterwards", async () => {
			using dir = tempDir();
			const before = gpus.usage(device).available;
			const input = loadInput(dir.path, files, { device, direct: true });
			const copy = await gpus.load(input, NEVER);
			expect(gpus.usage(device).available).toBeLessThan(before);
			await gpus.verify(copy, input.manifest, NEVER);
			await gpus.unload(MODEL, REVISION, device);
			expect(gpus.residencies()).toEqual([]);
		});

		test("is free of a model as soon as its holder is killed", async () => {
			using dir = tempDir();
			await gpus.load(loadInput(dir.path, files, { device }), NEVER);
			process.kill(gpus.holderPid(device) ?? 0, "SIGKILL");
			await until("the residency is gone", () => gpus.residencies().length === 0);
		});

		test("refuses what is larger than what it has, with the numbers", async () => {
			using dir = tempDir();
			const input = loadInput(dir.path, files, { device });
			const manifest = { ...input.manifest, total_bytes: gpus.usage(device).total + 1 };
			expect(await gpus.load({ ...input, manifest }, NEVER).catch((error: unknown) => error)).toMatchObject({
				code: "RESOURCE_UNAVAILABLE",
				details: { required: manifest.total_bytes, device: `node1:${device}` },
			});
		});
	});
