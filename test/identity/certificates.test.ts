import { expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import type { Extension } from "@peculiar/x509";
import {
	type Authority,
	belongsTo,
	certificateNames,
	createAuthority,
	createRequest,
	generateKeyPair,
	generateTlsKey,
	isTlsKey,
	issueHost,
	issueNode,
	keyPem,
	keyedServerName,
	nodeServerName,
	pin,
	readCertificate,
	readRequest,
} from "../../src/core/identity/identity.ts";
import { HOST_SERVER_NAME } from "../../src/schema/names.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { systemIds as ids } from "../../src/platform/ids.ts";
import { asGswarmError } from "../../src/schema/errors.ts";

await import("reflect-metadata");
const x509 = await import("@peculiar/x509");

const DAY_MS = 86_400_000;
const NOW_MS = Date.UTC(2026, 10, 23);
const NOTHING = { dns: [], addresses: [] };

const authority = (): Promise<Authority> => createAuthority({ clusterId: "c1", ids, nowMs: NOW_MS });

async function nodeCertificate(ca: Authority, names = NOTHING as Parameters<typeof issueNode>[1]["names"]) {
	const key = generateTlsKey();
	const { publicKey } = await readRequest(await createRequest(keyPem(key.privateKey), "node1"));
	const certificate = await issueNode(ca, { node: "node1", publicKey, names, ids, nowMs: NOW_MS });
	return { key, certificate };
}

async function reasonOf(run: () => unknown): Promise<string> {
	try {
		await run();
	} catch (error) {
		const { status, reason } = asGswarmError(error);
		return `${status} ${reason}`;
	}
	return "accepted";
}

/** A request as somebody else's program might make it. */
async function foreignRequest(algorithm: object, extensions: Extension[] = []): Promise<string> {
	const { subtle } = crypto;
	const generate = subtle.generateKey.bind(subtle) as (...of: unknown[]) => Promise<CryptoKeyPair>;
	const keys = await generate(algorithm, true, ["sign", "verify"]);
	const signingAlgorithm = { ...algorithm, hash: "SHA-256" } as { name: "ECDSA"; hash: "SHA-256" };
	const request = await x509.Pkcs10CertificateRequestGenerator.create({
		name: "CN=host.gswarm.internal",
		keys,
		signingAlgorithm,
		extensions,
	});
	return request.toString("pem");
}

test("the CA signs leafs, for ten years, and nothing below it may be a CA", async () => {
	const ca = await authority();
	const native = new X509Certificate(ca.certificate);
	expect(native.ca).toBe(true);
	expect(native.verify(native.publicKey)).toBe(true);
	const parsed = new x509.X509Certificate(ca.certificate);
	const constraints = parsed.getExtension(x509.BasicConstraintsExtension);
	expect([constraints?.ca, constraints?.pathLength, constraints?.critical]).toEqual([true, 0, true]);
	expect(parsed.getExtension(x509.KeyUsagesExtension)?.usages).toBe(x509.KeyUsageFlags.keyCertSign);
	expect(parsed.notAfter.getTime()).toBe(NOW_MS + 3650 * DAY_MS);
	expect(pin(ca.certificate)).toBe(native.fingerprint256.replaceAll(":", "").toLowerCase());
});

test("a host's certificate is for its internal name, this machine and the names that it has, for 90 days", async () => {
	const ca = await authority();
	const key = generateTlsKey();
	const names = { dns: ["GPU1.lan", "my_box"], addresses: ["10.1.2.3", "fd00::7"] };
	const certificate = await issueHost(ca, { publicKey: key.publicKey, names, ids, nowMs: NOW_MS });
	const facts = await readCertificate(certificate);
	expect(facts.dns).toEqual([HOST_SERVER_NAME, "localhost", "gpu1.lan", "my_box"]);
	expect(facts.addresses).toEqual(["127.0.0.1", "::1", "10.1.2.3", "fd00::7"]);
	expect(facts.publicKey).toBe(key.publicKey);
	expect(facts.notAfterMs).toBe(NOW_MS + 90 * DAY_MS);
	expect(facts.renewAtMs).toBe(NOW_MS + 60 * DAY_MS);
	expect(belongsTo(certificate, { privateKey: keyPem(key.privateKey), ca: ca.certificate })).toBe(true);
});

test("a leaf is for servers only: no CA, digital signature, server authentication, its own serial number", async () => {
	const ca = await authority();
	const made = await Promise.all([nodeCertificate(ca), nodeCertificate(ca)]);
	const serials = new Set<string>();
	for (const { certificate } of made) {
		const leaf = new x509.X509Certificate(certificate);
		serials.add(leaf.serialNumber);
		expect(leaf.serialNumber).toMatch(/^[0-7][0-9a-f]{31,}$/);
		expect(leaf.getExtension(x509.BasicConstraintsExtension)?.ca).toBe(false);
		expect(leaf.getExtension(x509.KeyUsagesExtension)?.usages).toBe(x509.KeyUsageFlags.digitalSignature);
		const usages = leaf.getExtension(x509.ExtendedKeyUsageExtension)?.usages;
		expect(usages).toEqual([x509.ExtendedKeyUsage.serverAuth]);
	}
	expect(serials.size).toBe(2);
});

test("a node's certificate is for 30 days and due after 20, and begins early for clocks that are behind", async () => {
	const { certificate } = await nodeCertificate(await authority());
	const facts = await readCertificate(certificate);
	expect(facts.dns).toEqual([
		nodeServerName("node1"),
		keyedServerName("node1", facts.publicKey),
		"localhost",
	]);
	expect(facts.notAfterMs).toBe(NOW_MS + 30 * DAY_MS);
	expect(facts.renewAtMs).toBe(NOW_MS + 20 * DAY_MS);
	expect(facts.notBeforeMs).toBe(NOW_MS - DAY_MS);
});

test("the server name of a node is one label for any name, and its own", () => {
	const names = ["node1", "Node1", "a".repeat(63), "a.b_c-d", "host"].map(nodeServerName);
	expect(new Set(names).size).toBe(names.length);
	for (const name of names) expect(name).toMatch(/^n-[0-9a-f]{32}\.node\.gswarm\.internal$/);
});

test("what a request asks for is not in the certificate: neither its name nor a CA's powers", async () => {
	const ca = await authority();
	const request = await foreignRequest({ name: "ECDSA", namedCurve: "P-256" }, [
		new x509.BasicConstraintsExtension(true, undefined, true),
		new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
		new x509.SubjectAlternativeNameExtension([{ type: "dns", value: HOST_SERVER_NAME }]),
	]);
	const { publicKey } = await readRequest(request);
	const certificate = await issueNode(ca, { node: "node1", publicKey, names: NOTHING, ids, nowMs: NOW_MS });
	const leaf = new X509Certificate(certificate);
	expect(leaf.ca).toBe(false);
	expect(leaf.checkHost(HOST_SERVER_NAME)).toBeUndefined();
	expect(leaf.subject).toBe(`CN=${nodeServerName("node1")}`);
	const { dns } = await readCertificate(certificate);
	expect(dns).toEqual([nodeServerName("node1"), keyedServerName("node1", publicKey), "localhost"]);
});

test("a request that its key did not sign is refused: flipped bits, another key put in", async () => {
	const key = generateTlsKey();
	const request = await createRequest(keyPem(key.privateKey), "node1");
	const der = Buffer.from(request.replaceAll(/-----.*-----|\s/g, ""), "base64");
	const pem = (bytes: Buffer) =>
		`-----BEGIN CERTIFICATE REQUEST-----\n${bytes.toString("base64")}\n-----END CERTIFICATE REQUEST-----`;
	expect(await reasonOf(() => readRequest(pem(der)))).toBe("accepted");
	const flipped = Buffer.from(der);
	flipped[der.length - 3] = (der.at(-3) ?? 0) ^ 1;
	expect(await reasonOf(() => readRequest(pem(flipped)))).toBe("400 bad_certificate_request");
	const own = Buffer.from(key.publicKey, "base64");
	const other = Buffer.from(generateTlsKey().publicKey, "base64");
	const at = der.indexOf(own);
	expect(at).toBeGreaterThan(0);
	const swapped = Buffer.concat([der.subarray(0, at), other, der.subarray(at + own.length)]);
	expect(await reasonOf(() => readRequest(pem(swapped)))).toBe("400 bad_certificate_request");
});

const P384 = { name: "ECDSA", namedCurve: "P-384" };
const RSA = {
	name: "RSASSA-PKCS1-v1_5",
	modulusLength: 2048,
	publicExponent: new Uint8Array([1, 0, 1]),
	hash: "SHA-256",
};
for (const [what, algorithm] of [
	["P-384", P384],
	["RSA", RSA],
	["Ed25519", { name: "Ed25519" }],
] as const) {
	test(`a request for a key of ${what} is refused`, async () => {
		const request = await foreignRequest(algorithm);
		expect(await reasonOf(() => readRequest(request))).toBe("400 bad_certificate_request");
	});
}

test("what is no request is refused: nothing, noise, two of them, a certificate, too much", async () => {
	const request = await createRequest(keyPem(generateTlsKey().privateKey), "node1");
	const ca = await authority();
	const noise = `-----BEGIN CERTIFICATE REQUEST-----\n${Buffer.alloc(300, 7).toString("base64")}\n-----END CERTIFICATE REQUEST-----`;
	const texts = [
		"",
		"x",
		noise,
		`${request}${request}`,
		`${ca.certificate}${request}`,
		ca.certificate,
		`${request}${" ".repeat(9000)}`,
	];
	for (const text of texts) {
		expect(await reasonOf(() => readRequest(text))).toBe("400 bad_certificate_request");
	}
});

test("a text of two certificates has no pin: what was checked is what is used", async () => {
	const [one, other] = [await authority(), await authority()];
	expect(await reasonOf(() => pin(`${one.certificate}${other.certificate}`))).toBe("400 bad_certificate");
	expect(pin(one.certificate)).not.toBe(pin(other.certificate));
});

test("names that a certificate must not hold are refused", async () => {
	const bad = [
		"*.lan",
		"*",
		"a b",
		"http://x",
		"x:8000",
		"300.1.2.3",
		"2130706433",
		"fe80::1%eth0",
		"",
		".",
		"a..b",
		"-a",
		"x\u0000y",
		HOST_SERVER_NAME,
		"HOST.gswarm.internal",
		"gswarm.internal",
		nodeServerName("node2"),
	];
	for (const text of bad)
		expect([text, await reasonOf(() => certificateNames([text]))]).toEqual([text, "400 bad_address"]);
	expect(certificateNames(["gpu1", "GPU1", "[::1]", "0:0::1", "10.0.0.1"])).toEqual({
		dns: ["gpu1"],
		addresses: ["::1", "10.0.0.1"],
	});
	const ca = await authority();
	const many = { dns: Array.from({ length: 65 }, (_, i) => `n${i}.lan`), addresses: [] };
	expect(await reasonOf(() => nodeCertificate(ca, many))).toBe("400 too_many_names");
});

test("a certificate belongs to its own key and CA and to no other", async () => {
	const [ca, other] = [await authority(), await authority()];
	const { key, certificate } = await nodeCertificate(ca);
	const privateKey = keyPem(key.privateKey);
	expect(belongsTo(certificate, { privateKey, ca: ca.certificate })).toBe(true);
	expect(belongsTo(certificate, { privateKey, ca: other.certificate })).toBe(false);
	const stranger = keyPem(generateTlsKey().privateKey);
	expect(belongsTo(certificate, { privateKey: stranger, ca: ca.certificate })).toBe(false);
	expect(belongsTo("nothing", { privateKey, ca: ca.certificate })).toBe(false);
});

test("a CA made again from its key vouches for what it signed before", async () => {
	const ca = await authority();
	const { key, certificate } = await nodeCertificate(ca);
	const again = await createAuthority({ clusterId: "c1", ids, nowMs: NOW_MS, privateKey: ca.privateKey });
	expect(pin(again.certificate)).not.toBe(pin(ca.certificate));
	expect(belongsTo(certificate, { privateKey: keyPem(key.privateKey), ca: again.certificate })).toBe(true);
});

test("a TLS key is told from the keys of earlier versions", () => {
	expect([isTlsKey(generateTlsKey().publicKey), isTlsKey(generateKeyPair().publicKey), isTlsKey("")]).toEqual(
		[true, false, false],
	);
});

test("whoever wants a node's name meets nobody else: not the host, not another node, not another cluster", async () => {
	// By the clock of the machine, as the connection will be.
	const nowMs = systemClock.nowMs();
	const [now, then] = [
		await createAuthority({ clusterId: "c1", ids, nowMs }),
		await createAuthority({ clusterId: "c2", ids, nowMs }),
	];
	const key = generateTlsKey();
	const issue = { publicKey: key.publicKey, names: NOTHING, ids, nowMs };
	const certificate = await issueNode(now, { ...issue, node: "node1" });
	using server = Bun.serve({
		port: 0,
		hostname: "127.0.0.1",
		tls: { cert: certificate, key: keyPem(key.privateKey) },
		fetch: () => new Response("here"),
	});
	const meet = async (ca: string, serverName: string): Promise<string> => {
		try {
			const tls = { ca, serverName, rejectUnauthorized: true } as Bun.TLSOptions;
			return await (await fetch(`https://127.0.0.1:${server.port}`, { tls })).text();
		} catch (error) {
			return String((error as { code?: string }).code);
		}
	};
	expect(await meet(now.certificate, nodeServerName("node1"))).toBe("here");
	expect(await meet(now.certificate, nodeServerName("node2"))).toBe("ERR_TLS_CERT_ALTNAME_INVALID");
	expect(await meet(now.certificate, HOST_SERVER_NAME)).toBe("ERR_TLS_CERT_ALTNAME_INVALID");
	expect(await meet(then.certificate, nodeServerName("node1"))).toMatch(/CERT|SIGNATURE|ISSUER/);
});
