import { expect, setDefaultTimeout, test } from "bun:test";
import { asGswarmError } from "../../src/schema/errors.ts";
import { type LocalCluster, localCluster, modelFiles } from "../support/cluster.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(120_000);

const MODEL = "acme/tiny";
const params = { model_name: MODEL };
const files = { [MODEL]: modelFiles(2_000_000) };

interface Chain {
	download: string;
	copy: string;
	up: string;
	verify: string;
}

/** All at once: to node1, from there to node2's disk, from there to its memory, and there it is verified. */
async function submitChain({ host: { client } }: LocalCluster, bandwidth_limit?: number): Promise<Chain> {
	const limit = bandwidth_limit === undefined ? {} : { bandwidth_limit };
	const download = await client.call("downloadModel", {
		params,
		body: { target_device: "node1:disk", ...limit },
	});
	const copy = await client.call("copyModel", {
		params,
		body: {
			source_device: "node1:disk",
			target_device: "node2:disk",
			dependencies: [download.task_id],
		},
	});
	const up = await client.call("copyModel", {
		params,
		body: { source_device: "node2:disk", target_device: "node2:dram", dependencies: [copy.task_id] },
	});
	const verify = await client.call("verifyModel", {
		params,
		body: { device: "node2:dram", dependencies: [up.task_id, download.task_id] },
	});
	return {
		download: download.task_id,
		copy: copy.task_id,
		up: up.task_id,
		verify: verify.task_id,
	};
}

test("a model is downloaded, copied, copied on and verified by one order given at once", async () => {
	await using cluster = await localCluster({ files });
	const chain = await submitChain(cluster, 2_000_000);
	const waiting = await until("the first one runs", async () => {
		const now = await cluster.host.client.call("getTask", { params: { task_id: chain.copy } });
		return now.obstacles?.some((one) => "status" in one && one.status === "running") ? now : undefined;
	});
	expect(waiting).toMatchObject({
		status: "pending",
		dependencies: [chain.download],
		obstacles: [{ kind: "dependency", task_id: chain.download, status: "running" }],
	});
	const ends = await Promise.all(Object.values(chain).map((id) => cluster.ended(id)));
	expect(ends.map(({ status, error }) => ({ status, error }))).toEqual(
		ends.map(() => ({ status: "completed", error: null })),
	);
	for (let at = 1; at < ends.length; at++)
		expect(ends[at]?.started_at ?? 0).toBeGreaterThanOrEqual(ends[at - 1]?.completed_at ?? Number.NaN);
	expect((await cluster.ready(MODEL)).sort()).toEqual(["node1:disk", "node2:disk", "node2:dram"]);
	expect(ends[3]?.result).toMatchObject({ device: "node2:dram" });
});

test("when the first of an order fails, the others fail with it and name it", async () => {
	await using cluster = await localCluster({ files });
	const chain = await submitChain(cluster, 20_000);
	await until("it runs", async () => {
		const task = await cluster.host.client.call("getTask", { params: { task_id: chain.download } });
		return task.status === "running";
	});
	await cluster.host.client.call("cancelTask", { params: { task_id: chain.download } });
	for (const id of [chain.copy, chain.up, chain.verify]) {
		expect(await cluster.ended(id)).toMatchObject({
			status: "failed",
			error: { code: "DEPENDENCY_FAILED", details: { root: chain.download } },
		});
	}
	const late = await cluster.host.client
		.call("copyModel", {
			params,
			body: { source_device: "node1:disk", target_device: "node2:disk", dependencies: [chain.download] },
		})
		.catch(asGswarmError);
	expect(late).toMatchObject({
		status: 424,
		code: "DEPENDENCY_FAILED",
		details: { dependency: chain.download, root: chain.download },
	});
});

test("what failed with the first of an order is retried after that was, and waits for it", async () => {
	await using cluster = await localCluster({ files });
	const { client } = cluster.host;
	const chain = await submitChain(cluster, 20_000);
	await client.call("cancelTask", { params: { task_id: chain.download } });
	await cluster.ended(chain.verify);
	const retry = (task_id: string) => client.call("retryTask", { params: { task_id } });
	expect(await retry(chain.copy).catch(asGswarmError)).toMatchObject({
		status: 424,
		details: { dependency: chain.download },
	});
	const first = await retry(chain.download);
	const copy = await retry(chain.copy);
	expect(await client.call("getTask", { params: { task_id: copy.task_id } })).toMatchObject({
		status: "pending",
		dependencies: [first.task_id],
		retry_of: chain.copy,
	});
	expect(await client.call("getTask", { params: { task_id: chain.download } })).toMatchObject({
		status: "cancelled",
		retried_as: first.task_id,
	});
	await client.call("cancelTask", { params: { task_id: first.task_id } });
	expect(await cluster.ended(copy.task_id)).toMatchObject({
		status: "failed",
		error: { details: { root: first.task_id } },
	});
});

test("an order goes on when the host was restarted, and when the node of its first task was", async () => {
	await using cluster = await localCluster({ files });
	const chain = await submitChain(cluster, 400_000);
	await cluster.host.stop();
	await cluster.node("node1").stop();
	await cluster.host.start();
	await cluster.node("node1").start();
	expect(await cluster.ended(chain.verify)).toMatchObject({ status: "completed" });
});

test("without dependencies, or when these bring another model, what is not there is refused as before", async () => {
	await using cluster = await localCluster({
		files: { ...files, "acme/other": modelFiles(1000) },
	});
	const { client } = cluster.host;
	const body = { source_device: "node1:disk", target_device: "node2:disk" };
	expect(await client.call("copyModel", { params, body }).catch(asGswarmError)).toMatchObject({
		code: "MODEL_NOT_FOUND",
	});
	const other = await client.call("downloadModel", {
		params: { model_name: "acme/other" },
		body: { target_device: "node1:disk" },
	});
	const copy = await client.call("copyModel", { params, body: { ...body, dependencies: [other.task_id] } });
	expect(await cluster.ended(copy.task_id)).toMatchObject({
		status: "failed",
		error: { code: "MODEL_NOT_FOUND", details: { model: MODEL } },
	});
	const unknown = client.call("copyModel", { params, body: { ...body, dependencies: ["download-none-1"] } });
	expect(await unknown.catch(asGswarmError)).toMatchObject({ status: 400, reason: "unknown_dependency" });
});

test("tasks of one node wait for each other there, without a word of the host", async () => {
	await using cluster = await localCluster({ nodes: ["node1"], files });
	const { client } = cluster.node("node1");
	const download = await client.call("downloadModel", {
		params,
		body: { target_device: "disk", bandwidth_limit: 2_000_000 },
	});
	const copy = await client.call("copyModel", {
		params,
		body: { source_device: "disk", target_device: "dram", dependencies: [download.task_id] },
	});
	const verify = await client.call("verifyModel", {
		params,
		body: { device: "dram", dependencies: [copy.task_id] },
	});
	expect(await cluster.ended(verify.task_id)).toMatchObject({
		status: "completed",
		result: { device: "node1:dram" },
	});
});
