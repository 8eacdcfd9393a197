import { expect, setDefaultTimeout, test } from "bun:test";
import { asGswarmError } from "../../src/schema/errors.ts";
import { type LocalCluster, localCluster, modelFiles } from "../support/cluster.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(120_000);

const BUDGET = 1_000_000;
const SLOW = { bandwidth_limit: 5_000 };
const FILES = {
	"org/first": modelFiles(600_000),
	"org/second": modelFiles(600_000, 2),
	"org/large": modelFiles(BUDGET + 1),
};

async function spaceWaitedFor({ host }: LocalCluster, taskId: string) {
	return until(`${taskId} waits for room`, async () => {
		const { status, attempt, obstacles } = await host.client.call("getTask", { params: { task_id: taskId } });
		const space = obstacles?.find((one) => one.kind === "space");
		return space === undefined ? undefined : { status, attempt, ...space };
	});
}

/** Fills the greater part of a tier, slowly; it begins at once. */
async function slowFill(cluster: LocalCluster, device: string): Promise<{ task_id: string }> {
	const fill = await cluster.host.client.call("downloadModel", {
		params: { model_name: "org/first" },
		body: { target_device: device, ...SLOW },
	});
	const { storage } = cluster.node(device.slice(0, 5)).role;
	await until("it has its room", () => storage.usage("dram").reserved > 0);
	return fill;
}

const cancel = ({ host }: LocalCluster, taskId: string) =>
	host.client.call("cancelTask", { params: { task_id: taskId } });

test("a copy whose bytes do not fit beside those of a running one waits in line for them, and says so", async () => {
	await using cluster = await localCluster({ nodes: ["node1"], files: FILES, dramBytes: BUDGET });
	for (const model of ["org/second", "org/large"]) await cluster.download(model, "node1:disk");
	const first = await slowFill(cluster, "node1:dram");
	const second = await cluster.copy("org/second", "node1:disk", "node1:dram");
	expect(await spaceWaitedFor(cluster, second.task_id)).toMatchObject({
		status: "pending",
		key: "bytes:dram",
		needed: 600_002,
		capacity: BUDGET,
		held_by: [first.task_id],
	});
	const refused = await cluster.copy("org/large", "node1:disk", "node1:dram").catch(asGswarmError);
	expect(refused).toMatchObject({
		code: "RESOURCE_UNAVAILABLE",
		status: 507,
		details: { reason: "insufficient_space", required: BUDGET + 3, available: BUDGET, device: "node1:dram" },
	});
	await cancel(cluster, first.task_id);
	expect((await cluster.ended(second.task_id)).status).toBe("completed");
	expect(await cluster.ready("org/second")).toEqual(["node1:disk", "node1:dram"]);
});

test("a download that learns on the way that others leave too little goes back to the line, and holds nothing there", async () => {
	await using cluster = await localCluster({ nodes: ["node1"], files: FILES, dramBytes: BUDGET });
	const first = await slowFill(cluster, "node1:dram");
	const { task_id: second } = await cluster.host.client.call("downloadModel", {
		params: { model_name: "org/second" },
		body: { target_device: "node1:dram" },
	});
	expect(await spaceWaitedFor(cluster, second)).toMatchObject({ attempt: 0, held_by: [first.task_id] });
	expect(cluster.node("node1").role.storage.usage("dram").reserved).toBe(600_002);
	await cancel(cluster, first.task_id);
	const task = await cluster.ended(second);
	expect(task).toMatchObject({ status: "completed", attempt: 1 });
	const { task_id: large } = await cluster.host.client.call("downloadModel", {
		params: { model_name: "org/large" },
		body: { target_device: "node1:dram" },
	});
	expect(await cluster.ended(large)).toMatchObject({
		status: "failed",
		attempt: 1,
		error: { code: "RESOURCE_UNAVAILABLE", details: { reason: "insufficient_space", device: "node1:dram" } },
	});
});

test("copies from another node wait for room where they go, until the one before is cancelled", async () => {
	await using cluster = await localCluster({ files: FILES, dramBytes: BUDGET });
	await cluster.download("org/first", "node1:disk");
	await cluster.download("org/second", "node1:disk");
	const first = await cluster.copy("org/first", "node1:disk", "node2:dram", SLOW);
	const { storage } = cluster.node("node2").role;
	await until("it has its room", () => storage.usage("dram").reserved > 0);
	const second = await cluster.copy("org/second", "node1:disk", "node2:dram");
	const waiting = await until("the part waits", async () => {
		const { tasks } = await cluster.node("node2").client.call("queueStatus", { query: {} });
		return tasks.find((task) => task.request["model_name"] === "org/second");
	});
	expect(waiting.status).toBe("pending");
	await cancel(cluster, first.task_id);
	expect((await cluster.ended(second.task_id)).status).toBe("completed");
});
