import { expect, test } from "bun:test";
import { connect } from "node:tls";
import {
	belongsTo,
	createRequest,
	generateTlsKey,
	generateKeyPair,
	keyPem,
	keyedServerName,
	nodeServerName,
	parseJoinString,
	readCertificate,
} from "../../src/core/identity/identity.ts";
import { sha256Hex } from "../../src/platform/hash.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { PROTOCOL_VERSION } from "../../src/schema/node.ts";
import { hostOrigin } from "../../src/agent/join-host.ts";
import { exitCodeOf } from "../../src/cli/exit-codes.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { testCredentials, testRequest } from "../support/credentials.ts";
import { joinHostStand, joiner, manInTheMiddle, post, reasonOf } from "./join-stand.ts";

test("a node joins over TLS with one join string, and has the CA, a certificate for its key and a bearer", async () => {
	await using s = await joinHostStand();
	const node = joiner("node1");
	const joinString = await s.joinString();
	expect(parseJoinString(joinString).caSha256).toBe(s.credentials.pin);
	const membership = await node.join({ joinUrl: s.url, joinString });
	expect(membership.host_url).toBe(s.url);
	expect(membership.ca_certificate).toBe(s.credentials.caCertificate);
	const ours = { privateKey: keyPem(node.file.private_key), ca: membership.ca_certificate };
	expect(belongsTo(membership.certificate ?? "", ours)).toBe(true);
	const facts = await readCertificate(membership.certificate ?? "");
	expect(facts.dns).toEqual([
		nodeServerName("node1"),
		keyedServerName("node1", facts.publicKey),
		"localhost",
	]);
	expect(facts.addresses).toEqual(["127.0.0.1", "::1"]);
	expect(s.identity.authenticate(membership.node_token)).toMatchObject({ role: "node", node: "node1" });
	expect(node.file.joined).toMatchObject({ certificate: membership.certificate, cluster_id: "c1" });
	expect(s.seen.map((it) => it.split(" ").slice(0, 2).join(" "))).toEqual([
		"GET /cacerts",
		"POST /api/v1/join",
	]);
});

test("on loopback without TLS it joins too, and never asks for a CA that nobody could have exchanged", async () => {
	await using s = await joinHostStand({ tls: false });
	const node = joiner("node1");
	const membership = await node.join({ joinUrl: s.url, joinString: await s.joinString() });
	expect(membership.ca_certificate).toBe(s.credentials.caCertificate);
	expect(s.seen.map((it) => it.split(" ")[1])).toEqual(["/api/v1/join"]);
});

test.each([
	["gpu1.lan", "https://gpu1.lan:8000"],
	["gpu1.lan:443", "https://gpu1.lan"],
	["10.0.0.1:9000", "https://10.0.0.1:9000"],
	["[fd00::1]", "https://[fd00::1]:8000"],
	["localhost", "http://localhost:8000"],
	["https://models.example.org", "https://models.example.org"],
	["https://gpu1.lan:8000/", "https://gpu1.lan:8000"],
	["http://127.0.0.1", "http://127.0.0.1:8000"],
])("the host's address %s is %s", (text, origin) => {
	expect(hostOrigin(text)).toBe(origin);
});

test("plain HTTP to another machine is refused before anything is sent, secret or not", async () => {
	const node = joiner("node1");
	await using s = await joinHostStand();
	const joinString = await s.joinString();
	for (const joinUrl of ["http://192.0.2.1:8000", "http://localhost.example:8000", "http://0.0.0.0:8000"]) {
		expect(await reasonOf(node.join({ joinUrl, joinString }))).toBe("400 plain_http");
	}
});

test("a join string without a pin is refused on https, with the secret unsent", async () => {
	await using s = await joinHostStand();
	const joinString = (await s.joinString()).replace(/^GSW10[0-9a-f]{64}/, "GSW10");
	expect(await reasonOf(joiner("node1").join({ joinUrl: s.url, joinString }))).toBe("400 no_pin");
	expect(s.seen).toEqual([]);
});

