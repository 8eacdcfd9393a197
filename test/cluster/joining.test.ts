import { expect, test } from "bun:test";
import { createApiClient } from "../../src/api/client.ts";
import { parseJoinString } from "../../src/core/identity/identity.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import type { ModelCopy } from "../../src/schema/model.ts";
import { type HeartbeatAnswer, PROTOCOL_VERSION } from "../../src/schema/node.ts";
import { testRequest } from "../support/credentials.ts";
import { localCluster, type LocalCluster } from "../support/cluster.ts";
import { until } from "../support/until.ts";
import { heartbeat } from "./beat.ts";

const CLAIMED: ModelCopy = {
	model_name: "acme/claimed",
	revision: "r1",
	tier: "disk",
	status: "ready",
	size_bytes: 1,
	content_id: "c".repeat(64),
	model_type: "llm",
	source_url: null,
	format: "gguf",
	ready_at: 1,
};

const nobody = (c: LocalCluster) => createApiClient({ baseUrl: c.host.url, token: () => undefined });

async function joinSecret(c: LocalCluster, uses = 1): Promise<string> {
	const { token } = await c.host.client.call("createToken", { body: { kind: "join", uses } });
	const { tokenId, secret } = parseJoinString(token);
	return `${tokenId}.${secret}`;
}

async function join(
	c: LocalCluster,
	node: string,
	secret: string,
	change: { certificate_request?: string; protocol_version?: number } = {},
) {
	const { certificate_request } = await testRequest(node);
	return nobody(c).call("join", {
		body: {
			node,
			secret,
			certificate_request,
			protocol_version: PROTOCOL_VERSION,
			version: "test",
			...change,
		},
	});
}

async function reasonOf(run: Promise<unknown>): Promise<string> {
	try {
		await run;
	} catch (error) {
		const { status, reason } = asGswarmError(error);
		return `${status} ${reason}`;
	}
	return "accepted";
}

test("a node joins once with a join string and is alive with all it has to offer", async () => {
	await using c = await localCluster({ nodes: ["node1", "node2"] });
	const { nodes, total } = await c.host.client.call("listNodes", {});
	expect(total).toBe(2);
	expect(nodes.map((it) => [it.name, it.status, Object.keys(it.tiers)])).toEqual([
		["node1", "alive", ["disk", "disk1", "dram"]],
		["node2", "alive", ["disk", "disk1", "dram"]],
	]);
	const status = await c.host.client.call("status", {});
	expect(status).toMatchObject({ node_list: ["node1", "node2"], model_status: [] });
}, 60_000);

test("a join string that is wrong, or used up, lets nobody in", async () => {
	await using c = await localCluster({ nodes: [] });
	const secret = await joinSecret(c);
	expect(await reasonOf(join(c, "node1", `${secret.slice(0, -1)}!`))).toBe("401 join_refused");
	expect(await reasonOf(join(c, "node1", secret))).toBe("accepted");
	expect(await reasonOf(join(c, "node2", secret))).toBe("401 join_refused");
	expect((await c.host.client.call("listNodes", {})).nodes.map((it) => it.name)).toEqual(["node1"]);
}, 60_000);

test("a name that somebody else has, a bad name and a strange protocol are refused and spend nothing", async () => {
	await using c = await localCluster({ nodes: ["node1"] });
	const secret = await joinSecret(c);
	expect(await reasonOf(join(c, "node1", secret))).toBe("409 node_name_taken");
	expect(await reasonOf(join(c, "../node", secret))).toBe("400 bad_node_name");
	expect(await reasonOf(join(c, "node9", secret, { protocol_version: 99 }))).toBe(
		"400 protocol_not_supported",
	);
	expect(await reasonOf(join(c, "node2", secret))).toBe("accepted");
	// The node that has the name still reports.
	expect(await reasonOf(beatAs(c, c.node("node1").token))).toBe("accepted");
}, 60_000);

test("of two keys that want one name at once, the one that gets it also gets a credential that works", async () => {
	await using c = await localCluster({ nodes: [] });
	const secret = await joinSecret(c, 2);
	// Straight to the handler, so that both are in it at the same time.
	const joining = async () => {
		const { certificate_request } = await testRequest("node1");
		const about = { node: "node1", secret, protocol_version: PROTOCOL_VERSION, version: "test" };
		const call = { body: { ...about, certificate_request, addresses: [] }, address: "127.0.0.1" };
		type Join = typeof c.host.role.handlers.join;
		return c.host.role.handlers.join(call as unknown as Parameters<Join>[0]);
	};
	const answers = await Promise.allSettled([joining(), joining()]);
	const [joined, ...others] = answers.filter((it) => it.status === "fulfilled").map((it) => it.value);
	expect(others).toEqual([]);
	const token = joined?.status === "joined" ? joined.node_token : "";
	expect(await reasonOf(beatAs(c, token))).toBe("accepted");
}, 60_000);

