import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { asGswarmError } from "../../src/schema/errors.ts";
import type { TaskDocument } from "../../src/schema/task.ts";
import { type LocalCluster, localCluster, modelFiles } from "../support/cluster.ts";
import { until } from "../support/until.ts";

const BYTES = 20_000_000;
const PART = 8 * 1024 * 1024;

let cluster: LocalCluster;

beforeAll(async () => {
	cluster = await localCluster({ files: { "acme/tiny": modelFiles(BYTES), "acme/lone": modelFiles(1000) } });
	await cluster.download("acme/tiny", "node1:disk");
	await cluster.download("acme/lone", "node1:disk");
}, 60_000);

afterAll(async () => {
	await cluster?.[Symbol.asyncDispose]();
}, 60_000);

/** Flips a byte of the file where it lies on the node's disk. */
function damage(node: string, model: string, tier: "disk" | "disk1", file: string, at: number): string {
	const { storage } = cluster.node(node).role;
	const copy = storage.copies().find((one) => one.model_name === model && one.tier === tier);
	if (copy === undefined) throw new Error(`no ${model} on ${node}:${tier}`);
	const path = join(storage.pathOf(copy), file);
	const bytes = readFileSync(path);
	bytes[at] = (bytes[at] ?? 0) ^ 1;
	writeFileSync(path, bytes);
	return path;
}

const verify = async (model: string, more: object = {}): Promise<TaskDocument> => {
	const { task_id } = await cluster.host.client.call("verifyModel", {
		params: { model_name: model },
		body: more,
	});
	return cluster.ended(task_id);
};

async function reasonOf(work: Promise<unknown>): Promise<string | undefined> {
	return work.then(
		() => undefined,
		(error: unknown) => asGswarmError(error).reason ?? asGswarmError(error).code,
	);
}

test("a whole copy is said to be whole, with how much was read", async () => {
	const task = await verify("acme/tiny");
	expect(task).toMatchObject({ task_type: "verify", status: "completed" });
	const total = BYTES + 2;
	expect(task.result).toMatchObject({
		device: "node1:disk",
		copies: [
			{ bytes_checked: total, parts_checked: 4, parts_total: 4, files_damaged: 0, repaired_from: null },
		],
	});
	expect(task.progress.bytes_done).toBe(total);
	const sample = await verify("acme/tiny", { sample_percent: 10, seed: "a" });
	expect(sample.result).toMatchObject({ seed: "a", copies: [{ parts_checked: 1, parts_total: 4 }] });
	expect((await verify("acme/tiny", { sha256: true })).status).toBe("completed");
});

test("a damaged copy without another one goes out of use and stays so, the task fails with what was wrong", async () => {
	damage("node1", "acme/lone", "disk", "model.safetensors", 17);
	const task = await verify("acme/lone");
	expect(task.status).toBe("failed");
	expect(task.error).toMatchObject({
		code: "TASK_FAILED",
		details: {
			reason: "checksum_mismatch",
			device: "node1:disk",
			copies: [
				{
					damaged: [{ path: "model.safetensors", parts: [0] }],
					not_repaired: "no other copy of it can be reached",
				},
			],
		},
	});
	expect(await cluster.ready("acme/lone")).toEqual([]);
	// Neither served nor copied from.
	const copied = cluster.copy("acme/lone", "node1:disk", "node2:disk");
	expect(await reasonOf(copied)).toBe("model_not_found");
	// A download brings it back.
	await cluster.download("acme/lone", "node1:disk");
	expect(await cluster.ready("acme/lone")).toEqual(["node1:disk"]);
});

test("a damaged copy is replaced from another node's, of which only what differs is read", async () => {
	await cluster.done(cluster.copy("acme/tiny", "node1:disk", "node2:disk"));
	expect(await reasonOf(verify("acme/tiny"))).toBe("ambiguous_device");
	const path = damage("node1", "acme/tiny", "disk", "model.safetensors", PART + 3);
	const before = readFileSync(path);
	const task = await verify("acme/tiny", { device: "node1:disk" });
	expect(task.error).toBeNull();
	expect(task.result).toMatchObject({
		copies: [
			{ files_damaged: 1, damaged: [{ path: "model.safetensors", parts: [1] }], repaired_from: "node2:disk" },
		],
	});
	expect(readFileSync(path).equals(before)).toBe(false);
	expect(task.progress.bytes_done).toBe(task.progress.bytes_total);
	expect(await cluster.ready("acme/tiny")).toEqual(["node1:disk", "node2:disk"]);
	expect((await verify("acme/tiny", { device: "node1:disk" })).status).toBe("completed");
	// The other copy is free again.
	await cluster.done(cluster.remove("acme/tiny", "node2:disk"));
});

