import { expect, test } from "bun:test";
import { createApiClient } from "../../src/api/client.ts";
import { localCluster, modelFiles } from "../support/cluster.ts";
import { until } from "../support/until.ts";

const MODEL = "acme/tiny";
const params = { model_name: MODEL };
const BYTES = 600_000;
const files = { [MODEL]: modelFiles(BYTES), "acme/other": modelFiles(5000) };
const LIMIT_MS = 60_000;

test(
	"the two registry documents have the design's fields and no others",
	async () => {
		await using c = await localCluster({ files });
		await c.download(MODEL, "node1:disk");
		await c.done(c.copy(MODEL, "node1:disk", "node2:dram"));
		expect(await c.host.client.call("status", {})).toEqual({
			model_status: [
				{
					model_name: MODEL,
					model_type: "other",
					model_size: BYTES + 2,
					stored_locations: ["node1:disk", "node2:dram"],
					available_services: {},
				},
			],
			node_list: ["node1", "node2"],
		});
		expect(await c.node("node2").client.call("status", {})).toEqual({
			model_status: [
				{
					model_name: MODEL,
					model_type: "other",
					model_size: BYTES + 2,
					model_status: "ready",
					stored_locations: ["node2:dram"],
					available_services: [],
				},
			],
			task_queue: { pending: 0, running: 0, completed: 1 },
			data_pool: { chunks: 0, total_size: 0, locations: {} },
		});
	},
	LIMIT_MS,
);

test(
	"a model is downloading while it comes, on its node and on the host, in lists and filters, and ready after it",
	async () => {
		await using c = await localCluster({ files });
		await c.download("acme/other", "node2:disk");
		const body = { target_device: "node1:disk", bandwidth_limit: 300_000, model_type: "vision" };
		const { task_id } = await c.host.client.call("downloadModel", { params, body });
		const names = async (client = c.host.client, status: "downloading" | "ready" = "downloading") =>
			(await client.call("listModels", { query: { status } })).models.map((it) => it.model_name);
		await until("the host shows it", async () => (await names()).length === 1);
		expect(await names()).toEqual([MODEL]);
		expect(await names(c.node("node1").client)).toEqual([MODEL]);
		expect(await names(c.host.client, "ready")).toEqual(["acme/other"]);
		const coming = await c.host.client.call("getModel", { params });
		expect(coming).toMatchObject({ status: "downloading", locations: [], source_url: "hf:acme/tiny" });
		expect((await c.ended(task_id)).status).toBe("completed");
		expect(await names(c.host.client, "ready")).toEqual(["acme/other", MODEL]);
		await until("nobody downloads any more", async () => (await names()).length === 0);
		expect((await c.host.client.call("getModel", { params })).model_type).toBe("vision");
	},
	LIMIT_MS,
);

test(
	"health says no more than ok without a token, and with one which nodes are away",
	async () => {
		await using c = await localCluster({ nodes: ["node1"] });
		const nobody = createApiClient({ baseUrl: c.host.url, token: () => undefined });
		expect(await nobody.call("health", {})).toEqual({ status: "ok" });
		expect(await c.host.client.call("health", {})).toMatchObject({
			status: "ok",
			details: { role: "host", nodes: { node1: "alive" }, problems: [] },
		});
		await c.node("node1").stop();
		c.host.pass(16_000);
		expect(await nobody.call("health", {})).toEqual({ status: "ok" });
		const { status, details } = await c.host.client.call("health", {});
		expect(status).toBe("degraded");
		expect(details?.nodes["node1"]).toMatch(/^(suspect|unreachable)$/);
		expect(details?.problems).toEqual([`node node1 is ${details?.nodes["node1"]}`]);
	},
	LIMIT_MS,
);

test(
	"a node whose host is away goes on answering, and says what is wrong",
	async () => {
		await using c = await localCluster({ nodes: ["node1"], files });
		await c.download(MODEL, "node1:disk");
		await c.host.stop();
		const node = c.node("node1").client;
		// Its own queue needs no host.
		const body = { source_device: "disk", target_device: "dram" };
		const { task_id } = await node.call("copyModel", { params, body });
		await until("the copy is done", async () => {
			const task = await node.call("getTask", { params: { task_id } });
			return task.status === "completed";
		});
		expect((await node.call("listModels", {})).models).toMatchObject([
			{ locations: ["node1:disk", "node1:dram"] },
		]);
		expect(await node.call("health", {})).toMatchObject({
			status: "degraded",
			details: { problems: ["the host does not answer"] },
		});
		await c.host.start();
		await until("the host knows", async () => (await c.ready(MODEL)).length === 2);
		expect(await node.call("health", {})).toMatchObject({ status: "ok" });
	},
	LIMIT_MS,
);

test(
	"a thousand models are listed by the host of the node that has them, page by page",
	async () => {
		await using c = await localCluster({ nodes: ["node1"] });
		const register = (from: number) =>
			Promise.all(
				Array.from({ length: 100 }, (_, i) =>
					c.host.client.call("registerModel", {
						body: { model_name: `acme/model-${from + i}`, model_size: i },
					}),
				),
			);
		for (let from = 0; from < 1000; from += 100) await register(from);
		const before = performance.now();
		const seen = new Set<string>();
		for (let page = 1; page <= 5; page++) {
			const { models, total } = await c.host.client.call("listModels", { query: { page, per_page: 200 } });
			expect(total).toBe(1000);
			for (const { model_name } of models) seen.add(model_name);
		}
		expect(seen.size).toBe(1000);
		expect((await c.host.client.call("status", {})) as { model_status: unknown[] }).toHaveProperty(
			"model_status.length",
			1000,
		);
		expect(performance.now() - before).toBeLessThan(5_000);
	},
	LIMIT_MS,
);
