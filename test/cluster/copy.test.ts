import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { createApiClient } from "../../src/api/client.ts";
import { sha256Hex, xxh64Hex } from "../../src/platform/hash.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { canonicalManifest } from "../../src/schema/manifest.ts";
import { localCluster, type LocalCluster, modelFiles } from "../support/cluster.ts";
import { until } from "../support/until.ts";

const MODEL = "acme/tiny";
const params = { model_name: MODEL };
const BYTES = 1_500_000;
const files = { [MODEL]: modelFiles(BYTES) };
/** About three seconds for the model, so that a test can come in between. */
const SLOW = { bandwidth_limit: 500_000 };
const LIMIT_MS = 90_000;

async function reasonOf(run: Promise<unknown>): Promise<string> {
	try {
		await run;
	} catch (error) {
		const { status, reason } = asGswarmError(error);
		return `${status} ${reason}`;
	}
	return "accepted";
}

/** A slow copy from node1 to node2 of which some bytes have arrived. */
async function copyUnderWay(c: LocalCluster): Promise<string> {
	await c.download(MODEL, "node1:disk");
	const { task_id } = await c.copy(MODEL, "node1:disk", "node2:disk", SLOW);
	await until("bytes arrive", async () => {
		const { progress } = await c.host.client.call("getTask", { params: { task_id } });
		return progress.bytes_done > 0;
	});
	return task_id;
}

test(
	"a model comes from the hub, is copied to another node and moved on to memory, byte for byte",
	async () => {
		await using c = await localCluster({ files });
		const downloaded = await c.download(MODEL, "node1:disk");
		expect(await c.ready(MODEL)).toEqual(["node1:disk"]);
		const copied = await c.done(c.copy(MODEL, "node1:disk", "node2:disk"));
		expect(copied.result).toMatchObject({ ...downloaded.result, device: "node2:disk" });
		const moved = await c.done(c.move(MODEL, "node2:disk", "node2:dram"));
		expect(moved.result).toMatchObject({ device: "node2:dram" });
		// Another durable copy is on node1, so that this one may go.
		expect(moved.result).not.toHaveProperty("source_kept");
		expect(await c.ready(MODEL)).toEqual(["node1:disk", "node2:dram"]);
		expect(c.node("node2").files("disk")).toEqual([]);
		expect(c.node("node2").files("dram")).toEqual(c.node("node1").files("disk"));
		const there = c.node("node2").role.storage.tier("dram").root;
		const [, weights = ""] = c.node("node2").files("dram");
		expect(readFileSync(join(there, weights)).equals(files[MODEL]?.["model.safetensors"] as Uint8Array)).toBe(
			true,
		);
	},
	LIMIT_MS,
);

test(
	"a copy between nodes is one durable task of the host, which shows how far the node has come",
	async () => {
		await using c = await localCluster({ files });
		const taskId = await copyUnderWay(c);
		const { task_queue, tasks } = await c.host.client.call("queueStatus", { query: { node: "host" } });
		expect(task_queue).toMatchObject({ running: 1 });
		expect(tasks).toMatchObject([{ task_id: taskId, node: "host", status: "running", phase: "copying" }]);
		expect(tasks[0]?.progress.bytes_total).toBe(BYTES + 2);
		const model = await c.host.client.call("getModel", { params });
		expect(model.status).toBe("ready");
		const done = await c.ended(taskId);
		expect(done).toMatchObject({ status: "completed", progress: { bytes_done: BYTES + 2 } });
		const own = await c.host.client.call("queueHistory", { query: { node: "host" } });
		expect(own.tasks.map((it) => it.task_id)).toEqual([taskId]);
		const history = await c.host.client.call("queueHistory", { query: { node: "node2" } });
		expect(history.tasks.map((it) => [it.task_type, it.status, it.node])).toEqual([
			["copy", "completed", "node2"],
		]);
	},
	LIMIT_MS,
);

