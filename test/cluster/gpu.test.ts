import { expect, test } from "bun:test";
import { asGswarmError } from "../../src/schema/errors.ts";
import { HOLDER_COMMAND, PROBE_COMMAND } from "../support/accelerator.ts";
import { compileGpuStandIn } from "../support/gpu-stand-in.ts";
import { requires } from "../support/requires.ts";
import { tempDir } from "../support/temp-dir.ts";
import { fixtureEngine } from "../support/fixture-engine.ts";
import { localCluster, modelFiles } from "../support/cluster.ts";
import { until } from "../support/until.ts";

const MODEL = "acme/tiny";
const params = { model_name: MODEL };
const BYTES = 1_500_000;
const SIZE = BYTES + 2;
const MEMORY = 8_000_000;
const files = {
	[MODEL]: modelFiles(BYTES),
	"acme/big": modelFiles(9_000_000),
	"acme/a": modelFiles(3_500_000),
	"acme/b": modelFiles(3_500_000),
	"acme/c": modelFiles(3_500_000),
};
const LIMIT_MS = 90_000;

async function failureOf(
	run: Promise<unknown>,
): Promise<{ status: number; details: Record<string, unknown> }> {
	try {
		await run;
	} catch (error) {
		const { status, details } = asGswarmError(error);
		return { status, details };
	}
	throw new Error("it was accepted");
}

const standing = (nodes: readonly string[] = ["node1"]) =>
	localCluster({ nodes, files, simulatedGpus: [MEMORY, MEMORY], engineCommand: fixtureEngine() });
type Standing = Awaited<ReturnType<typeof standing>>;

const gpuOf = async (c: Standing, node: string, gpu = "gpu0") => {
	const { nodes } = await c.host.client.call("listNodes", {});
	return nodes.find(({ name }) => name === node)?.tiers[gpu];
};

test(
	"a model moves from disk to a GPU and back, with phases for people and simulated written on everything",
	async () => {
		await using c = await standing();
		await c.download(MODEL, "node1:disk");
		expect(await gpuOf(c, "node1")).toEqual({
			total: MEMORY,
			used: 0,
			reserved: 0,
			available: MEMORY,
			evictable: 0,
			simulated: true,
		});
		const loaded = await c.done(c.move(MODEL, "node1:disk", "node1:gpu0", { keep_source: true }));
		expect(loaded).toMatchObject({
			phase: "ready",
			progress: { bytes_done: SIZE, bytes_total: SIZE },
			result: { device: "node1:gpu0", size_bytes: SIZE, simulated: true },
		});
		expect(await c.ready(MODEL)).toEqual(["node1:disk", "node1:gpu0"]);
		const { locations } = await c.host.client.call("listLocations", { params });
		expect(locations.find(({ device }) => device === "node1:gpu0")).toMatchObject({
			status: "ready",
			simulated: true,
		});
		expect(locations.find(({ device }) => device === "node1:disk")).not.toHaveProperty("simulated");
		expect(await gpuOf(c, "node1")).toMatchObject({ used: SIZE, available: MEMORY - SIZE });
		// There already: nothing to do.
		await c.done(c.move(MODEL, "node1:disk", "node1:gpu0", { keep_source: true }));
		// The last durable copy stays, whatever was asked.
		const kept = await c.done(c.move(MODEL, "node1:disk", "node1:gpu0"));
		expect(kept.result).toMatchObject({ source_kept: "last_durable_copy" });
		const other = await c.done(c.move(MODEL, "node1:gpu0", "node1:gpu1"));
		expect(other.result).toMatchObject({ device: "node1:gpu1" });
		expect(await c.ready(MODEL)).toEqual(["node1:disk", "node1:gpu1"]);
		const back = await c.done(c.move(MODEL, "node1:gpu1", "node1:dram"));
		expect(back.result).toMatchObject({ device: "node1:dram" });
		expect(await c.ready(MODEL)).toEqual(["node1:disk", "node1:dram"]);
		expect(await gpuOf(c, "node1", "gpu1")).toMatchObject({ used: 0, available: MEMORY });
		const warm = await c.done(c.copy(MODEL, "node1:dram", "node1:gpu0"));
		expect(warm.result).toMatchObject({ device: "node1:gpu0" });
		const gone = await c.done(c.remove(MODEL, "node1:gpu0"));
		expect(gone.result).toMatchObject({ freed_bytes: SIZE });
		expect(await c.ready(MODEL)).toEqual(["node1:disk", "node1:dram"]);
	},
	LIMIT_MS,
);

