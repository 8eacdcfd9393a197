import { expect, test } from "bun:test";
import { asGswarmError } from "../../src/schema/errors.ts";
import { localCluster, type LocalCluster, modelFiles } from "../support/cluster.ts";
import { until } from "../support/until.ts";

const MODEL = "acme/tiny";
const params = { model_name: MODEL };
const BYTES = 1_500_000;
const files = { [MODEL]: modelFiles(BYTES), "acme/other": modelFiles(5000) };
const SLOW = { bandwidth_limit: 500_000 };
const LIMIT_MS = 90_000;
/** A copy as the API writes it to disk: two files. */
const COPY_FILES = 2;

async function reasonOf(run: Promise<unknown>): Promise<string> {
	try {
		await run;
	} catch (error) {
		const { status, reason } = asGswarmError(error);
		return `${status} ${reason}`;
	}
	return "accepted";
}

/** How a removal ends: `completed`, or why it did not, at the submit or later. */
async function endOf(c: LocalCluster, run: Promise<{ task_id: string }>): Promise<string> {
	try {
		const task = await c.ended((await run).task_id);
		return task.status === "completed" ? "completed" : String(task.error?.details["reason"]);
	} catch (error) {
		return String(asGswarmError(error).reason);
	}
}

test(
	"the last durable copy is removed by force alone; one of two goes, and says how much it freed",
	async () => {
		await using c = await localCluster({ files });
		await c.download(MODEL, "node1:disk");
		await c.done(c.copy(MODEL, "node1:disk", "node1:dram"));
		expect(await reasonOf(c.remove(MODEL, "node1:disk"))).toBe("409 last_durable_copy");
		await c.done(c.copy(MODEL, "node1:disk", "node2:disk"));
		const removed = await c.done(c.remove(MODEL, "node1:disk"));
		expect(removed.result).toEqual({ freed_bytes: BYTES + 2, device: "node1:disk" });
		expect(c.node("node1").files()).toEqual([]);
		expect(await c.ready(MODEL)).toEqual(["node1:dram", "node2:disk"]);
		expect(await reasonOf(c.remove(MODEL, "node2:disk"))).toBe("409 last_durable_copy");
		// A copy in memory is nobody's last one.
		await c.done(c.remove(MODEL, "node1:dram"));
		await c.done(c.remove(MODEL, "node2:disk", { force: true }));
		expect(await c.ready(MODEL)).toEqual([]);
		expect((await c.host.client.call("getModel", { params })).status).toBe("unavailable");
		expect(await reasonOf(c.remove(MODEL, "node2:disk"))).toBe("404 model_not_found");
	},
	LIMIT_MS,
);

test(
	"of two nodes that drop their copies at the same time one keeps it",
	async () => {
		await using c = await localCluster({ files });
		for (let round = 0; round < 3; round++) {
			await c.download(MODEL, "node1:disk");
			await c.done(c.download(MODEL, "node2:disk").then(({ task_id }) => ({ task_id })));
			const ends = await Promise.all(["node1:disk", "node2:disk"].map((it) => endOf(c, c.remove(MODEL, it))));
			expect(ends.toSorted((a, b) => (a < b ? -1 : 1))).toEqual(["completed", "last_durable_copy"]);
			expect(await c.ready(MODEL)).toHaveLength(1);
			expect(c.node("node1").files().length + c.node("node2").files().length).toBe(COPY_FILES);
		}
	},
	LIMIT_MS,
);

test(
	"of two disks of one node that are emptied at the same time one keeps its copy",
	async () => {
		await using c = await localCluster({ nodes: ["node1"], files });
		for (let round = 0; round < 3; round++) {
			await c.download(MODEL, "node1:disk");
			await c.download(MODEL, "node1:disk1");
			const ends = await Promise.all(
				["node1:disk", "node1:disk1"].map((it) => endOf(c, c.remove(MODEL, it))),
			);
			expect(ends.toSorted((a, b) => (a < b ? -1 : 1))).toEqual(["completed", "last_durable_copy"]);
			expect(await c.ready(MODEL)).toHaveLength(1);
			expect(c.node("node1").files("disk").length + c.node("node1").files("disk1").length).toBe(COPY_FILES);
		}
	},
	LIMIT_MS,
);

test(
	"a copy that another node is reading stays, and is still known to be there; the reader gets all of it",
	async () => {
		await using c = await localCluster({ files });
		await c.download(MODEL, "node1:disk");
		const { task_id } = await c.copy(MODEL, "node1:disk", "node2:disk", SLOW);
		await until("bytes arrive", async () => {
			const task = await c.host.client.call("getTask", { params: { task_id } });
			return task.progress.bytes_done > 0;
		});
		expect(await endOf(c, c.remove(MODEL, "node1:disk", { force: true }))).toBe("in_use");
		expect(await c.ready(MODEL)).toEqual(["node1:disk"]);
		expect((await c.ended(task_id)).status).toBe("completed");
		expect(await c.ready(MODEL)).toEqual(["node1:disk", "node2:disk"]);
		await c.done(c.remove(MODEL, "node1:disk"));
	},
	LIMIT_MS,
);

