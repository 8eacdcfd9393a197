import { expect, test } from "bun:test";
import {
	createRequest,
	generateKeyPair,
	generateTlsKey,
	keyPem,
	parseJoinString,
	readCertificate,
} from "../../src/core/identity/identity.ts";
import type { ModelCopy } from "../../src/schema/model.ts";
import { PROTOCOL_VERSION } from "../../src/schema/node.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { testRequest } from "../support/credentials.ts";
import { until } from "../support/until.ts";
import { heartbeat, service } from "../cluster/beat.ts";
import { clientOf, joinHostStand, joiner, post, reasonOf } from "./join-stand.ts";

test("addresses that a node asks for are shown, and vouched for once an admin approved them", async () => {
	await using s = await joinHostStand();
	const node = joiner("node1");
	const joinString = await s.joinString();
	const addresses = ["gpu1.lan", "10.0.0.7"];
	const { certificate, node_token } = await node.join({ joinUrl: s.url, joinString }, { addresses });
	expect((await readCertificate(certificate ?? "")).dns).not.toContain("gpu1.lan");
	expect(s.cluster.documents()[0]?.asked_addresses).toEqual(addresses);
	const params = { node: "node1" };
	expect(await s.ask("approveNode", { params, body: { addresses: ["gpu1.lan"] } })).toEqual({
		node: "node1",
		status: "joined",
		addresses: ["gpu1.lan"],
	});
	const certificate_request = await createRequest(keyPem(node.file.private_key), "node1");
	const renewed = await clientOf(s, node_token).call("renewCertificate", {
		body: { certificate_request, addresses },
	});
	const facts = await readCertificate(renewed.certificate);
	expect([facts.dns.includes("gpu1.lan"), facts.addresses.includes("10.0.0.7")]).toEqual([true, false]);
	expect(s.cluster.documents()[0]).toMatchObject({
		approved_addresses: ["gpu1.lan"],
		asked_addresses: ["10.0.0.7"],
	});
	expect(await reasonOf(s.ask("approveNode", { params, body: { addresses: ["*"] } }))).toBe(
		"400 bad_address",
	);
	expect(await reasonOf(s.ask("approveNode", { params: { node: "x" }, body: {} }))).toBe(
		"404 node_not_found",
	);
});

test("by itself no node gets a name of the host, whatever it asks for", async () => {
	await using s = await joinHostStand();
	await s.credentials.serverIdentity({ dns: ["host.lan"], addresses: ["10.0.0.1"] });
	const addresses = ["host.lan", "10.0.0.1", "gpu1.lan"];
	await joiner("node1").join({ joinUrl: s.url, joinString: await s.joinString() }, { addresses });
	const params = { node: "node1" };
	expect(await s.ask("approveNode", { params, body: {} })).toMatchObject({ addresses: ["gpu1.lan"] });
	expect(await s.ask("approveNode", { params, body: { addresses: ["host.lan"] } })).toMatchObject({
		addresses: ["gpu1.lan", "host.lan"],
	});
});

test("a node that calls from an address of the host gets no certificate for it, unless an admin says so", async () => {
	await using s = await joinHostStand();
	await s.credentials.serverIdentity({ dns: [], addresses: ["10.0.0.1", "fd00::1"] });
	const { certificate_request } = await testRequest("node2");
	const joined = async (node: string, address: string) => {
		const { tokenId, secret } = parseJoinString(await s.joinString());
		const asked = { addresses: [], protocol_version: PROTOCOL_VERSION, version: "test" };
		const body = { node, secret: `${tokenId}.${secret}`, certificate_request, ...asked };
		const { certificate } = (await s.ask("join", { body, address })) as { certificate: string };
		return (await readCertificate(certificate)).addresses;
	};
	expect(await joined("behind-the-gateway", "10.0.0.1")).not.toContain("10.0.0.1");
	expect(await joined("over-ipv6", "fd00:0:0::1")).not.toContain("fd00::1");
	expect(await joined("elsewhere", "10.0.0.7")).toContain("10.0.0.7");
	await s.ask("approveNode", { params: { node: "behind-the-gateway" }, body: { addresses: ["10.0.0.1"] } });
	expect(await joined("behind-the-gateway", "10.0.0.1")).toContain("10.0.0.1");
});

for (const how of ["the host", "the join string"] as const) {
	test(`where ${how} asks for approval a node waits for it, and has no credential before`, async () => {
		const clock = new FakeClock(Date.now());
		await using s = await joinHostStand({ approveJoins: how === "the host" });
		const joinString = await s.joinString({ approve: how === "the join string", ttlS: 3600 });
		const node = joiner("node1", clock);
		const joining = node.join({ joinUrl: s.url, joinString }, { addresses: ["gpu1.lan"] });
		await until("the node waits", () => s.cluster.documents().length > 0);
		expect(s.cluster.documents()[0]).toMatchObject({ name: "node1", status: "waiting" });
		expect(s.cluster.views()).toEqual([]);
		expect(await reasonOf(post(s, await s.joinString(), { node: "node1" }))).toBe("409 node_name_taken");
		await until("it asks again", async () => {
			await clock.advance(2_000);
			return s.seen.filter((it) => it.includes("/join")).length > 2;
		});
		expect(node.written).toEqual([]);
		const params = { node: "node1" };
		expect(await s.ask("approveNode", { params, body: {} })).toMatchObject({
			status: "waiting",
			addresses: ["gpu1.lan"],
		});
		let done = false;
		void joining.finally(() => (done = true));
		await until("it is in", async () => {
			await clock.advance(2_000);
			return done;
		});
		const { certificate = "", node_token } = await joining;
		expect((await readCertificate(certificate)).dns).toContain("gpu1.lan");
		expect(s.identity.authenticate(node_token)).toMatchObject({ node: "node1" });
		expect(s.cluster.views().map((it) => it.name)).toEqual(["node1"]);
		expect(s.cluster.documents()).toHaveLength(1);
	});
}