test(
	"a model comes to the GPU of another node through that node's disk, as one task",
	async () => {
		await using c = await standing(["node1", "node2"]);
		await c.download(MODEL, "node1:disk");
		const task = await c.done(c.copy(MODEL, "node1:disk", "node2:gpu0"));
		expect(task.result).toMatchObject({ device: "node2:gpu0", via: "node2:disk", simulated: true });
		expect(task.progress).toMatchObject({ bytes_done: 2 * SIZE, bytes_total: 2 * SIZE });
		expect(await c.ready(MODEL)).toEqual(["node1:disk", "node2:disk", "node2:gpu0"]);
		// From its GPU to another node: the files go, the GPU's memory is freed.
		await c.done(c.remove(MODEL, "node1:disk"));
		const moved = await c.done(c.move(MODEL, "node2:gpu0", "node1:disk"));
		expect(moved.result).not.toHaveProperty("source_kept");
		expect(await c.ready(MODEL)).toEqual(["node1:disk", "node2:disk"]);
		expect(await gpuOf(c, "node2")).toMatchObject({ used: 0 });
	},
	LIMIT_MS,
);

test(
	"what cannot be is refused with the device, and with the numbers where it is room",
	async () => {
		await using c = await standing();
		await c.download(MODEL, "node1:disk");
		await c.download("acme/big", "node1:disk");
		const size = 9_000_002;
		expect(await failureOf(c.copy("acme/big", "node1:disk", "node1:gpu0"))).toEqual({
			status: 507,
			details: { reason: "insufficient_space", required: size, available: MEMORY, device: "node1:gpu0" },
		});
		const reason = async (from: string, to: string): Promise<string> => {
			const { status, details } = await failureOf(c.copy(MODEL, from, to));
			return `${status} ${String(details["reason"])}`;
		};
		expect(await reason("node1:disk", "node1:gpu7")).toBe("404 device_not_found");
		expect(await reason("node1:disk", "node9:gpu0")).toBe("404 node_not_found");
		expect(await reason("node1:disk", "gpu")).toBe("400 bad_device");
		expect(await reason("node1:gpu0", "node1:gpu0")).toBe("404 model_not_found");
		expect(await reason("node1:gpu0", "node1:dram")).toBe("404 model_not_found");
		await c.done(c.copy(MODEL, "node1:disk", "node1:gpu0"));
		expect(await reason("node1:gpu0", "node1:gpu:0")).toBe("400 same_device");
		const node = c.node("node1").client;
		const foreign = { source_device: "node1:disk", target_device: "node2:gpu0" };
		expect(await failureOf(node.call("copyModel", { params, body: foreign }))).toMatchObject({ status: 400 });
		const download = c.host.client.call("downloadModel", { params, body: { target_device: "node1:gpu0" } });
		expect(await failureOf(download)).toMatchObject({ status: 400, details: { reason: "not_for_gpus" } });
	},
	LIMIT_MS,
);

test(
	"a holder that is killed takes the location with it, and its memory is free",
	async () => {
		await using c = await standing();
		await c.download(MODEL, "node1:disk");
		await c.done(c.copy(MODEL, "node1:disk", "node1:gpu0"));
		process.kill(c.node("node1").role.accelerator.holderPid("gpu0") ?? 0, "SIGKILL");
		await until("the host knows", async () => !(await c.ready(MODEL)).includes("node1:gpu0"));
		expect(await gpuOf(c, "node1")).toMatchObject({ used: 0, available: MEMORY });
		await c.done(c.copy(MODEL, "node1:disk", "node1:gpu0"));
		expect(await c.ready(MODEL)).toEqual(["node1:disk", "node1:gpu0"]);
	},
	LIMIT_MS,
);

