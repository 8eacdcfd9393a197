import { afterAll, beforeAll, expect, test } from "bun:test";
import { share } from "../../src/agent/host/cluster-bandwidth.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import * as fc from "fast-check";
import { type LocalCluster, localCluster, modelFiles } from "../support/cluster.ts";
import { until } from "../support/until.ts";

const BYTES = 24_000_000;
let cluster: LocalCluster;

beforeAll(async () => {
	cluster = await localCluster({ files: { "acme/tiny": modelFiles(BYTES) } });
	await cluster.download("acme/tiny", "node1:disk");
}, 60_000);

afterAll(async () => {
	await cluster?.[Symbol.asyncDispose]();
}, 60_000);

const limitNode = (node: string, body: { down?: number | null; up?: number | null }) =>
	cluster.host.client.call("setNodeBandwidth", { params: { node }, body });
const limitTask = (task_id: string, bandwidth_limit: number | null) =>
	cluster.host.client.call("setTaskBandwidth", { params: { task_id }, body: { bandwidth_limit } });

async function reasonOf(work: Promise<unknown>): Promise<string | undefined> {
	return work.then(
		() => undefined,
		(error: unknown) => asGswarmError(error).reason,
	);
}

/** How long a copy to node2 takes, in seconds; the copy is removed again. */
async function copyS(): Promise<number> {
	const task = await cluster.done(cluster.copy("acme/tiny", "node1:disk", "node2:disk"));
	await cluster.done(cluster.remove("acme/tiny", "node2:disk"));
	return (task.completed_at ?? 0) - (task.started_at ?? 0);
}

test("a running copy at a crawl is let go by a change of its limit, through the host's own task", async () => {
	const { task_id } = await cluster.copy("acme/tiny", "node1:disk", "node2:disk", {
		bandwidth_limit: 100_000,
	});
	await until("it is under way", async () => {
		const task = await cluster.host.client.call("getTask", { params: { task_id } });
		return task.status === "running" && task.progress.bytes_done > 0;
	});
	// At 100 kB/s it would take four minutes.
	expect(await limitTask(task_id, null)).toEqual({ task_id, bandwidth_limit: null });
	expect((await cluster.ended(task_id)).status).toBe("completed");
	expect(await reasonOf(limitTask(task_id, 5000))).toBe("already_terminal");
	await cluster.done(cluster.remove("acme/tiny", "node2:disk"));
}, 60_000);

test("what a node may send and receive holds for its copies, and is shown", async () => {
	await limitNode("node1", { up: 12_000_000 });
	expect(await copyS()).toBeGreaterThan(1.5);
	await limitNode("node1", { up: null });
	expect(await limitNode("node2", { down: 12_000_000 })).toMatchObject({ down: 12_000_000, up: null });
	expect(await copyS()).toBeGreaterThan(1.5);
	const shown = await cluster.host.client.call("getNodeBandwidth", { params: { node: "node2" } });
	expect(shown).toMatchObject({ node: "node2", down: 12_000_000, share_down: null });
	await limitNode("node2", { down: null });
}, 60_000);

test("the cluster's limit reaches the nodes with their next beat, as shares that are no more than it", async () => {
	expect(await limitNode("all", { down: 9_000_000 })).toMatchObject({ node: "all", down: 9_000_000 });
	const shares = await until(
		"both have heard",
		async () => {
			const both = ["node1", "node2"].map((node) =>
				cluster.host.client.call("getNodeBandwidth", { params: { node } }),
			);
			const heard = (await Promise.all(both)).map((one) => one.share_down ?? 0);
			return heard.every((one) => one > 0) ? heard : undefined;
		},
		30_000,
	);
	expect(shares.reduce((sum, one) => sum + one, 0)).toBeLessThanOrEqual(9_000_000);
	await limitNode("all", { down: null });
	await until(
		"it is off",
		async () => {
			const { share_down } = await cluster.host.client.call("getNodeBandwidth", {
				params: { node: "node2" },
			});
			return share_down === null;
		},
		30_000,
	);
}, 60_000);

test("a limit is at least 1 kB/s, of a node that there is, for a task that receives", async () => {
	const bad = cluster.host.client.call("setNodeBandwidth", {
		params: { node: "node1" },
		body: { down: 999 },
	});
	expect(asGswarmError(await bad.catch((error: unknown) => error)).status).toBe(400);
	expect(await reasonOf(limitNode("node9", { down: 1000 }))).toBe("node_not_found");
	expect(await reasonOf(limitTask("copy-none-00000000", 1000))).toBe("task_not_found");
	const other = cluster.node("node1").client;
	expect(
		await reasonOf(other.call("setNodeBandwidth", { params: { node: "node2" }, body: { down: 1000 } })),
	).toBe("wrong_node");
});

test("shares of a limit are no more than it together, and a busy node's is larger", () => {
	const nodes = fc.array(fc.boolean(), { minLength: 1, maxLength: 20 });
	fc.assert(
		fc.property(nodes, fc.integer({ min: 1_000_000, max: 1e12 }), (busy, limit) => {
			const list = busy.map((isBusy, at) => ({ name: `n${at}`, isBusy }));
			const shares = list.map(({ name }) => share(limit, list, name) ?? 0);
			expect(shares.reduce((sum, one) => sum + one, 0)).toBeLessThanOrEqual(limit);
			for (const [at, { isBusy }] of list.entries()) {
				if (isBusy)
					for (const [other, { isBusy: same }] of list.entries())
						if (!same) expect(shares[at]).toBeGreaterThan(shares[other] ?? 0);
			}
		}),
	);
	expect(share(null, [{ name: "n", isBusy: true }], "n")).toBeNull();
});