test("a node that waits and is turned away is refused at its next question", async () => {
	await using s = await joinHostStand({ approveJoins: true });
	const joinString = await s.joinString();
	expect(await post(s, joinString)).toEqual({ status: "waiting", node: "node1" });
	await s.ask("removeNode", { params: { node: "node1" }, query: { force: false } });
	expect(s.cluster.documents()).toEqual([]);
	expect(await reasonOf(post(s, joinString))).toBe("401 join_refused");
});

test("a removed node's bearer is refused on the next request, and nothing is known of what it held", async () => {
	await using s = await joinHostStand();
	const node = joiner("node1");
	const { node_token } = await node.join({ joinUrl: s.url, joinString: await s.joinString({ uses: 1 }) });
	await s.cluster.beat("node1", heartbeat(), "127.0.0.1");
	await s.registry.takeInventory("node1", [copy("acme/tiny")]);
	const params = { node: "node1" };
	expect(await reasonOf(s.ask("removeNode", { params, query: { force: false } }))).toBe(
		"409 last_durable_copy",
	);
	expect(s.identity.authenticate(node_token)).toBeDefined();
	await s.registry.takeInventory("node2", [copy("acme/tiny")]);
	expect(await reasonOf(s.ask("removeNode", { params, query: { force: false } }))).toBe(
		"409 last_durable_copy",
	);
	await s.ask("removeNode", { params, query: { force: true } });
	expect(s.identity.authenticate(node_token)).toBeUndefined();
	const body = { certificate_request: await createRequest(keyPem(node.file.private_key), "node1") };
	expect(await reasonOf(clientOf(s, node_token).call("renewCertificate", { body }))).toBe(
		"401 no_valid_token",
	);
	expect(s.registry.locations("acme/tiny").map((it) => it.node)).toEqual(["node2"]);
	expect(s.cluster.documents()).toEqual([]);
	expect(await reasonOf(s.ask("removeNode", { params, query: { force: true } }))).toBe("404 node_not_found");
});

test("a node that serves is removed only by force, one that is stopped is not in use", async () => {
	await using s = await joinHostStand();
	await joiner("node1").join({ joinUrl: s.url, joinString: await s.joinString() });
	const params = { node: "node1" };
	const removal = () => reasonOf(s.ask("removeNode", { params, query: { force: false } }));
	await s.cluster.beat("node1", heartbeat({ services: [service({ node: "node1" })] }), "127.0.0.1");
	expect(await removal()).toBe("409 node_in_use");
	const stopped = [service({ node: "node1", state: "stopped" })];
	await s.cluster.beat("node1", heartbeat({ seq: 2, services: stopped }), "127.0.0.1");
	expect(await removal()).toBe("accepted");
});

test("a machine that takes the name of one that was reset waits for approval like a new one", async () => {
	await using s = await joinHostStand({ approveJoins: true });
	const params = { node: "node1" };
	expect(await post(s, await s.joinString())).toMatchObject({ status: "waiting" });
	await s.ask("removeNode", { params, query: { force: false } });
	const { certificate_request } = await testRequest("node1");
	const joinString = await s.joinString();
	expect(await post(s, joinString, { certificate_request })).toMatchObject({ status: "waiting" });
	await s.ask("approveNode", { params, body: {} });
	expect(await post(s, joinString, { certificate_request })).toMatchObject({ status: "joined" });
	await s.ask("resetNode", { params });
	expect(await post(s, await s.joinString())).toMatchObject({ status: "waiting" });
});

test("a node that is reset loses its bearer, and the next key that joins has its name", async () => {
	await using s = await joinHostStand();
	const old = joiner("node1");
	const { node_token } = await old.join({ joinUrl: s.url, joinString: await s.joinString() });
	await s.ask("resetNode", { params: { node: "node1" } });
	expect(s.identity.authenticate(node_token)).toBeUndefined();
	const anew = joiner("node1");
	const { certificate = "" } = await anew.join({ joinUrl: s.url, joinString: await s.joinString() });
	expect((await readCertificate(certificate)).publicKey).toBe(anew.file.public_key);
	expect(await reasonOf(old.join({ joinUrl: s.url, joinString: await s.joinString() }))).toBe(
		"409 node_name_taken",
	);
	expect(await reasonOf(s.ask("resetNode", { params: { node: "nobody" } }))).toBe("404 node_not_found");
});

test("the host's own node takes its new key without a string, and is neither removed nor reset", async () => {
	await using s = await joinHostStand();
	const input = { node: "node1", address: "127.0.0.1", version: "0.1.0", protocolVersion: PROTOCOL_VERSION };
	await s.cluster.join({ ...input, publicKey: generateKeyPair().publicKey, own: true });
	const { publicKey } = generateTlsKey();
	await s.cluster.join({ ...input, publicKey, own: true });
	expect(s.cluster.keyOf("node1")).toBe(publicKey);
	const params = { node: "node1" };
	expect(await reasonOf(s.ask("removeNode", { params, query: { force: true } }))).toBe("409 own_node");
	expect(await reasonOf(s.ask("resetNode", { params }))).toBe("409 own_node");
	expect(await reasonOf(post(s, await s.joinString()))).toBe("409 node_name_taken");
});

function copy(model_name: string): ModelCopy {
	return {
		model_name,
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
}