test("a man in the middle with a CA of his own sees the question for the CA, and no secret", async () => {
	await using s = await joinHostStand();
	const his = await testCredentials();
	const shown = await his.serverIdentity({ dns: [], addresses: [] });
	await using attacker = manInTheMiddle(s.url, shown, his.caCertificate);
	const joinString = await s.joinString();
	const error: unknown = await joiner("node1")
		.join({ joinUrl: attacker.url, joinString })
		.catch((thrown: unknown) => thrown);
	expect(asGswarmError(error)).toMatchObject({ code: "UNAUTHORIZED", reason: "wrong_pin" });
	expect(exitCodeOf(asGswarmError(error).code)).toBe(5);
	expectNothingSecret(attacker.seen, joinString);
	expect(s.cluster.documents()).toEqual([]);
});

test("a man in the middle who passes on the true CA cannot prove that he is its host, and sees no secret", async () => {
	await using s = await joinHostStand();
	const his = await testCredentials();
	const shown = await his.serverIdentity({ dns: [], addresses: [] });
	await using attacker = manInTheMiddle(s.url, shown);
	const joinString = await s.joinString();
	const error: unknown = await joiner("node1")
		.join({ joinUrl: attacker.url, joinString })
		.catch((thrown: unknown) => thrown);
	expect(asGswarmError(error)).toMatchObject({ code: "UNAUTHORIZED", reason: "host_not_verified" });
	expectNothingSecret(attacker.seen, joinString);
});

test("a node of the cluster cannot pose as its host: its certificate is good, and for another name", async () => {
	await using s = await joinHostStand();
	const bad = joiner("bad");
	const { certificate = "" } = await bad.join({ joinUrl: s.url, joinString: await s.joinString() });
	const shown = { certificate, privateKey: keyPem(bad.file.private_key) };
	await using attacker = manInTheMiddle(s.url, shown);
	const joinString = await s.joinString();
	expect(await reasonOf(joiner("node1").join({ joinUrl: attacker.url, joinString }))).toBe(
		"401 host_not_verified",
	);
	expectNothingSecret(attacker.seen, joinString);
});

test("an environment that switches verification off does not open the way", async () => {
	await using s = await joinHostStand();
	const his = await testCredentials();
	await using attacker = manInTheMiddle(s.url, await his.serverIdentity({ dns: [], addresses: [] }));
	const joinString = await s.joinString();
	const before = process.env["NODE_TLS_REJECT_UNAUTHORIZED"];
	process.env["NODE_TLS_REJECT_UNAUTHORIZED"] = "0";
	try {
		const joining = joiner("node1").join({ joinUrl: attacker.url, joinString });
		expect(await reasonOf(joining)).toBe("401 host_not_verified");
	} finally {
		if (before === undefined) delete process.env["NODE_TLS_REJECT_UNAUTHORIZED"];
		else process.env["NODE_TLS_REJECT_UNAUTHORIZED"] = before;
	}
	expectNothingSecret(attacker.seen, joinString);
});

test("a CA that is too long, that comes twice, that is elsewhere or is none is not taken", async () => {
	await using s = await joinHostStand();
	const joinString = await s.joinString();
	const shown = await (await testCredentials()).serverIdentity({ dns: [], addresses: [] });
	const ca = s.credentials.caCertificate;
	const answers: [string, Response][] = [
		["401 wrong_pin", new Response(`${ca}${" ".repeat(70_000)}`)],
		["401 wrong_pin", new Response(`${ca}${ca}`)],
		["401 wrong_pin", new Response("no certificate")],
		["401 wrong_pin", new Response("")],
		["502 unexpected_answer", Response.redirect(`${s.url}/cacerts`, 302)],
		["502 unexpected_answer", new Response("no", { status: 404 })],
	];
	for (const [wanted, answer] of answers) {
		const server = Bun.serve({
			port: 0,
			hostname: "127.0.0.1",
			tls: { cert: shown.certificate, key: shown.privateKey },
			fetch: () => answer,
		});
		const joining = joiner("node1").join({ joinUrl: `https://127.0.0.1:${server.port}`, joinString });
		expect(await reasonOf(joining)).toBe(wanted);
		await server.stop(true);
	}
	expect(s.seen).toEqual([]);
});