test("a damaged copy is replaced from another tier of its own node, and without leave it is only told", async () => {
	await cluster.done(cluster.copy("acme/tiny", "node1:disk", "node1:disk1"));
	damage("node1", "acme/tiny", "disk1", "model.safetensors", 3);
	const told = await verify("acme/tiny", { device: "node1:disk1", repair: false });
	expect(told.error?.details["copies"]).toMatchObject([
		{ repaired_from: null, not_repaired: "it was not asked for" },
	]);
	await until("the host knows", async () => (await cluster.ready("acme/tiny")).join() === "node1:disk");
	const task = await verify("acme/tiny", { device: "node1:disk1" });
	expect(task.result).toMatchObject({ copies: [{ files_damaged: 1, repaired_from: "node1:disk" }] });
	expect(await cluster.ready("acme/tiny")).toEqual(["node1:disk", "node1:disk1"]);
});

test("a copy in use is put out of use for others, and not replaced under its user", async () => {
	const { storage } = cluster.node("node1").role;
	const copy = storage.copies().find((one) => one.model_name === "acme/tiny" && one.tier === "disk1");
	if (copy === undefined) throw new Error("no copy");
	using hold = storage.hold(copy.model_name as never, copy.revision as never, "disk1", "service svc-1");
	void hold;
	damage("node1", "acme/tiny", "disk1", "config.json", 0);
	const task = await verify("acme/tiny", { device: "node1:disk1" });
	expect(task.error?.details["copies"]).toMatchObject([{ not_repaired: "it is in use: service svc-1" }]);
	expect(await cluster.ready("acme/tiny")).toEqual(["node1:disk"]);
});

test("a node gets access for a repair only to what it was known to hold", async () => {
	const { client, url } = cluster.host;
	void client;
	const other = cluster.node("node2");
	const [copy] = cluster.node("node1").role.storage.copies();
	const answer = await fetch(`${url}/api/v1/repairs`, {
		method: "POST",
		headers: { authorization: `Bearer ${other.token}`, "content-type": "application/json" },
		body: JSON.stringify({
			task_id: "verify-1",
			model_name: copy?.model_name,
			revision: copy?.revision,
			content_id: copy?.content_id,
			tier: "disk",
		}),
	});
	expect(answer.status).toBe(404);
});

test("a node whose copy is not damaged gets no access for a repair, and the asking stands in the log", async () => {
	const node = cluster.node("node1");
	const copy = node.role.storage.copies().find(({ model_name }) => model_name === "acme/tiny");
	if (copy === undefined) throw new Error("no copy");
	const answer = await fetch(`${cluster.host.url}/api/v1/repairs`, {
		method: "POST",
		headers: { authorization: `Bearer ${node.token}`, "content-type": "application/json" },
		body: JSON.stringify({
			task_id: "verify-2",
			model_name: "acme/tiny",
			revision: copy.revision,
			content_id: copy.content_id,
			tier: copy.tier,
		}),
	});
	const { error } = (await answer.json()) as { error: { details: { reason: string } } };
	expect([answer.status, error.details.reason]).toEqual([503, "not_damaged"]);
	const { entries } = await cluster.host.client.call("listAudit", { query: { action: "findRepair" } });
	expect(entries.map(({ target }) => target["task_id"])).toContain("verify-2");
});

test.each([
	[{ sample_percent: 0 }, 400],
	[{ sample_percent: 101 }, 400],
	[{ sample_percent: 5, sha256: true }, 400],
	[{ device: "node1:dram" }, 404],
	[{ device: "node9:disk" }, 404],
])("verify refuses %p", async (body, status) => {
	const work = cluster.host.client.call("verifyModel", {
		params: { model_name: "acme/lone" },
		body,
	});
	const error = await work.catch((thrown: unknown) => asGswarmError(thrown));
	expect((error as { status?: number }).status).toBe(status);
});