test(
	"a cancelled copy leaves the source whole and free, and nothing at all at the target",
	async () => {
		await using c = await localCluster({ files });
		const taskId = await copyUnderWay(c);
		const cancelled = await c.host.client.call("cancelTask", { params: { task_id: taskId } });
		expect(cancelled.status).toBe("cancelled");
		const [onNode] = (await c.host.client.call("queueHistory", { query: { node: "node2" } })).tasks;
		expect(onNode).toMatchObject({ task_type: "copy", status: "cancelled" });
		await until("nothing is left on node2", () => c.node("node2").files().length === 0);
		expect(await c.ready(MODEL)).toEqual(["node1:disk"]);
		expect(c.node("node1").files()).toHaveLength(2);
		expect(await reasonOf(c.host.client.call("cancelTask", { params: { task_id: taskId } }))).toBe(
			"409 already_terminal",
		);
		// Nobody reads the source any more: it may go at once.
		await c.done(c.remove(MODEL, "node1:disk", { force: true }));
	},
	LIMIT_MS,
);

test(
	"a host that is started again in mid-copy goes on with the same task of the node",
	async () => {
		await using c = await localCluster({ files });
		const taskId = await copyUnderWay(c);
		await c.host.stop();
		await c.host.start();
		const task = await c.ended(taskId);
		expect(task.status).toBe("completed");
		expect(await c.ready(MODEL)).toEqual(["node1:disk", "node2:disk"]);
		const { tasks } = await c.host.client.call("queueHistory", { query: { node: "node2" } });
		expect(tasks.map((it) => [it.task_type, it.status, it.attempt])).toEqual([["copy", "completed", 1]]);
	},
	LIMIT_MS,
);

test(
	"a target that is started again in mid-copy goes on, and the host's task with it",
	async () => {
		await using c = await localCluster({ files });
		const taskId = await copyUnderWay(c);
		await c.node("node2").stop();
		await c.node("node2").start();
		expect((await c.ended(taskId)).status).toBe("completed");
		expect(await c.ready(MODEL)).toEqual(["node1:disk", "node2:disk"]);
		expect(
			c
				.node("node2")
				.files()
				.filter((it) => it.startsWith("staging")),
		).toEqual([]);
	},
	LIMIT_MS,
);

test(
	"a source that is started again in mid-copy is found at its new port, and the copy goes on",
	async () => {
		await using c = await localCluster({ files });
		const taskId = await copyUnderWay(c);
		await c.node("node1").stop();
		await c.node("node1").start();
		expect((await c.ended(taskId)).status).toBe("completed");
		expect(await c.ready(MODEL)).toEqual(["node1:disk", "node2:disk"]);
	},
	LIMIT_MS,
);

test(
	"what a copy has received is gone when it is cancelled while it waits for another try",
	async () => {
		await using c = await localCluster({ files });
		await copyUnderWay(c);
		const node = c.node("node2");
		await c.host.stop();
		await node.stop();
		await node.start();
		// It cannot get access to the source without the host.
		const task = await until("node2 waits for another try", async () => {
			const [found] = (await node.client.call("queueStatus", {})).tasks;
			return found?.status === "pending" ? found : undefined;
		});
		expect(node.files()).not.toEqual([]);
		await node.client.call("cancelTask", { params: { task_id: task.task_id } });
		await until("nothing is left on node2", () => node.files().length === 0);
	},
	LIMIT_MS,
);

test(
	"nobody but the receiver gets access to the source's parts, and it no longer when the copy is over",
	async () => {
		await using c = await localCluster({ files });
		const taskId = await copyUnderWay(c);
		const ask = (name: string): Promise<string> => {
			const as = createApiClient({ baseUrl: c.host.url, token: () => c.node(name).token });
			return reasonOf(as.call("requestGrant", { body: { operation_id: taskId } }));
		};
		expect(await ask("node1")).toBe("403 not_your_node");
		const part = `${c.node("node1").peerUrl}/parts/${"a".repeat(64)}/0`;
		expect((await fetch(part)).status).toBe(401);
		expect((await fetch(part, { headers: { authorization: "Bearer guess" } })).status).toBe(403);
		const bundle = `${c.node("node1").peerUrl}/bundles/${"a".repeat(64)}?first=0&end=1`;
		expect((await fetch(bundle)).status).toBe(401);
		expect((await fetch(bundle, { headers: { authorization: "Bearer guess" } })).status).toBe(403);
		expect((await c.ended(taskId)).status).toBe("completed");
		expect(await ask("node2")).toBe("403 not_your_node");
	},
	LIMIT_MS,
);

