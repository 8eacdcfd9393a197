import { expect, test } from "bun:test";
import { furtherSources } from "../../src/agent/host/further-sources.ts";
import { localCluster, modelFiles } from "../support/cluster.ts";

const GIB = 1024 ** 3;
const of = (...names: string[]) =>
	names.map((name) => {
		const [node = "", tier = "", busy = "0"] = name.split(" ");
		return { node, tier, busy: Number(busy) };
	});
const devices = (...input: Parameters<typeof furtherSources>) =>
	furtherSources(...input).map(({ node, tier }) => `${node}:${tier}`);

test("beside the named source those are read that have least to do, one copy of each node", () => {
	const holders = of(
		"node1 disk",
		"node2 disk 2",
		"node3 disk 1",
		"node3 dram 1",
		"node4 disk",
		"node5 disk 9",
	);
	const choice = { source: "node1", receiver: "node9", sizeBytes: GIB };
	expect(devices(holders, choice)).toEqual(["node4:disk", "node3:dram", "node2:disk"]);
	expect(devices(holders, { ...choice, receiver: "node4" })).not.toContain("node4:disk");
	// A small one comes from one place, unless that is away.
	expect(devices(holders, { ...choice, sizeBytes: 1000 })).toEqual([]);
	expect(devices(holders, { ...choice, sizeBytes: 1000, isNeeded: true })[0]).toBe("node4:disk");
});

test("a copy whose source is away comes from another node that has the same", async () => {
	const files = { "acme/tiny": modelFiles(3_000_000) };
	await using c = await localCluster({ nodes: ["node1", "node2", "node3"], files });
	await c.download("acme/tiny", "node1:disk");
	await c.done(c.copy("acme/tiny", "node1:disk", "node2:disk"));
	const { task_id } = await c.copy("acme/tiny", "node1:disk", "node3:disk", { bandwidth_limit: 500_000 });
	// It has been sent to node3, and perhaps not yet read.
	await c.node("node1").stop();
	const done = await c.ended(task_id);
	expect(done.error).toBeNull();
	expect(done.status).toBe("completed");
	expect(await c.ready("acme/tiny")).toContain("node3:disk");
	// Whoever was read lets go of its copy again.
	await c.done(c.remove("acme/tiny", "node2:disk"));
}, 120_000);