test("a wrong pin stops the join before the secret, whatever host it is", async () => {
	await using s = await joinHostStand();
	const joinString = (await s.joinString()).replace(/^GSW10[0-9a-f]{64}/, `GSW10${sha256Hex("another")}`);
	expect(await reasonOf(joiner("node1").join({ joinUrl: s.url, joinString }))).toBe("401 wrong_pin");
	expect(s.seen.map((it) => it.trim())).toEqual(["GET /cacerts"]);
});

test("a join string that is replayed, expired, used up or revoked lets nobody in", async () => {
	const clock = new FakeClock(Date.now());
	await using s = await joinHostStand({ clock });
	const once = await s.joinString({ ttlS: 60 });
	expect(await reasonOf(post(s, once))).toBe("accepted");
	expect(await reasonOf(post(s, once, { node: "node2" }))).toBe("401 join_refused");
	// The name of a node that is there is told to nobody without a right secret.
	expect(await reasonOf(post(s, once))).toBe("401 join_refused");
	const late = await s.joinString({ ttlS: 60 });
	await clock.advance(60_001);
	expect(await reasonOf(post(s, late, { node: "node3" }))).toBe("401 join_refused");
	const made = await s.joinString();
	await s.identity.people.revoke(parseJoinString(made).tokenId);
	expect(await reasonOf(post(s, made, { node: "node4" }))).toBe("401 join_refused");
	expect(s.cluster.documents().map((it) => it.name)).toEqual(["node1"]);
});

test("whoever has no right secret is told nothing else, and nothing of theirs is read", async () => {
	await using s = await joinHostStand();
	await joiner("node1").join({ joinUrl: s.url, joinString: await s.joinString() });
	const wrong = `GSW10::aaaaaaaa.${"b".repeat(32)}`;
	for (const change of [{}, { certificate_request: "x" }, { addresses: ["*"] }, { protocol_version: 99 }]) {
		expect(await reasonOf(post(s, wrong, change))).toBe("401 join_refused");
	}
});

test("credentials that do not belong together are not kept, whatever host they came from", async () => {
	const node = joiner("node1");
	const [ours, other] = [await testCredentials(), await testCredentials()];
	const certify = async (key: string) =>
		ours.issue(await createRequest(keyPem(key), "node1"), { node: "node1", addresses: [] });
	const answer = { status: "joined", node: "node1", node_token: "t", cluster_id: "c", host_public_key: "k" };
	const mine = await certify(node.file.private_key);
	const pairs = [
		[other.caCertificate, mine],
		[ours.caCertificate, await certify(generateTlsKey().privateKey)],
		["nothing", mine],
	];
	for (const [ca_certificate, certificate] of pairs) {
		using server = Bun.serve({
			port: 0,
			hostname: "127.0.0.1",
			fetch: () => Response.json({ ...answer, ca_certificate, certificate }),
		});
		const joinString = `GSW10::aaaaaaaa.${"b".repeat(32)}`;
		const joining = node.join({ joinUrl: `http://127.0.0.1:${server.port}`, joinString });
		expect(await reasonOf(joining)).toBe("401 certificate_not_ours");
	}
	expect(node.written).toEqual([]);
});

test("a name that another key has is refused, and nothing is spent or changed", async () => {
	await using s = await joinHostStand();
	const first = joiner("node1");
	const { node_token } = await first.join({ joinUrl: s.url, joinString: await s.joinString() });
	const joinString = await s.joinString();
	const thief = joiner("node1");
	expect(await reasonOf(thief.join({ joinUrl: s.url, joinString }))).toBe("409 node_name_taken");
	expect(s.identity.authenticate(node_token)).toMatchObject({ node: "node1" });
	expect(s.cluster.keyOf("node1")).toBe(first.file.public_key);
	expect(await reasonOf(joiner("node2").join({ joinUrl: s.url, joinString }))).toBe("accepted");
});