test(
	"a removal that a reader stopped gives nobody else leave to remove the other copy",
	async () => {
		await using c = await localCluster({ nodes: ["node1", "node2", "node3"], files });
		await c.download(MODEL, "node1:disk");
		await c.done(c.copy(MODEL, "node1:disk", "node2:disk"));
		const { task_id } = await c.copy(MODEL, "node1:disk", "node3:disk", SLOW);
		await until("bytes arrive", async () => {
			const task = await c.host.client.call("getTask", { params: { task_id } });
			return task.progress.bytes_done > 0;
		});
		expect(await endOf(c, c.remove(MODEL, "node1:disk"))).toBe("in_use");
		await c.host.client.call("cancelTask", { params: { task_id } });
		expect(await c.ready(MODEL)).toEqual(["node1:disk", "node2:disk"]);
		const ends = await Promise.all(["node1:disk", "node2:disk"].map((it) => endOf(c, c.remove(MODEL, it))));
		expect(ends.toSorted((a, b) => (a < b ? -1 : 1))).toEqual(["completed", "last_durable_copy"]);
	},
	LIMIT_MS,
);

test(
	"unregistering removes every copy, and the model is gone",
	async () => {
		await using c = await localCluster({ files });
		await c.download(MODEL, "node1:disk");
		await c.done(c.copy(MODEL, "node1:disk", "node2:disk"));
		await c.done(c.copy(MODEL, "node1:disk", "node2:dram"));
		const done = await c.done(c.remove(MODEL));
		expect(done.result).toEqual({ freed_bytes: 3 * (BYTES + 2), pending_nodes: [] });
		expect(await reasonOf(c.host.client.call("getModel", { params }))).toBe("404 model_not_found");
		for (const [node, tier] of [
			["node1", "disk"],
			["node2", "disk"],
			["node2", "dram"],
		] as const) {
			expect(c.node(node).files(tier)).toEqual([]);
		}
		expect(await reasonOf(c.remove(MODEL))).toBe("404 model_not_found");
	},
	LIMIT_MS,
);

test(
	"a model that a task is still bringing is not unregistered under its hands",
	async () => {
		await using c = await localCluster({ files });
		const body = { target_device: "node1:disk", ...SLOW };
		const { task_id } = await c.host.client.call("downloadModel", { params, body });
		await until("bytes arrive", async () => {
			const task = await c.host.client.call("getTask", { params: { task_id } });
			return task.progress.bytes_done > 0;
		});
		expect(await reasonOf(c.remove(MODEL))).toBe("409 in_use");
		await c.host.client.call("cancelTask", { params: { task_id } });
		await until("the model may go", async () => (await endOf(c, c.remove(MODEL))) !== "in_use");
		await until("nothing is left of it", () => c.node("node1").files().length === 0);
		expect((await c.host.client.call("listModels", {})).models).toEqual([]);
	},
	LIMIT_MS,
);

test(
	"with force, what is bringing the model ends first: a download and a copy between nodes",
	async () => {
		await using c = await localCluster({ files });
		const body = { target_device: "node1:disk", ...SLOW };
		const download = await c.host.client.call("downloadModel", { params, body });
		const arriving = (task_id: string): Promise<unknown> =>
			until("bytes arrive", async () => {
				const task = await c.host.client.call("getTask", { params: { task_id } });
				return task.progress.bytes_done > 0;
			});
		await arriving(download.task_id);
		await c.done(c.remove(MODEL, undefined, { force: true }));
		expect((await c.ended(download.task_id)).status).toBe("cancelled");
		await c.download(MODEL, "node1:disk");
		const copy = await c.copy(MODEL, "node1:disk", "node2:disk", SLOW);
		await arriving(copy.task_id);
		await c.done(c.remove(MODEL, undefined, { force: true }));
		expect((await c.ended(copy.task_id)).status).toBe("cancelled");
		for (const node of ["node1", "node2"])
			await until("nothing is left", () => c.node(node).files().length === 0);
		expect((await c.host.client.call("listModels", {})).models).toEqual([]);
	},
	LIMIT_MS,
);

test(
	"an unregistration that the host's restart interrupted goes on to the last copy",
	async () => {
		await using c = await localCluster({ nodes: ["node1"], files });
		await c.download(MODEL, "node1:disk");
		const { task_id } = await c.remove(MODEL);
		await c.host.stop();
		await c.host.start();
		expect((await c.ended(task_id)).status).toBe("completed");
		// A node that the host has not heard yet in this life gives its bytes back when it is heard.
		await until("the last copy is gone", () => c.node("node1").files().length === 0);
		await until("the host knows", async () => {
			const { nodes } = await c.host.client.call("listNodes", {});
			return nodes[0]?.models === 0;
		});
		expect((await c.host.client.call("listModels", {})).models).toEqual([]);
	},
	LIMIT_MS,
);

