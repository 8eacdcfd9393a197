import { expect, test } from "bun:test";
import { readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { asGswarmError, type GswarmError } from "../../src/schema/errors.ts";
import { parseModelName, parseRevision } from "../../src/schema/names.ts";
import { fixtureEngine } from "../support/fixture-engine.ts";
import { localCluster, type LocalCluster, type LocalNode, modelFiles } from "../support/cluster.ts";
import { until } from "../support/until.ts";

const MIB = 1024 * 1024;
const LIMIT_MS = 90_000;
const MODELS = ["acme/a", "acme/b", "acme/c", "acme/d"] as const;
/** With its config.json each is two bytes larger. */
const SIZE = 4 * MIB;
const files = Object.fromEntries(MODELS.map((name, index) => [name, modelFiles(SIZE, index + 1)]));
/** Three of them, and a little. */
const DRAM = { dramBytes: 13 * MIB, nodes: ["node1"], files };

async function refusal(run: Promise<unknown>): Promise<GswarmError> {
	try {
		await run;
	} catch (error) {
		return asGswarmError(error);
	}
	throw new Error("it was not refused");
}

/** All four on node1's disk, the first `count` of them in its memory too, in that order. */
async function filled(c: LocalCluster, count: number): Promise<void> {
	for (const model of MODELS) await c.download(model, "node1:disk");
	for (const model of MODELS.slice(0, count)) await c.done(c.copy(model, "node1:disk", "node1:dram"));
}

function inMemory(node: LocalNode): string[] {
	return node.role.storage
		.copies({ tier: "dram" })
		.map((copy) => copy.model_name)
		.sort();
}

function bytesBelow(directory: string): number {
	let bytes = 0;
	for (const entry of readdirSync(directory, { withFileTypes: true, recursive: true }))
		if (entry.isFile()) bytes += statSync(join(entry.parentPath, entry.name)).size;
	return bytes;
}

test(
	"a full memory makes room by itself: the copy that was used the longest ago goes, with its bytes, and no other",
	async () => {
		await using c = await localCluster(DRAM);
		await filled(c, 3);
		const node = c.node("node1");
		const { root } = node.role.storage.tier("dram");
		const [first] = node.role.storage.copies({ tier: "dram" });
		// The first one is used again: then the second is the oldest.
		if (first !== undefined) node.role.storage.touch(first, "serve");
		expect(bytesBelow(root)).toBeGreaterThan(3 * SIZE);
		await c.done(c.copy("acme/d", "node1:disk", "node1:dram"));
		expect(inMemory(node)).toEqual(["acme/a", "acme/c", "acme/d"]);
		expect(bytesBelow(root)).toBeLessThan(3 * SIZE + MIB);
		await until("the host knows", async () => !(await c.ready("acme/b")).includes("node1:dram"));
		expect(await c.ready("acme/b")).toEqual(["node1:disk"]);
		expect(c.log.find((line) => line["event"] === "storage.evicted")).toMatchObject({
			model: "acme/b",
			tier: "dram",
			freed_bytes: SIZE + 2,
			cause: "room for acme/d",
		});
	},
	LIMIT_MS,
);

test(
	"pinned copies and those in use stay, whatever their age; where nothing else may go the load is refused at once",
	async () => {
		await using c = await localCluster(DRAM);
		await filled(c, 3);
		const node = c.node("node1");
		const pinned = await c.host.client.call("pinModel", {
			params: { model_name: "acme/a" },
			body: { device: "node1:dram" },
		});
		expect(pinned).toMatchObject({ pinned: true, devices: ["node1:dram"], unreachable: [] });
		const revision = parseRevision(node.role.storage.copies({ model: "acme/b" })[0]?.revision ?? "");
		const held = node.role.storage.hold(parseModelName("acme/b"), revision, "dram", "service s-1");
		await c.done(c.copy("acme/d", "node1:disk", "node1:dram"));
		expect(inMemory(node)).toEqual(["acme/a", "acme/b", "acme/d"]);
		await c.host.client.call("pinModel", { params: { model_name: "acme/d" }, body: {} });
		await until("the host has heard of the pins", async () => {
			const { location_details: all } = await c.host.client.call("getModel", {
				params: { model_name: "acme/d" },
			});
			return all.every((location) => location.pinned === true);
		});
		const refused = await refusal(
			node.client.call("copyModel", {
				params: { model_name: "acme/c" },
				body: { source_device: "disk", target_device: "dram" },
			}),
		);
		expect(refused).toMatchObject({ status: 507, reason: "insufficient_space" });
		expect(refused.details).toMatchObject({ required: SIZE + 2, device: "node1:dram", evictable: 0 });
		const plan = await c.host.client.call("planEviction", {
			query: { device: "node1:dram", bytes: String(SIZE + 2) },
		});
		expect(plan).toMatchObject({ suffices: false, evictable_bytes: 0, freed_bytes: 0 });
		expect(Object.fromEntries(plan.copies.map((copy) => [copy.model_name, copy.reason]))).toEqual({
			"acme/a": "pinned",
			"acme/b": "in_use",
			"acme/d": "pinned",
		});
		held[Symbol.dispose]();
		await c.done(c.copy("acme/c", "node1:disk", "node1:dram"));
		expect(inMemory(node)).toEqual(["acme/a", "acme/c", "acme/d"]);
	},
	LIMIT_MS,
);

test(
	"a load whose source is damaged makes nobody go, and is remembered",
	async () => {
		await using c = await localCluster(DRAM);
		await filled(c, 3);
		const node = c.node("node1");
		const [source] = node.role.storage.copies({ model: "acme/d" });
		if (source === undefined) throw new Error("no source");
		writeFileSync(join(node.role.storage.pathOf(source), "model.safetensors"), new Uint8Array(SIZE));
		const failed = await c.ended((await c.copy("acme/d", "node1:disk", "node1:dram")).task_id);
		expect(failed).toMatchObject({ status: "failed", error: { details: { reason: "source_damaged" } } });
		expect(inMemory(node)).toEqual(["acme/a", "acme/b", "acme/c"]);
		expect(c.log.some((line) => line["event"] === "storage.evicted")).toBe(false);
		// The source is out of use, so that nobody is given it; a good one brings it back.
		expect(node.role.storage.copies({ model: "acme/d" })).toMatchObject([{ status: "unavailable" }]);
	},
	LIMIT_MS,
);

test(
	"what comes free is for who asked: of two loads at once each gets its own room, and no copy goes in vain",
	async () => {
		await using c = await localCluster({ ...DRAM, dramBytes: 9 * MIB });
		await filled(c, 2);
		const node = c.node("node1");
		await Promise.all(
			(["acme/c", "acme/d"] as const).map((model) => c.done(c.copy(model, "node1:disk", "node1:dram"))),
		);
		expect(inMemory(node)).toEqual(["acme/c", "acme/d"]);
		expect(c.log.filter((line) => line["event"] === "storage.evicted")).toHaveLength(2);
		expect(node.role.storage.usage("dram").reserved).toBe(0);
	},
	LIMIT_MS,
);

test(
	"a disk evicts only when it is told to: the refusal names who would go and the command, which then does it",
	async () => {
		await using c = await localCluster({ nodes: ["node1", "node2"], files, diskBytes: 9 * MIB });
		for (const model of ["acme/a", "acme/b"]) await c.download(model, "node1:disk");
		await c.done(c.copy("acme/a", "node1:disk", "node2:disk"));
		await c.download("acme/c", "node2:disk");
		const refused = await refusal(
			c.host.client.call("copyModel", {
				params: { model_name: "acme/c" },
				body: { source_device: "node2:disk", target_device: "node1:disk" },
			}),
		);
		expect(refused).toMatchObject({ status: 507, reason: "insufficient_space" });
		expect(refused.hint).toContain(`gswarm model evict --device node1:disk --bytes ${SIZE + 2} --dry-run`);
		await c.download("acme/d", "node1:disk1");
		const onNode = await refusal(
			c.node("node1").client.call("copyModel", {
				params: { model_name: "acme/d" },
				body: { source_device: "disk1", target_device: "disk" },
			}),
		);
		const [there] = c.node("node1").role.storage.copies({ model: "acme/a" });
		expect(onNode.details).toMatchObject({
			required: SIZE + 2,
			device: "node1:disk",
			victims: [`acme/a@${there?.revision}`],
		});
		expect(onNode.hint).toContain(`gswarm model evict --device node1:disk --bytes ${SIZE + 2}`);
		const plan = await c.host.client.call("planEviction", {
			query: { device: "node1:disk", bytes: String(SIZE + 2) },
		});
		expect(plan.watermarks.automatic).toBe(false);
		expect(plan.copies.map((copy) => [copy.model_name, copy.verdict])).toEqual([
			["acme/a", "goes"],
			["acme/b", "stays"],
		]);
		const done = await c.done(
			c.host.client.call("evictModels", { body: { device: "node1:disk", bytes: SIZE + 2 } }),
		);
		expect(done.result).toMatchObject({ device: "node1:disk", freed_bytes: SIZE + 2 });
		expect(await c.ready("acme/a")).toEqual(["node2:disk"]);
		await c.done(c.copy("acme/c", "node2:disk", "node1:disk"));
		// The last ones stay, whoever asks.
		const last = await refusal(
			c.host.client.call("evictModels", { body: { device: "node1:disk", bytes: 8 * MIB } }),
		);
		expect(last).toMatchObject({ status: 507, reason: "insufficient_space" });
	},
	LIMIT_MS,
);

test(
	"two nodes that are told at once to drop their copies of one model never drop both",
	async () => {
		await using c = await localCluster({ nodes: ["node1", "node2"], files, diskBytes: 5 * MIB });
		await c.download("acme/a", "node1:disk");
		await c.done(c.copy("acme/a", "node1:disk", "node2:disk"));
		const tasks = await Promise.all(
			["node1", "node2"].map((name) =>
				c.node(name).client.call("evictModels", { body: { device: "disk", bytes: 5 * MIB } }),
			),
		);
		const ends = await Promise.all(tasks.map(({ task_id }) => c.ended(task_id)));
		const held = ["node1", "node2"].flatMap((name) => c.node(name).role.storage.copies({ model: "acme/a" }));
		expect(held).toHaveLength(1);
		expect(held[0]?.status).toBe("ready");
		expect(ends.map((end) => end.status).sort()).toEqual(["completed", "failed"]);
		expect(ends.find((end) => end.status === "failed")?.error?.details["reason"]).toBe("insufficient_space");
	},
	LIMIT_MS,
);

test(
	"resources are real figures in the design's shape: a node's own on the node, all of them and their sums on the host",
	async () => {
		await using c = await localCluster({ nodes: ["node1", "node2"], files, diskBytes: 100 * MIB });
		await c.download("acme/a", "node1:disk");
		const one = await c.node("node1").client.call("getResources", {});
		expect(one.storage["disk"]).toMatchObject({ total: 100 * MIB, used: SIZE + 2, reserved: 0 });
		expect(one.storage["disk"]?.available).toBe(100 * MIB - SIZE - 2);
		expect(one.compute.cpu.cores).toBeGreaterThan(0);
		expect(one.compute.cpu.usage).toBeGreaterThanOrEqual(0);
		expect(one.network.bandwidth.in).toBeGreaterThanOrEqual(0);
		expect(one.nodes).toBeUndefined();
		const all = await c.host.client.call("getResources", {});
		expect(Object.keys(all.nodes ?? {}).sort()).toEqual(["node1", "node2"]);
		expect(all.storage["disk"]).toMatchObject({ total: 200 * MIB, used: SIZE + 2 });
		expect(all.compute.cpu.cores).toBe(2 * one.compute.cpu.cores);
		const second = await c.host.client.call("getResources", { query: { node: "node2" } });
		expect(second).toMatchObject({ node: "node2", storage: { disk: { used: 0 } } });
		const wrong = await refusal(c.node("node1").client.call("getResources", { query: { node: "node2" } }));
		expect(wrong).toMatchObject({ status: 400, reason: "wrong_node" });
		await c.node("node2").stop();
		c.host.pass(40_000);
		const without = await until("node2 is missed", async () => {
			const body = await c.host.client.call("getResources", {});
			return body.missing_nodes?.join() === "node2" ? body : undefined;
		});
		expect(without.storage["disk"]?.total).toBe(100 * MIB);
	},
	LIMIT_MS,
);

test(
	"a model that is served from memory stays there, is not moved away, and a request to it is a use",
	async () => {
		const ggufs = Object.fromEntries(
			MODELS.map((name, i) => [name, { "m.gguf": new Uint8Array(SIZE).fill(i) }]),
		);
		await using c = await localCluster({ ...DRAM, files: ggufs, engineCommand: fixtureEngine() });
		await filled(c, 3);
		const node = c.node("node1");
		await c.done(
			c.host.client.call("startService", {
				body: { model_name: "acme/a", device: "node1:dram", config: {} },
			}),
		);
		await until("the host knows the service", async () => {
			const { services } = await c.host.client.call("listServices", {});
			return services.some((service) => service.state === "ready");
		});
		for (const client of [c.host.client, node.client]) {
			const body = { source_device: "node1:dram", target_device: "node1:disk1" };
			const refused = await refusal(client.call("moveModel", { params: { model_name: "acme/a" }, body }));
			expect(refused).toMatchObject({ status: 409, reason: "in_use", details: { device: "node1:dram" } });
		}
		await c.done(c.copy("acme/d", "node1:disk", "node1:dram"));
		expect(inMemory(node)).toEqual(["acme/a", "acme/c", "acme/d"]);
		const used = (): number =>
			node.role.storage.copies({ model: "acme/a" }).find((copy) => copy.tier === "dram")?.last_used_at ?? 0;
		const before = used();
		await fetch(`${node.url}/v1/chat/completions`, {
			method: "POST",
			headers: { authorization: `Bearer ${node.admin}`, "content-type": "application/json" },
			body: JSON.stringify({ model: "acme/a", messages: [{ role: "user", content: "hi" }] }),
		});
		expect(used()).toBeGreaterThan(before);
	},
	LIMIT_MS,
);