test(
	"a served GPU never holds the model twice, is in use until the service stops, and says that it is simulated",
	async () => {
		await using c = await standing();
		await c.download(MODEL, "node1:disk");
		await c.done(c.copy(MODEL, "node1:disk", "node1:gpu0"));
		const { accelerator } = c.node("node1").role;
		let most = 0;
		using watching = accelerator.onChange(() => {
			most = Math.max(most, accelerator.usage("gpu0").used + accelerator.usage("gpu0").reserved);
		});
		void watching;
		const served = await c.done(
			c.host.client.call("startService", { body: { model_name: MODEL, device: "node1:gpu0" } }),
		);
		expect(served.result).toMatchObject({ simulated: true });
		expect(accelerator.residencies()).toEqual([]);
		const { task_id } = await c.host.client.call("verifyModel", { params, body: { device: "node1:gpu0" } });
		expect((await c.ended(task_id)).error?.details).toMatchObject({ reason: "in_use", device: "node1:gpu0" });
		expect(accelerator.usage("gpu0").used).toBe(SIZE);
		expect(most).toBe(SIZE);
		const { services } = await c.host.client.call("listServices", {});
		expect(services[0]).toMatchObject({ device: "node1:gpu0", state: "ready", simulated: true });
		// The engine has it there now.
		await until("the host knows", async () => (await c.ready(MODEL)).includes("node1:gpu0"));
		expect(await failureOf(c.remove(MODEL, "node1:gpu0"))).toMatchObject({
			status: 409,
			details: { reason: "in_use" },
		});
		expect(await failureOf(c.move(MODEL, "node1:gpu0", "node1:dram"))).toMatchObject({
			status: 409,
			details: { reason: "in_use" },
		});
		// It is there already, and is not loaded beside the engine.
		await c.done(c.copy(MODEL, "node1:disk", "node1:gpu0"));
		expect(accelerator.residencies()).toEqual([]);
		const id = services[0]?.service_id ?? "";
		await c.done(c.host.client.call("stopService", { params: { service_id: id } }));
		expect(accelerator.usage("gpu0").used).toBe(0);
		await until("the host knows", async () => !(await c.ready(MODEL)).includes("node1:gpu0"));
	},
	LIMIT_MS,
);

test(
	"serving on a GPU needs the model's files on that node alone, and room on the device",
	async () => {
		await using c = await standing(["node1", "node2"]);
		await c.download(MODEL, "node1:disk");
		await c.download("acme/big", "node1:disk");
		const serve = (model_name: string, device: string) =>
			c.host.client.call("startService", { body: { model_name, device } });
		expect(await failureOf(serve(MODEL, "node2:gpu0"))).toMatchObject({ status: 404 });
		expect(await failureOf(serve("acme/big", "node1:gpu0"))).toMatchObject({
			status: 507,
			details: { available: MEMORY, device: "node1:gpu0" },
		});
		await c.done(serve(MODEL, "node1:gpu0"));
	},
	LIMIT_MS,
);