describe("a move", () => {
	test(
		"to memory keeps its source where that is the last durable copy, and says so",
		async () => {
			await using c = await localCluster({ files });
			await c.download(MODEL, "node1:disk");
			const near = await c.done(c.move(MODEL, "node1:disk", "node1:dram"));
			expect(near.result).toMatchObject({ device: "node1:dram", source_kept: "last_durable_copy" });
			const far = await c.done(c.move(MODEL, "node1:disk", "node2:dram"));
			expect(far.result).toMatchObject({ device: "node2:dram", source_kept: "last_durable_copy" });
			expect(await c.ready(MODEL)).toEqual(["node1:disk", "node1:dram", "node2:dram"]);
		},
		LIMIT_MS,
	);

	test(
		"to a disk takes the source with it, on one node and between two; keep_source keeps it",
		async () => {
			await using c = await localCluster({ files });
			await c.download(MODEL, "node1:disk");
			expect((await c.done(c.move(MODEL, "node1:disk", "node1:disk1"))).result).not.toHaveProperty(
				"source_kept",
			);
			expect(await c.ready(MODEL)).toEqual(["node1:disk1"]);
			expect((await c.done(c.move(MODEL, "node1:disk1", "node2:disk"))).result).not.toHaveProperty(
				"source_kept",
			);
			expect(await c.ready(MODEL)).toEqual(["node2:disk"]);
			await c.done(c.move(MODEL, "node2:disk", "node1:disk", { keep_source: true }));
			expect(await c.ready(MODEL)).toEqual(["node1:disk", "node2:disk"]);
			await c.done(c.move(MODEL, "node2:disk", "node2:disk1", { keep_source: true }));
			expect(await c.ready(MODEL)).toEqual(["node1:disk", "node2:disk", "node2:disk1"]);
			expect(c.node("node1").files("disk1")).toEqual([]);
		},
		LIMIT_MS,
	);

	test(
		"out of memory frees the memory",
		async () => {
			await using c = await localCluster({ files });
			await c.download(MODEL, "node1:dram");
			await c.done(c.move(MODEL, "node1:dram", "node2:disk"));
			expect(await c.ready(MODEL)).toEqual(["node2:disk"]);
			expect(c.node("node1").files("dram")).toEqual([]);
			expect(c.node("node1").role.storage.usage("dram").used).toBe(0);
		},
		LIMIT_MS,
	);
});

