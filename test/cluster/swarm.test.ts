import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { z } from "zod";
import { totalOf } from "../../src/agent/host/swarms.ts";
import type { contract } from "../../src/api/contract.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { partSizeBytes } from "../../src/schema/manifest.ts";
import type { TransferItem } from "../../src/schema/transfer-item.ts";
import { localCluster, type LocalCluster, type LocalNode, modelFiles } from "../support/cluster.ts";
import { until } from "../support/until.ts";

const MODEL = "acme/big";
const SMALL = "acme/tiny";
const PART = partSizeBytes(1);
const BYTES = 6 * PART + 1234;
const ALL = BYTES + 2;
const files = { [MODEL]: modelFiles(BYTES), [SMALL]: modelFiles(1000) };
const NODES = ["node1", "node2", "node3", "node4", "node5"];
const OTHERS = NODES.slice(1);
const LIMIT_MS = 120_000;
/** About four seconds for the model. */
const SLOW = { bandwidth_limit: 12_000_000 };

type Body = z.input<(typeof contract)["transferModels"]["body"]>;

async function transfer(c: LocalCluster, body: Body): Promise<string> {
	return (await c.host.client.call("transferModels", { body })).task_id;
}

function copyToAll(c: LocalCluster, more: Partial<Body> = {}): Promise<string> {
	return transfer(c, {
		kind: "copy",
		models: [{ model_name: MODEL, source_device: "node1:disk" }],
		target_devices: ["all:disk"],
		...more,
	});
}

async function items(c: LocalCluster, taskId: string): Promise<TransferItem[]> {
	return (await c.host.client.call("getTransfer", { params: { task_id: taskId } })).items;
}

function weights(node: LocalNode): Uint8Array {
	const path = node.files().find((file) => file.endsWith("model.safetensors")) ?? "";
	return readFileSync(join(node.role.storage.tier("disk").root, path));
}

function expectWhole(node: LocalNode): void {
	const wanted = Buffer.from(files[MODEL]?.["model.safetensors"] as Uint8Array);
	expect(wanted.equals(weights(node))).toBe(true);
	expect(node.files().filter((file) => file.startsWith("staging"))).toEqual([]);
}

/** All receivers have some bytes and none has all. */
async function underWay(c: LocalCluster, taskId: string): Promise<void> {
	await until("all receive", async () => {
		const now = await items(c, taskId);
		return now.length > 0 && now.every(({ progress }) => progress.bytes_done > 0);
	});
}

test(
	"a model goes to four nodes at once, whole, in one operation with one result for each",
	async () => {
		await using c = await localCluster({ files, nodes: NODES });
		await c.download(MODEL, "node1:disk");
		const taskId = await copyToAll(c);
		const task = await c.ended(taskId);
		expect(task.error).toBeNull();
		expect(task.progress).toMatchObject({ bytes_done: 4 * ALL, bytes_total: 4 * ALL });
		expect((await items(c, taskId)).map((it) => [it.target_device, it.status])).toEqual(
			OTHERS.map((name) => [`${name}:disk`, "completed"]),
		);
		for (const name of OTHERS) expectWhole(c.node(name));
		expect(await c.ready(MODEL)).toEqual(NODES.map((name) => `${name}:disk`));
		// Nobody reads the source any more.
		await c.done(c.remove(MODEL, "node1:disk"));
	},
	LIMIT_MS,
);

test(
	"a model is downloaded to four nodes at once, and its source is read about once",
	async () => {
		await using c = await localCluster({ files, nodes: NODES });
		c.hub.clearLog();
		const taskId = await transfer(c, {
			kind: "download",
			models: [{ model_name: MODEL, source_url: `hf:${MODEL}` }],
			target_devices: OTHERS.map((name) => `${name}:disk`),
			...SLOW,
		});
		const task = await c.ended(taskId);
		expect(task.error).toBeNull();
		for (const name of OTHERS) expectWhole(c.node(name));
		const contents = (await items(c, taskId)).map((it) => it.result?.["content_id"]);
		expect(new Set(contents).size).toBe(1);
		const sent = c.hub.log().reduce((sum, request) => sum + request.bytesSent, 0);
		expect(sent).toBeLessThan(1.5 * ALL);
	},
	LIMIT_MS,
);