test("a node's credential is good for its own reports, and for nothing that people do", async () => {
	await using c = await localCluster({ nodes: ["node1"] });
	const as = createApiClient({ baseUrl: c.host.url, token: () => c.node("node1").token });
	const calls = [
		() => as.call("listModels", {}),
		() => as.call("listNodes", {}),
		() => as.call("createToken", { body: { kind: "join" } }),
		() => as.call("deleteModel", { params: { model_name: "tiny" } }),
		() => as.call("registerModel", { body: { model_name: "tiny" } }),
	];
	for (const call of calls) expect(await reasonOf(call())).toBe("403 role_not_allowed");
	expect(await reasonOf(c.host.client.call("heartbeat", { body: heartbeat() }))).toBe("403 role_not_allowed");
	// An operation that brings nothing to this node is none of its business.
	expect(await reasonOf(as.call("requestGrant", { body: { operation_id: "copy-tiny-00000000" } }))).toBe(
		"404 task_not_found",
	);
}, 60_000);

test("what a node reports is told of itself alone, whatever it says", async () => {
	await using c = await localCluster({ nodes: ["node1", "node2"] });
	await beatAs(c, c.node("node2").token, 2);
	const { location_details } = await c.host.client.call("getModel", {
		params: { model_name: "acme/claimed" },
	});
	expect(location_details.map((it) => it.device)).toEqual(["node2:disk"]);
}, 60_000);

test("names that are none do not come into the registry with an inventory", async () => {
	await using c = await localCluster({ nodes: ["node1"] });
	const names = ["../../etc", "a b", "tiny\u001b[31m", "a/../b", ""];
	const copies = names.map((model_name) => ({ ...CLAIMED, model_name }));
	await beatAs(c, c.node("node1").token, 1, [...copies, CLAIMED, { ...CLAIMED, tier: "node2:disk" }]);
	const { models } = await c.host.client.call("listModels", {});
	expect(models.map((it) => [it.model_name, it.locations])).toEqual([["acme/claimed", ["node1:disk"]]]);
}, 60_000);

test("a removal that could not be asked for is asked for again: the host wants the inventory once more", async () => {
	await using c = await localCluster({ nodes: ["node1"] });
	await c.node("node1").stop();
	const { registry } = c.host.role;
	const { model_name, tier, revision } = CLAIMED;
	await registry.takeInventory("node1", [CLAIMED]);
	await registry.forget(model_name, [{ model_name, node: "node1", tier, revision }]);
	// It reports, and nobody listens where it says that it does.
	const first = await beatAs(c, c.node("node1").token, 1, [CLAIMED], { api_port: 1 });
	expect(first.want_inventory).toBe(false);
	let seq = 2;
	await until("the host asks again", async () => {
		const change = { api_port: 1, inventory: undefined };
		return (await beatAs(c, c.node("node1").token, seq++, [], change)).want_inventory;
	});
	expect(registry.has(model_name)).toBe(false);
}, 60_000);

test("after its restart a host counts on no copy that it has not heard of in this life", async () => {
	await using c = await localCluster({ nodes: ["node1", "node2"] });
	const [one, two] = [c.node("node1"), c.node("node2")];
	for (const { token } of [one, two]) await beatAs(c, token);
	await one.stop();
	await two.stop();
	await c.host.stop();
	await c.host.start();
	const { model_name, tier, revision } = CLAIMED;
	const ask = async (): Promise<boolean> => {
		const as = createApiClient({ baseUrl: c.host.url, token: () => one.token });
		const body = { model_name, tier, revision, force: false, dry_run: true };
		return (await as.call("condemn", { body })).granted;
	};
	await beatAs(c, one.token, 2);
	// The other one is alive, and has not said yet what it holds.
	await beatAs(c, two.token, 2, [], { inventory: undefined });
	expect(await c.ready(model_name)).toEqual(["node1:disk", "node2:disk"]);
	expect(await ask()).toBe(false);
	await beatAs(c, two.token, 3);
	expect(await ask()).toBe(true);
}, 60_000);

test("a node's former credential is worth nothing after it joined again, and its host's calls reach it at once", async () => {
	await using c = await localCluster({ nodes: ["node1"] });
	const node = c.node("node1");
	await node.stop();
	await node.start();
	// The first thing that the host sees of it is enough to call it.
	const submitted = await until("the restarted node takes work", () =>
		c.host.client.call("queueStatus", { query: { node: "node1" } }),
	);
	expect(submitted.tasks).toEqual([]);
}, 60_000);

/** A beat with the given credential, of a life after all others. */
function beatAs(
	c: LocalCluster,
	token: string,
	seq = 1,
	inventory = [CLAIMED],
	change: { api_port?: number; inventory?: undefined } = {},
): Promise<HeartbeatAnswer> {
	const client = createApiClient({ baseUrl: c.host.url, token: () => token });
	const { inventory: _none, ...ports } = change;
	const all = heartbeat({ incarnation: 99, seq, inventory_version: 1, ...ports });
	return client.call("heartbeat", { body: "inventory" in change ? all : { ...all, inventory } });
}