describe("what cannot be is refused before anything is queued", () => {
	test(
		"a device of another node is refused by a node and never taken for its own",
		async () => {
			await using c = await localCluster({ files });
			await c.download(MODEL, "node1:disk");
			const node = c.node("node1").client;
			const between = (source_device: string, target_device: string) => ({
				params,
				body: { source_device, target_device },
			});
			const refused = [
				() => node.call("downloadModel", { params, body: { target_device: "node2:disk" } }),
				() => node.call("copyModel", between("node1:disk", "node2:disk1")),
				() => node.call("copyModel", between("node2:disk", "node1:disk1")),
				() => node.call("moveModel", between("node1:disk", "node2:dram")),
				() => node.call("deleteModel", { params, query: { device: "node2:disk", force: "true" } }),
				() => node.call("startService", { body: { model_name: MODEL, device: "node2:disk" } }),
				() => node.call("startService", { body: { model_name: MODEL, nodes: ["node1", "node2"] } }),
				() => node.call("listModels", { query: { location: "node2:disk" } }),
				() => node.call("queueStatus", { query: { node: "node2" } }),
			];
			for (const call of refused) expect(await reasonOf(call())).toBe("400 wrong_node");
			expect(c.node("node1").files("disk1")).toEqual([]);
			expect((await node.call("queueHistory", {})).tasks.map((it) => it.task_type)).toEqual(["download"]);
			// Its own name, and none, are the node itself.
			const own = await node.call("listModels", { query: { location: "disk" } });
			expect(own.models.map((it) => it.model_name)).toEqual([MODEL]);
		},
		LIMIT_MS,
	);

	test(
		"devices, nodes and models that there are not, and devices without a node",
		async () => {
			await using c = await localCluster({ files });
			await c.download(MODEL, "node1:disk");
			const copy = (from: string, to: string, model = MODEL) => reasonOf(c.copy(model, from, to));
			expect(await copy("node1:disk", "node9:disk")).toBe("404 node_not_found");
			expect(await copy("node1:disk", "node2:gpu0")).toBe("404 device_not_found");
			expect(await copy("node1:disk", "node2:disk7")).toBe("404 device_not_found");
			expect(await copy("node2:disk", "node1:dram")).toBe("404 model_not_found");
			expect(await copy("node1:disk", "node2:disk", "nothing")).toBe("404 model_not_found");
			expect(await copy("node1:disk", "node1:disk")).toBe("400 same_device");
			expect(await copy("node1:disk", "node1:disk:0")).toBe("400 same_device");
			expect(await copy("node1:disk", "disk")).toBe("400 ambiguous_device");
			expect(await copy("node1:disk", "web")).toBe("400 bad_device");
			expect(await copy("node1:disk", "node2:tape")).toBe("400 bad_device");
			expect(
				await reasonOf(c.host.client.call("downloadModel", { params: { model_name: "bare" }, body: {} })),
			).toBe("404 model_not_found");
			// The only holder is meant where the source names no node.
			await c.done(c.copy(MODEL, "disk", "node2:disk"));
			expect(await copy("disk", "node2:dram")).toBe("400 ambiguous_device");
			expect(
				(await c.host.client.call("queueHistory", { query: {} })).tasks.map((it) => it.task_type),
			).not.toContain("move");
		},
		LIMIT_MS,
	);

	test(
		"a download that the tier has no room for, at once and with the numbers",
		async () => {
			await using c = await localCluster({ files, dramBytes: BYTES });
			const { task_id } = await c.host.client.call("downloadModel", {
				params: { model_name: MODEL },
				body: { source_url: `hf:${MODEL}`, target_device: "node1:dram" },
			});
			const { status, error } = await c.ended(task_id);
			expect(status).toBe("failed");
			expect(error?.details).toMatchObject({
				reason: "insufficient_space",
				required: BYTES + 2,
				available: BYTES,
				device: "node1:dram",
			});
		},
		LIMIT_MS,
	);

	test(
		"what a tier has no room for, with the numbers, on the node and from another one",
		async () => {
			await using c = await localCluster({ files, dramBytes: BYTES });
			await c.download(MODEL, "node1:disk");
			for (const target of ["node1:dram", "node2:dram"]) {
				const failure = asGswarmError(
					await c.copy(MODEL, "node1:disk", target).catch((error: unknown) => error),
				);
				expect(failure).toMatchObject({
					code: "RESOURCE_UNAVAILABLE",
					reason: "insufficient_space",
					status: 507,
				});
				expect(failure.details).toMatchObject({ required: BYTES + 2, available: BYTES, device: target });
			}
			const { tasks } = await c.host.client.call("queueStatus", { query: {} });
			expect(tasks).toEqual([]);
		},
		LIMIT_MS,
	);
});

test(
	"the same Idempotency-Key is the same copy; with another target it is refused",
	async () => {
		await using c = await localCluster({ files });
		await c.download(MODEL, "node1:disk");
		const ask = (target_device: string) =>
			c.host.client.call("copyModel", {
				params,
				body: { source_device: "node1:disk", target_device },
				headers: { "idempotency-key": "once" },
			});
		const [first, again] = [await ask("node2:disk"), await ask("node2:disk")];
		expect(again.task_id).toBe(first.task_id);
		expect(await reasonOf(ask("node2:disk1"))).toBe("409 idempotency_mismatch");
		expect((await c.ended(first.task_id)).status).toBe("completed");
	},
	LIMIT_MS,
);