test(
	"several models go to several devices in one operation, a device of the same node among them",
	async () => {
		await using c = await localCluster({ files, nodes: ["node1", "node2"] });
		await c.download(MODEL, "node1:disk");
		await c.download(SMALL, "node1:disk");
		const body: Body = {
			kind: "copy",
			models: [{ model_name: MODEL }, { model_name: SMALL }],
			target_devices: ["node1:disk1", "all:disk", "node2:disk1"],
		};
		const planned = await c.host.client.call("planTransfer", { body });
		expect((await c.host.client.call("queueStatus", { query: { node: "host" } })).tasks).toEqual([]);
		expect(planned.items.filter((it) => it.is_there).map((it) => it.target_device)).toEqual([
			"node1:disk",
			"node1:disk",
		]);
		expect(planned.total_bytes).toBe(3 * (ALL + 1002));
		const taskId = await transfer(c, body);
		expect((await c.ended(taskId)).error).toBeNull();
		for (const model of [MODEL, SMALL])
			expect((await c.ready(model)).sort()).toEqual([
				"node1:disk",
				"node1:disk1",
				"node2:disk",
				"node2:disk1",
			]);
		expect(await items(c, taskId)).toHaveLength(6);
	},
	LIMIT_MS,
);

test(
	"what fails on one device undoes nothing on another, and the rest comes with the same command",
	async () => {
		await using c = await localCluster({ files, nodes: ["node1", "node2", "node3"] });
		await c.download(MODEL, "node1:disk");
		const taskId = await copyToAll(c, SLOW);
		await underWay(c, taskId);
		const { tasks } = await c.node("node2").client.call("queueStatus", {});
		await c.node("node2").client.call("cancelTask", { params: { task_id: tasks[0]?.task_id ?? "" } });
		const task = await c.ended(taskId);
		expect(task.error?.details).toMatchObject({ reason: "items_failed" });
		expect((await items(c, taskId)).map((it) => [it.target_device, it.status])).toEqual([
			["node2:disk", "failed"],
			["node3:disk", "completed"],
		]);
		expect(await c.ready(MODEL)).toEqual(["node1:disk", "node3:disk"]);
		const rest = await copyToAll(c);
		expect((await c.ended(rest)).error).toBeNull();
		expect((await items(c, rest)).map((it) => it.target_device)).toEqual(["node2:disk"]);
		expectWhole(c.node("node2"));
	},
	LIMIT_MS,
);

test(
	"a cancel ends all receivers, and nothing of them stays",
	async () => {
		await using c = await localCluster({ files, nodes: ["node1", "node2", "node3"] });
		await c.download(MODEL, "node1:disk");
		const taskId = await copyToAll(c, SLOW);
		await underWay(c, taskId);
		await c.host.client.call("cancelTask", { params: { task_id: taskId } });
		expect((await c.ended(taskId)).status).toBe("cancelled");
		for (const name of ["node2", "node3"])
			await until(`nothing is left on ${name}`, () => c.node(name).files().length === 0);
		expect(await c.ready(MODEL)).toEqual(["node1:disk"]);
		await c.done(c.remove(MODEL, "node1:disk", { force: true }));
	},
	LIMIT_MS,
);

test(
	"a node that is started again, and the host, change nothing but the speed",
	async () => {
		await using c = await localCluster({ files, nodes: ["node1", "node2", "node3"] });
		await c.download(MODEL, "node1:disk");
		const taskId = await copyToAll(c, SLOW);
		await underWay(c, taskId);
		await c.host.stop();
		await c.node("node2").stop();
		await c.node("node2").start();
		await c.host.start();
		expect((await c.ended(taskId)).error).toBeNull();
		for (const name of ["node2", "node3"]) expectWhole(c.node(name));
		const { tasks } = await c.host.client.call("queueHistory", { query: { node: "node3" } });
		expect(tasks.map((it) => [it.task_type, it.attempt])).toEqual([["copy", 1]]);
	},
	LIMIT_MS,
);