test("whoever joins again with the same key and string gets the same place, and uses nothing up", async () => {
	await using s = await joinHostStand();
	const node = joiner("node1");
	const joinString = await s.joinString({ uses: 1 });
	const first = await node.join({ joinUrl: s.url, joinString });
	// As after an answer that was lost: the node knows nothing of it.
	const { joined: _joined, ...forgetful } = node.file;
	const again = await node.join({ joinUrl: s.url, joinString }, { nodeFile: forgetful });
	expect(s.identity.authenticate(first.node_token)).toBeUndefined();
	expect(s.identity.authenticate(again.node_token)).toMatchObject({ node: "node1" });
	expect(s.cluster.documents()).toHaveLength(1);
	const { joined_at } = s.cluster.documents()[0] ?? {};
	expect(joined_at).toBeGreaterThan(0);
});

test("a node that starts with the string it joined by asks nobody, so that its host may be away", async () => {
	await using s = await joinHostStand();
	const node = joiner("node1");
	const joinString = await s.joinString();
	const first = await node.join({ joinUrl: s.url, joinString });
	s.seen.length = 0;
	expect(await node.join({ joinUrl: s.url, joinString })).toEqual(first);
	expect(await node.join({})).toEqual(first);
	expect(s.seen).toEqual([]);
});

test("requests that prove nothing are refused: another key's signature, another kind of key, no request", async () => {
	await using s = await joinHostStand();
	const joinString = await s.joinString();
	const good = (await testRequest("node1")).certificate_request;
	const flipped = good.replace(/(.)(==?\n-|\n-----END)/, (_all, last: string, end: string) => {
		// Padding ignores the lowest bits, so the letter after A would mean the same.
		return `${last === "A" ? "Q" : "A"}${end}`;
	});
	for (const certificate_request of [flipped, "", "x", "-----BEGIN CERTIFICATE REQUEST-----"]) {
		const posted = post(s, joinString, { certificate_request });
		expect(await reasonOf(posted)).toBe("400 bad_certificate_request");
	}
	expect(await reasonOf(post(s, joinString, { node: "../x" }))).toBe("400 bad_node_name");
	expect(await reasonOf(post(s, joinString, { node: "host" }))).toBe("400 bad_node_name");
	expect(await reasonOf(post(s, joinString, { addresses: ["*.lan"] }))).toBe("400 bad_address");
	expect(await reasonOf(post(s, joinString, { protocol_version: 7 }))).toBe("400 protocol_not_supported");
	expect(await reasonOf(post(s, joinString))).toBe("accepted");
});

test("a node of an earlier version gets a certificate for its new key once, by its bearer", async () => {
	await using s = await joinHostStand({ tls: false });
	const { publicKey } = generateKeyPair();
	const input = { node: "node1", publicKey, address: "127.0.0.1", version: "0.1.0" };
	await s.cluster.join({ ...input, protocolVersion: PROTOCOL_VERSION });
	const node_token = await s.identity.createNodeBearer("node1");
	const node = joiner("node1");
	node.file.joined = { host_url: s.url, cluster_id: "c1", node_token, host_public_key: "x" };
	const membership = await node.join({});
	expect(membership.ca_certificate).toBe(s.credentials.caCertificate);
	expect(s.cluster.keyOf("node1")).toBe(node.file.public_key);
	expect(node.file.joined?.certificate).toBe(membership.certificate);
	const other = joiner("node1");
	other.file.joined = { host_url: s.url, cluster_id: "c1", node_token, host_public_key: "x" };
	expect(await reasonOf(other.join({}))).toBe("409 node_key_changed");
});

test("plain TLS to the host shows its certificate for the internal name, to whoever asks", async () => {
	await using s = await joinHostStand();
	const { port } = new URL(s.url);
	const { promise, resolve, reject } = Promise.withResolvers<boolean>();
	const socket = connect(
		{
			host: "127.0.0.1",
			port: Number(port),
			ca: s.credentials.caCertificate,
			servername: "host.gswarm.internal",
		},
		() => resolve(socket.authorized),
	);
	socket.on("error", reject);
	expect(await promise).toBe(true);
	socket.destroy();
});

function expectNothingSecret(seen: readonly string[], joinString: string): void {
	expect(seen.map((it) => it.split(" ").slice(0, 2).join(" "))).toEqual(["GET /cacerts"]);
	const { secret, tokenId } = parseJoinString(joinString);
	for (const it of seen) for (const part of [secret, tokenId, "Bearer"]) expect(it).not.toContain(part);
}
