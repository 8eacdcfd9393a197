/** What is told of models, by host and nodes: never older than a task that was seen to be finished, and from memory. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { asGswarmError } from "../../src/schema/errors.ts";
import { type LocalCluster, localCluster, modelFiles } from "../support/cluster.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(120_000);

let cluster: LocalCluster;

beforeAll(async () => {
	cluster = await localCluster({
		nodes: ["node1", "node2"],
		files: {
			"acme/tiny": {
				...modelFiles(100_000),
				"config.json": JSON.stringify({ architectures: ["BertModel"], max_position_embeddings: 512 }),
			},
		},
	});
}, 60_000);
afterAll(() => cluster[Symbol.asyncDispose]());

const MODEL = { model_name: "acme/tiny" };
const host = () => cluster.host.client;
const shown = () => host().call("getModel", { params: MODEL });
async function figures(client: ReturnType<typeof host>): Promise<Record<string, number>> {
	const text = await (await client.open("metrics", {})).text();
	const samples = text.split("\n").flatMap((line) => {
		const [, kind, cache, value] = /^gswarm_cache_(\w+)_total\{cache="(\w+)"\} (\d+)$/.exec(line) ?? [];
		return kind === undefined ? [] : [[`${cache} ${kind}`, Number(value)] as const];
	});
	return Object.fromEntries(samples);
}
async function done(taskId: string): Promise<void> {
	const { status, error } = await until("the task has ended", async () => {
		const task = await host().call("getTask", { params: { task_id: taskId } });
		return task.status === "completed" || task.status === "failed" ? task : undefined;
	});
	if (status === "failed") throw new Error(JSON.stringify(error));
}

test("what a task changed is told as soon as the task is seen to be finished, however often it was asked before", async () => {
	const before = await figures(host());
	const download = await host().call("downloadModel", {
		params: MODEL,
		body: { source_url: "hf:acme/tiny", target_device: "node1:disk" },
	});
	const asking = new AbortController();
	const askers = [1, 2, 3].map(async () => {
		while (!asking.signal.aborted) {
			await host().call("listModels", {});
			await shown().catch(() => undefined);
		}
	});
	try {
		await done(download.task_id);
		expect((await shown()).location_details).toMatchObject([{ device: "node1:disk", status: "ready" }]);
		for (let times = 0; times < 5; times++) {
			const copy = await host().call("copyModel", {
				params: MODEL,
				body: { source_device: "node1:disk", target_device: "node1:dram" },
			});
			await done(copy.task_id);
			expect((await shown()).locations).toEqual(["node1:disk", "node1:dram"]);
			const listed = (await host().call("listModels", {})).models[0];
			expect(listed?.locations).toEqual(["node1:disk", "node1:dram"]);
			const removal = await host().call("deleteModel", { params: MODEL, query: { device: "node1:dram" } });
			await done(removal.task_id);
			expect((await shown()).locations).toEqual(["node1:disk"]);
		}
	} finally {
		asking.abort();
		await Promise.all(askers);
	}
	const after = await figures(host());
	expect(after["models hits"]).toBeGreaterThan(before["models hits"] ?? Infinity);
});

test("what was detected is told by the host and by the node, and a person's word counts more", async () => {
	const found = { format: "unknown", architecture: "BertModel", context_length: 512 };
	expect(await shown()).toMatchObject({ model_type: "embedding", metadata: found, detected: found });
	expect(await cluster.node("node1").client.call("getModel", { params: MODEL })).toMatchObject({
		model_type: "embedding",
		metadata: found,
	});
	const said = await host().call("describeModel", { params: MODEL, body: { model_type: "vision" } });
	expect(said.model_type).toBe("vision");
	const auto = await host().call("describeModel", { params: MODEL, body: { model_type: null } });
	expect(auto.model_type).toBe("embedding");
});

test("a source whose digests are the same is not read again, however often it is inspected", async () => {
	const node = cluster.node("node1").client;
	const inspect = () => node.call("inspectSource", { body: { source_url: "hf:acme/tiny" } });
	const first = await inspect();
	const readBefore = cluster.hub.log().reduce((sum, { bytesSent }) => sum + bytesSent, 0);
	expect(await inspect()).toEqual(first);
	const read = cluster.hub.log().reduce((sum, { bytesSent }) => sum + bytesSent, 0) - readBefore;
	// The list of files is asked for each time.
	expect(read).toBeLessThan(10_000);
	expect((await figures(node))["inspections hits"]).toBeGreaterThan(0);
});

test("a hint to the host goes to a node that has the model on a disk, and the host shows each node's plan", async () => {
	const hint = (body: { in_s?: number; at?: number; device?: string }) =>
		host().call("hintModel", { params: MODEL, body });
	const reasonOf = (work: Promise<unknown>): Promise<unknown> =>
		work.then(
			() => "accepted",
			(error: unknown) => asGswarmError(error).reason,
		);
	// Nodes of this test bring nothing by themselves: a hint is refused by the node, not by the host.
	expect(await reasonOf(hint({ in_s: 120 }))).toBe("preload_off");
	expect(await reasonOf(hint({ device: "node2:dram" }))).toBe("preload_off");
	expect(await reasonOf(hint({ device: "node1:disk" }))).toBe("bad_device");
	expect(await reasonOf(hint({ device: "node9:dram" }))).toBe("node_not_found");
	expect(await reasonOf(hint({ in_s: 1, at: 5 }))).toBe("bad_field");
	expect(await reasonOf(hint({ at: 5 }))).toBe("bad_field");
	// One that never ends would take a place of the few that there are for ever.
	expect(await reasonOf(hint({ at: 1e12 }))).toBe("bad_field");
	const unknown = host().call("hintModel", { params: { model_name: "none" }, body: {} });
	expect(await reasonOf(unknown)).toBe("model_not_found");
	const { plans } = await host().call("getPreload", {});
	expect(plans.map(({ node, mode }) => [node, mode])).toEqual([
		["node1", "off"],
		["node2", "off"],
	]);
	expect(plans[0]?.models).toMatchObject([{ model_name: "acme/tiny", decision: "no" }]);
	expect(plans[1]?.models).toEqual([]);
	expect((await host().call("getPreload", { query: { node: "node2" } })).plans).toHaveLength(1);
	expect(await host().call("dropHint", { params: MODEL })).toMatchObject({ dropped: false });
});