/** The host believes that the node is away, which it is. */
async function gone(c: LocalCluster, name: string): Promise<void> {
	await c.node(name).stop();
	c.host.pass(40_000);
	await until("the others are heard again", async () => {
		const { nodes } = await c.host.client.call("listNodes", {});
		return nodes.every((it) => (it.name === name) === (it.status !== "alive"));
	});
}

test(
	"what was unregistered while its node was away does not come back with it, and the bytes go",
	async () => {
		await using c = await localCluster({ files });
		await c.download(MODEL, "node1:disk");
		await c.download("acme/other", "node1:disk");
		await c.done(c.copy(MODEL, "node1:disk", "node2:disk"));
		await gone(c, "node1");
		const done = await c.done(c.remove(MODEL));
		expect(done.result).toEqual({ freed_bytes: BYTES + 2, pending_nodes: ["node1"] });
		expect(await reasonOf(c.host.client.call("getModel", { params }))).toBe("404 model_not_found");
		await c.node("node1").start();
		await until("node1 gave its bytes back", () => c.node("node1").files().length === COPY_FILES);
		await until("node1 told its host", async () => (await c.ready("acme/other")).length === 1);
		expect(await reasonOf(c.host.client.call("getModel", { params }))).toBe("404 model_not_found");
		expect((await c.host.client.call("listModels", {})).models.map((it) => it.model_name)).toEqual([
			"acme/other",
		]);
		// And may come again.
		await c.download(MODEL, "node1:disk");
		expect(await c.ready(MODEL)).toEqual(["node1:disk"]);
	},
	LIMIT_MS,
);

test(
	"a refused copy to a node that is away does not bring back what was deleted there",
	async () => {
		await using c = await localCluster({ files });
		await c.download(MODEL, "node1:disk");
		await gone(c, "node1");
		await c.done(c.remove(MODEL));
		await c.download(MODEL, "node2:disk");
		expect(await reasonOf(c.copy(MODEL, "node2:disk", "node1:disk"))).toBe("503 node_unreachable");
		await c.node("node1").start();
		await until("node1 gave its bytes back", () => c.node("node1").files().length === 0);
		expect(await c.ready(MODEL)).toEqual(["node2:disk"]);
	},
	LIMIT_MS,
);

test(
	"without its host a node destroys no durable copy, and does so when the host is back",
	async () => {
		await using c = await localCluster({ files });
		await c.download(MODEL, "node1:disk");
		await c.done(c.copy(MODEL, "node1:disk", "node1:disk1"));
		await c.done(c.copy(MODEL, "node1:disk", "node1:dram"));
		await c.done(c.copy(MODEL, "node1:disk", "node2:disk"));
		await c.host.stop();
		const remove = (device: string) =>
			c.node("node1").client.call("deleteModel", { params, query: { device, force: "false" } });
		expect(await reasonOf(remove("disk"))).toBe("503 host_unreachable");
		expect(await reasonOf(remove("disk1"))).toBe("503 host_unreachable");
		expect(c.node("node1").files()).toHaveLength(COPY_FILES);
		// What is in memory anyway goes without asking.
		await remove("dram");
		await until("the memory is free", () => c.node("node1").files("dram").length === 0);
		await c.host.start();
		await until("the host has the inventories", async () => (await c.ready(MODEL)).length === 3);
		await c.done(c.remove(MODEL, "node1:disk"));
	},
	LIMIT_MS,
);

test(
	"a copy on a node that is away does not count as the other one",
	async () => {
		await using c = await localCluster({ files });
		await c.download(MODEL, "node1:disk");
		await c.done(c.copy(MODEL, "node1:disk", "node2:disk"));
		await gone(c, "node2");
		expect(await reasonOf(c.remove(MODEL, "node1:disk"))).toBe("409 last_durable_copy");
		await c.node("node2").start();
		await until("node2 is back", async () => {
			const { nodes } = await c.host.client.call("listNodes", {});
			return nodes.every((it) => it.status === "alive");
		});
		await c.done(c.remove(MODEL, "node1:disk"));
		expect(await c.ready(MODEL)).toEqual(["node2:disk"]);
	},
	LIMIT_MS,
);

test(
	"a claim is removed as a claim, and a claimed copy is no reason to remove a real one",
	async () => {
		await using c = await localCluster({ files });
		await c.download(MODEL, "node1:disk");
		const claim = await c.host.client.call("addLocation", { params, body: { device: "node2:disk" } });
		expect(claim).toMatchObject({ device: "node2:disk", status: "unavailable" });
		expect(await reasonOf(c.remove(MODEL, "node1:disk"))).toBe("409 last_durable_copy");
		const dropped = c.host.client.call("removeLocation", { params: { ...params, device: "node2:disk" } });
		await c.done(dropped);
		const { locations } = await c.host.client.call("listLocations", { params });
		expect(locations.map((it) => it.device)).toEqual(["node1:disk"]);
	},
	LIMIT_MS,
);
