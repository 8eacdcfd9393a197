import { expect, setDefaultTimeout, test } from "bun:test";
import { type LocalCluster, localCluster } from "../support/cluster.ts";
import { fixtureEngine } from "../support/fixture-engine.ts";
import { hubSnapshot } from "../support/layouts.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(120_000);

const MODEL = "acme/tiny";
const NODES = ["node1", "node2"];

async function withModel(dir: string): Promise<LocalCluster> {
	const engineCommand = fixtureEngine({ loadMs: 1500 });
	const c = await localCluster({ nodes: NODES, importDirectories: [dir], engineCommand });
	const path = hubSnapshot(dir, MODEL, "a", { "m.gguf": "a".repeat(2000) }, ["v1"]);
	const params = { model_name: MODEL };
	for (const node of NODES)
		await c.done(c.host.client.call("adoptModel", { params, body: { path, device: `${node}:disk` } }));
	return c;
}

const serve = (c: LocalCluster, nodes: string[]) =>
	c.host.client.call("startService", { body: { model_name: MODEL, nodes, config: {} } });

const served = async (c: LocalCluster): Promise<string[]> =>
	(await c.host.client.call("listServices", {})).services.map(({ node, state }) => `${node} ${state}`);

/** Cancels a deployment when its first service is ready and its second one is not. */
async function cancelHalfWay(c: LocalCluster, taskId: string): Promise<void> {
	await until("the second begins", async () => {
		const { tasks } = await c.node("node2").client.call("queueStatus", { query: {} });
		return tasks.some((task) => task.task_type === "serve" && task.status === "running");
	});
	const task = await c.host.client.call("cancelTask", { params: { task_id: taskId } });
	expect(task.status).toBe("cancelled");
}

test("a cancelled deployment leaves none of the services that it started", async () => {
	using dir = tempDir();
	await using c = await withModel(dir.path);
	const { task_id } = await serve(c, NODES);
	await cancelHalfWay(c, task_id);
	await until("nothing is served", async () => (await served(c)).length === 0);
});

test("a cancelled deployment leaves the service that was there before", async () => {
	using dir = tempDir();
	await using c = await withModel(dir.path);
	await c.done(serve(c, ["node1"]));
	const { task_id } = await serve(c, NODES);
	await cancelHalfWay(c, task_id);
	await until("node2 serves nothing", async () => (await served(c)).join() === "node1 ready");
	// The cancel was answered when everything was said to the nodes.
	const { client } = c.node("node1");
	const { tasks: live } = await client.call("queueStatus", { query: {} });
	const { tasks: ended } = await client.call("queueHistory", { query: {} });
	expect([...live, ...ended].filter((task) => task.task_type === "stop")).toEqual([]);
});

test("a model is copied and served by one order given at once", async () => {
	using dir = tempDir();
	await using c = await withModel(dir.path);
	const copy = await c.copy(MODEL, "node1:disk", "node2:dram");
	const service = await c.host.client.call("startService", {
		body: { model_name: MODEL, device: "node2:dram", config: {}, dependencies: [copy.task_id] },
	});
	const task = await c.ended(service.task_id);
	expect(task).toMatchObject({ status: "completed", dependencies: [copy.task_id] });
	expect(await served(c)).toEqual(["node2 ready"]);
	const { services } = await c.host.client.call("listServices", {});
	expect(services[0]).toMatchObject({ service_id: service.service_id, device: "node2:dram" });
});