test(
	"what a GPU holds gives way to what is loaded, just enough of it, but for what is pinned or served",
	async () => {
		await using c = await standing();
		for (const name of ["acme/a", "acme/b", "acme/c", MODEL]) await c.download(name, "node1:disk");
		const load = (name: string) => c.copy(name, "node1:disk", "node1:gpu0");
		const held = (): string[] =>
			c
				.node("node1")
				.role.accelerator.residencies()
				.map(({ model_name }) => model_name)
				.sort();
		await c.done(load("acme/a"));
		await c.done(load("acme/b"));
		// Asked for again: it is used, and the other one goes first.
		await c.done(load("acme/a"));
		const usage = await until("the host knows", async () => {
			const now = await gpuOf(c, "node1");
			return now?.evictable === 2 * 3_500_002 && now;
		});
		expect(usage).toMatchObject({ available: MEMORY - 2 * 3_500_002 });
		await c.done(load("acme/c"));
		expect(held()).toEqual(["acme/a", "acme/c"]);
		const pin = { params: { model_name: "acme/a" }, body: { device: "node1:gpu0", pinned: true } };
		await c.host.client.call("pinModel", pin);
		const plan = await c.host.client.call("planEviction", {
			query: { device: "node1:gpu0", bytes: String(4_000_000) },
		});
		expect(plan).toMatchObject({ suffices: true, freed_bytes: 3_500_002 });
		expect(plan.copies.map(({ model_name, verdict, reason }) => [model_name, verdict, reason])).toEqual([
			["acme/c", "goes", null],
			["acme/a", "stays", "pinned"],
		]);
		const evict = { body: { device: "node1:gpu0", bytes: 4_000_000 } };
		expect((await c.done(c.host.client.call("evictModels", evict))).result).toMatchObject({
			freed_bytes: 3_500_002,
		});
		expect(held()).toEqual(["acme/a"]);
		// Served and pinned: there is no room, and nobody goes.
		await c.done(
			c.host.client.call("startService", { body: { model_name: "acme/b", device: "node1:gpu0" } }),
		);
		expect(held()).toEqual(["acme/a"]);
		expect(await failureOf(load("acme/c"))).toMatchObject({
			status: 507,
			details: { device: "node1:gpu0", available: MEMORY - 2 * 3_500_002 },
		});
		// An engine takes its place from what a holder has.
		await c.host.client.call("pinModel", { ...pin, body: { ...pin.body, pinned: false } });
		await c.done(
			c.host.client.call("startService", { body: { model_name: "acme/c", device: "node1:gpu0" } }),
		);
		expect(held()).toEqual([]);
	},
	LIMIT_MS,
);

test(
	"one copy to several GPUs brings the files to each node's disk once, and loads them from there",
	async () => {
		await using c = await standing(["node1", "node2"]);
		await c.download(MODEL, "node1:disk");
		const body = {
			kind: "copy" as const,
			models: [{ model_name: MODEL }],
			target_devices: ["node2:gpu0", "node2:gpu1", "node1:gpu0"],
		};
		const plan = await c.host.client.call("planTransfer", { body });
		expect(plan.items.map(({ target_device }) => target_device)).toEqual([
			"node2:disk",
			"node2:gpu0",
			"node2:gpu1",
			"node1:gpu0",
		]);
		await c.done(c.host.client.call("transferModels", { body }));
		expect(await c.ready(MODEL)).toEqual([
			"node1:disk",
			"node1:gpu0",
			"node2:disk",
			"node2:gpu0",
			"node2:gpu1",
		]);
		const download = { ...body, kind: "download" as const, models: [{ model_name: "acme/a" }] };
		expect(await failureOf(c.host.client.call("transferModels", { body: download }))).toMatchObject({
			status: 400,
			details: { reason: "not_for_gpus" },
		});
	},
	LIMIT_MS,
);

test(
	"download, load and serve can be asked for at once, each after the one before",
	async () => {
		await using c = await standing(["node1", "node2"]);
		const { client } = c.host;
		const download = await client.call("downloadModel", { params, body: { target_device: "node2:disk" } });
		const load = await client.call("moveModel", {
			params,
			body: {
				source_device: "node2:disk",
				target_device: "node2:gpu0",
				keep_source: true,
				dependencies: [download.task_id],
			},
		});
		const serve = await client.call("startService", {
			body: { model_name: MODEL, device: "node2:gpu0", dependencies: [load.task_id] },
		});
		const served = await c.ended(serve.task_id);
		expect(served).toMatchObject({ status: "completed", result: { simulated: true } });
		const { services } = await client.call("listServices", {});
		expect(services[0]).toMatchObject({ device: "node2:gpu0", state: "ready" });
	},
	LIMIT_MS,
);