test(
	"receivers go on while the host is away, and it hears of it when it is back",
	async () => {
		await using c = await localCluster({ files, nodes: ["node1", "node2", "node3"] });
		await c.download(MODEL, "node1:disk");
		const taskId = await copyToAll(c, SLOW);
		await underWay(c, taskId);
		await c.host.stop();
		for (const name of ["node2", "node3"])
			await until(`${name} has it`, () => c.node(name).role.storage.copies().length === 1, 60_000);
		await c.host.start();
		expect((await c.ended(taskId)).error).toBeNull();
	},
	LIMIT_MS,
);

test(
	"nobody but a receiver of the operation is told who takes part, and nobody reads without a grant",
	async () => {
		await using c = await localCluster({ files, nodes: ["node1", "node2", "node3"] });
		await c.download(MODEL, "node1:disk");
		const taskId = await copyToAll(c, { ...SLOW, target_devices: ["node2:disk"] });
		await underWay(c, taskId);
		const key = c.node("node1").role.storage.copies()[0]?.content_id ?? "";
		const ask = async (name: string, wanted = key): Promise<string> => {
			const body = {
				operation_id: taskId,
				model_name: MODEL,
				key: wanted,
				refused: [],
				want_manifest: false,
			};
			const headers = { authorization: `Bearer ${c.node(name).token}`, "content-type": "application/json" };
			const answer = await fetch(`${c.host.url}/api/v1/swarms`, {
				method: "POST",
				headers,
				body: JSON.stringify(body),
			});
			return `${answer.status}`;
		};
		expect(await ask("node3")).toBe("403");
		expect(await ask("node2", "a".repeat(64))).toBe("403");
		expect(await ask("node2")).toBe("200");
		for (const path of [`/have/${key}`, `/parts/${key}/1`]) {
			const url = `${c.node("node2").peerUrl}${path}`;
			expect((await fetch(url)).status).toBe(401);
			expect((await fetch(url, { headers: { authorization: "Bearer guess" } })).status).toBe(403);
		}
		expect((await c.ended(taskId)).error).toBeNull();
		expect(await ask("node2")).toBe("403");
	},
	LIMIT_MS,
);

test(
	"devices that cannot be are refused before anything is queued",
	async () => {
		await using c = await localCluster({ files, nodes: ["node1", "node2"] });
		await c.download(SMALL, "node1:disk");
		const refused = async (more: Partial<Body>): Promise<string> => {
			try {
				await transfer(c, {
					kind: "copy",
					models: [{ model_name: SMALL }],
					target_devices: ["node2:disk"],
					...more,
				});
			} catch (error) {
				const { status, reason } = asGswarmError(error);
				return `${status} ${reason}`;
			}
			return "accepted";
		};
		expect(await refused({ target_devices: ["node2:disk", "node9:disk"] })).toBe("404 node_not_found");
		expect(await refused({ target_devices: ["all:gpu0"] })).toBe("503 no_node");
		expect(await refused({ target_devices: ["node2:disk", "web"] })).toBe("400 bad_device");
		expect(await refused({ models: [{ model_name: "nothing" }] })).toBe("404 model_not_found");
		expect(await refused({ models: [{ model_name: SMALL, source_device: "node2:disk" }] })).toBe(
			"404 model_not_found",
		);
		expect((await c.host.client.call("queueStatus", { query: {} })).tasks).toEqual([]);
	},
	LIMIT_MS,
);

test("an operation has a total when the sizes of all its items are known, so that it never shrinks", () => {
	const item = (status: "pending" | "running" | "completed" | "failed", done: number, total: number) => ({
		model_name: "acme/tiny",
		target_device: "node1:disk",
		node: "node1",
		status,
		phase: "copying" as const,
		progress: { bytes_done: done, bytes_total: total, rate_bytes_per_s: 0, eta_s: null },
		waiting_for: null,
		result: null,
		error: null,
	});
	const coming = [item("completed", 10, 10), item("running", 5, 20), item("pending", 0, 0)];
	expect(totalOf(coming)).toMatchObject({ bytesDone: 15, bytesTotal: 0 });
	expect(totalOf([...coming.slice(0, 2), item("running", 0, 30)])).toMatchObject({ bytesTotal: 60 });
	// What failed before anybody knew its size has none.
	expect(totalOf([...coming.slice(0, 2), item("failed", 0, 0)])).toMatchObject({ bytesTotal: 30 });
});
