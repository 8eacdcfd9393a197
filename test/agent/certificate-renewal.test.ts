import { expect, test } from "bun:test";
import { nodeCredentials } from "../../src/agent/credentials.ts";
import {
	belongsTo,
	createRequest,
	generateTlsKey,
	keyPem,
	keyedServerName,
	nodeServerName,
	readCertificate,
} from "../../src/core/identity/identity.ts";
import { createLog } from "../../src/platform/log.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { testCredentials } from "../support/credentials.ts";
import { clientOf, joinHostStand, joiner, reasonOf } from "./join-stand.ts";

const DAY_MS = 86_400_000;

test("a certificate is renewed for the same key with the bearer alone; another key is refused", async () => {
	await using s = await joinHostStand();
	const node = joiner("node1");
	const { node_token } = await node.join({ joinUrl: s.url, joinString: await s.joinString() });
	const renew = async (key: string, token: string | undefined) =>
		clientOf(s, token).call("renewCertificate", {
			body: { certificate_request: await createRequest(keyPem(key), "host") },
		});
	const answer = await renew(node.file.private_key, node_token);
	const facts = await readCertificate(answer.certificate);
	expect(facts.dns).toEqual([
		nodeServerName("node1"),
		keyedServerName("node1", node.file.public_key),
		"localhost",
	]);
	expect(answer.ca_certificate).toBe(s.credentials.caCertificate);
	const stranger = generateTlsKey().privateKey;
	expect(await reasonOf(renew(stranger, node_token))).toBe("409 node_key_changed");
	expect(await reasonOf(renew(node.file.private_key, undefined))).toBe("401 no_valid_token");
});

test("a node's certificate is kept while it is good, and asked for again when it is due or names are missing", async () => {
	const clock = new FakeClock(Date.now());
	const host = await testCredentials(clock);
	const key = generateTlsKey();
	const asked: string[][] = [];
	const kept: string[] = [];
	let away = false;
	const make = (certificate: string | undefined) =>
		nodeCredentials({
			clock,
			log: silent(clock),
			node: "node1",
			privateKey: key.privateKey,
			caCertificate: host.caCertificate,
			certificate,
			async renew(request, addresses) {
				asked.push([...addresses]);
				if (away) throw new Error("the host is away");
				return host.issue(request, { node: "node1", addresses: addresses.filter((it) => it !== "10.0.0.9") });
			},
			keep: (text) => void kept.push(text),
		});
	const credentials = make(undefined);
	const names = { dns: ["gpu1"], addresses: ["10.0.0.9"] };
	const first = await credentials.serverIdentity(names);
	// What the host does not vouch for is asked for once.
	expect(await credentials.serverIdentity(names)).toEqual(first);
	expect([asked, kept]).toEqual([[["gpu1", "10.0.0.9"]], [first.certificate]]);
	expect(Math.round(credentials.renewInMs() / DAY_MS)).toBe(20);
	await clock.advance(19 * DAY_MS);
	expect(await credentials.serverIdentity(names)).toEqual(first);
	await clock.advance(2 * DAY_MS);
	expect(credentials.renewInMs()).toBe(0);
	away = true;
	expect(await credentials.serverIdentity(names)).toEqual(first);
	expect(credentials.renewInMs()).toBe(60_000);
	away = false;
	const second = await credentials.serverIdentity(names);
	expect(second.certificate).not.toBe(first.certificate);
	expect(second.privateKey).toBe(first.privateKey);
	// A restart with what was kept asks for nothing, but for names that are missing.
	asked.length = 0;
	const again = make(second.certificate);
	expect(await again.serverIdentity({ dns: ["gpu1"], addresses: [] })).toEqual(second);
	expect(asked).toEqual([]);
	await again.serverIdentity({ dns: ["gpu2"], addresses: [] });
	expect(asked).toEqual([["gpu2"]]);
});

test("a certificate of another cluster or another key is never shown, wherever it came from", async () => {
	const clock = new FakeClock(Date.now());
	const [host, other] = [await testCredentials(clock), await testCredentials(clock)];
	const key = generateTlsKey();
	const credentials = nodeCredentials({
		clock,
		log: silent(clock),
		node: "node1",
		privateKey: key.privateKey,
		caCertificate: host.caCertificate,
		certificate: undefined,
		renew: (request) => other.issue(request, { node: "node1", addresses: [] }),
		keep: () => undefined,
	});
	expect(await reasonOf(credentials.serverIdentity({ dns: [], addresses: [] }))).toBe(
		"401 certificate_not_ours",
	);
});

test("the host's certificate is made again when it is due, when names are new, or when its key is another", async () => {
	const clock = new FakeClock(Date.now());
	const kept = new Map<string, string>();
	const pems = {
		readPem: (name: string) => kept.get(name),
		writePem: (name: string, text: string) => void kept.set(name, text),
	};
	const first = await testCredentials(clock, pems);
	const names = { dns: ["h1.lan", "not a name"], addresses: ["10.0.0.1"] };
	const one = await first.serverIdentity(names);
	expect((await readCertificate(one.certificate)).dns).toContain("h1.lan");
	const restarted = await testCredentials(clock, pems);
	expect([restarted.pin, await restarted.serverIdentity(names)]).toEqual([first.pin, one]);
	const two = await restarted.serverIdentity({ ...names, dns: ["h2.lan"] });
	expect(two.certificate).not.toBe(one.certificate);
	expect(two.privateKey).toBe(one.privateKey);
	await clock.advance(61 * DAY_MS);
	const three = await restarted.serverIdentity({ ...names, dns: ["h2.lan"] });
	expect(three.certificate).not.toBe(two.certificate);
	kept.delete("host.key");
	const four = await (await testCredentials(clock, pems)).serverIdentity({ ...names, dns: ["h2.lan"] });
	const own = { privateKey: four.privateKey, ca: first.caCertificate };
	expect([four.privateKey === one.privateKey, belongsTo(four.certificate, own)]).toEqual([false, true]);
	// The CA's certificate is lost, its key is not: what it signed stays good.
	kept.set("ca.pem", (await testCredentials(clock)).caCertificate);
	const five = await testCredentials(clock, pems);
	expect(belongsTo(four.certificate, { ...own, ca: five.caCertificate })).toBe(true);
	expect(kept.get("ca.pem")).toBe(five.caCertificate);
});

const silent = (clock: FakeClock) => createLog({ clock, write: () => undefined });