test(
	"a download without a device goes to the node with the most room; a model that is there is not fetched again",
	async () => {
		await using c = await localCluster({ files });
		const submitted = await c.host.client.call("downloadModel", { params, body: {} });
		expect(["node1", "node2"]).toContain(submitted.node);
		await c.done(Promise.resolve(submitted));
		c.hub.clearLog();
		await c.done(
			c.host.client.call("downloadModel", { params, body: { target_device: `${submitted.node}:disk` } }),
		);
		expect(c.hub.log().filter((it) => it.server === "cdn")).toEqual([]);
	},
	LIMIT_MS,
);

test(
	"after a restart the host knows from its nodes' inventories what is where",
	async () => {
		await using c = await localCluster({ files });
		await c.download(MODEL, "node1:disk");
		await c.done(c.copy(MODEL, "node1:disk", "node2:dram"));
		await c.host.stop();
		// While the host was away, the copy in memory went: nobody told it.
		await c.node("node2").stop();
		await c.node("node2").start();
		await c.node("node2").client.call("deleteModel", { params, query: { device: "dram", force: "true" } });
		await until("the memory is free", () => c.node("node2").files("dram").length === 0);
		await c.host.start();
		await until("the host has both inventories", async () => (await c.ready(MODEL)).join() === "node1:disk");
		expect(existsSync(c.node("node1").role.storage.tier("disk").root)).toBe(true);
	},
	LIMIT_MS,
);

test(
	"a node that lies about its parts, digests and all, is found out by sha256 and nothing of it is kept",
	async () => {
		await using c = await localCluster({ files });
		await c.download(MODEL, "node1:disk");
		const { storage } = c.node("node1").role;
		const [honest] = storage.copies();
		const manifest = storage.manifest(honest?.content_id ?? "");
		if (honest === undefined || manifest === undefined) throw new Error("the copy is missing");
		const path = join(storage.pathOf(honest), "model.safetensors");
		const bytes = readFileSync(path);
		bytes.writeUInt8(bytes.readUInt8(1000) ^ 1, 1000);
		writeFileSync(path, bytes);
		const forged = {
			...manifest,
			files: manifest.files.map((f) =>
				f.path === "model.safetensors" ? { ...f, xxh64: [xxh64Hex(bytes)] } : f,
			),
		};
		const copy = { ...honest, content_id: sha256Hex(canonicalManifest(forged)) };
		Object.assign(storage, {
			copies: () => [copy],
			copy: () => copy,
			manifest: () => forged,
			pathOf: () => dirname(path),
		});
		const { error } = await c.ended((await c.copy(MODEL, "node1:disk", "node2:disk")).task_id);
		expect(error?.details).toMatchObject({ reason: "checksum_mismatch" });
		expect(c.node("node2").files()).toEqual([]);
	},
	LIMIT_MS,
);

test(
	"a copy comes compressed where that is asked for, and says what that saved",
	async () => {
		const even = { [MODEL]: { "config.json": "{}", "model.safetensors": new Uint8Array(BYTES).fill(7) } };
		await using c = await localCluster({ nodes: ["node1", "node2", "node3"], files: even });
		await c.download(MODEL, "node1:disk");
		const copy = (to: string, compression: "zstd" | "none") =>
			c.done(
				c.host.client.call("copyModel", {
					params,
					body: { source_device: "node1:disk", target_device: to, compression },
				}),
			);
		const { result } = await copy("node2:disk", "zstd");
		expect(Number(result?.["saved_bytes"])).toBeGreaterThan(BYTES / 2);
		expect(result?.["content_id"]).toBe((await copy("node3:disk", "none")).result?.["content_id"] as string);
		const swarm = await c.done(
			c.host.client.call("transferModels", {
				body: {
					kind: "copy",
					models: [{ model_name: MODEL, source_device: "node1:disk" }],
					target_devices: ["node2:dram"],
					compression: "zstd",
				},
			}),
		);
		expect(swarm.status).toBe("completed");
	},
	LIMIT_MS,
);