test(
	"loads that do not fit side by side wait for each other, and a model that is unregistered leaves its GPUs too",
	async () => {
		await using c = await standing();
		const names = ["acme/a", "acme/b", "acme/c"];
		for (const name of names) await c.download(name, "node1:disk");
		const loads = await Promise.all(names.map((name) => c.copy(name, "node1:disk", "node1:gpu0")));
		for (const { task_id } of loads) expect(await c.ended(task_id)).toMatchObject({ status: "completed" });
		const { accelerator } = c.node("node1").role;
		expect(accelerator.residencies()).toHaveLength(2);
		expect(accelerator.usage("gpu0")).toMatchObject({ used: 2 * 3_500_002, reserved: 0 });
		for (const name of names) await c.done(c.remove(name));
		expect(accelerator.residencies()).toEqual([]);
		expect(accelerator.usage("gpu0").used).toBe(0);
		expect((await c.host.client.call("listModels", {})).models).toEqual([]);
	},
	LIMIT_MS,
);

test(
	"the files in memory stay when no others are on the node: a GPU cannot give a model back",
	async () => {
		await using c = await standing();
		await c.download(MODEL, "node1:dram");
		const only = await c.done(c.move(MODEL, "node1:dram", "node1:gpu0"));
		expect(only.result).toMatchObject({ device: "node1:gpu0", source_kept: "last_file_copy" });
		await c.done(c.copy(MODEL, "node1:dram", "node1:disk"));
		const moved = await c.done(c.move(MODEL, "node1:dram", "node1:gpu1"));
		expect(moved.result).not.toHaveProperty("source_kept");
		expect(await c.ready(MODEL)).toEqual(["node1:disk", "node1:gpu0", "node1:gpu1"]);
		await c.done(c.remove(MODEL, "node1:disk", { force: true }));
		expect(await failureOf(c.copy(MODEL, "node1:gpu0", "node1:dram"))).toMatchObject({
			status: 409,
			details: { reason: "no_file_copy", device: "node1:gpu0" },
		});
	},
	LIMIT_MS,
);

test("a GPU that the configuration names and the machine lacks stops the node, and says how to simulate it", async () => {
	const start = async (named: readonly string[]): Promise<void> => {
		await using c = await localCluster({ nodes: ["node1"], gpus: { simulatedBytes: [MEMORY], named } });
		void c;
	};
	expect(await failureOf(start(["gpu0", "gpu1"]))).toEqual({
		status: 400,
		details: { reason: "no_such_gpu", gpu: "gpu1", found: ["gpu0"] },
	});
	await start(["gpu0"]);
});

const what = "a real GPU's node through a library with its symbols";
// A compiler, and the headers of the C library, which bring gencat along.
const hasCompiler = requires("cc", what, "gcc") && requires("gencat", what, "libc6-dev");
(hasCompiler ? test : test.skip)(
	"a GPU that is no simulation holds models, and the engine that computes on the CPU is not served on it",
	async () => {
		using dir = tempDir();
		const { places, set } = compileGpuStandIn(dir.path);
		set({ memory: MEMORY });
		await using c = await localCluster({
			nodes: ["node1"],
			files,
			gpus: { holderCommand: HOLDER_COMMAND, probeCommand: PROBE_COMMAND, places },
			engineCommand: fixtureEngine(),
		});
		await c.download(MODEL, "node1:disk");
		const loaded = await c.done(c.copy(MODEL, "node1:disk", "node1:gpu0"));
		expect(loaded.result).not.toHaveProperty("simulated");
		const { locations } = await c.host.client.call("listLocations", { params });
		expect(locations.find(({ device }) => device === "node1:gpu0")).not.toHaveProperty("simulated");
		const serve = c.host.client.call("startService", { body: { model_name: MODEL, device: "node1:gpu0" } });
		expect(await failureOf(serve)).toMatchObject({
			status: 400,
			details: { reason: "engine_without_gpu", device: "node1:gpu0" },
		});
		expect(await c.ready(MODEL)).toContain("node1:gpu0");
		const { nodes } = await c.host.client.call("listNodes", {});
		expect(nodes[0]?.gpus).toEqual([{ device: "gpu0", product: "Stand-in GPU 0", problem: null }]);
		const { compute } = await c.node("node1").client.call("getResources", { query: {} });
		expect(compute["gpu0"]).toMatchObject({ usage: 78, temperature: 65, power_w: 251.5 });
	},
	LIMIT_MS,
);
