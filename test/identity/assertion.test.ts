import { expect, test } from "bun:test";
import { createPrivateKey, sign } from "node:crypto";
import fc from "fast-check";
import {
	ASSERTION_TTL_MS,
	generateKeyPair,
	signAssertion,
	verifyAssertion,
} from "../../src/core/identity/assertion.ts";

const NOW = Date.UTC(2026, 0, 1);
const host = generateKeyPair();

test("an assertion is good for the node it names, from now until 60 s later", () => {
	const text = signAssertion(host.privateKey, "node1", NOW);
	const at = (ms: number): boolean => verifyAssertion(text, host.publicKey, "node1", NOW + ms);
	expect(at(0)).toBe(true);
	expect(at(ASSERTION_TTL_MS - 1)).toBe(true);
	expect(at(ASSERTION_TTL_MS)).toBe(false);
});

test("a node that estimates the host's clock up to a minute too early accepts it, and not more", () => {
	const text = signAssertion(host.privateKey, "node1", NOW);
	expect(verifyAssertion(text, host.publicKey, "node1", NOW - ASSERTION_TTL_MS)).toBe(true);
	expect(verifyAssertion(text, host.publicKey, "node1", NOW - ASSERTION_TTL_MS - 1)).toBe(false);
});

test("another node, another host and another key refuse it", () => {
	const text = signAssertion(host.privateKey, "node1", NOW);
	expect(verifyAssertion(text, host.publicKey, "node2", NOW)).toBe(false);
	expect(verifyAssertion(text, host.publicKey, "node1x", NOW)).toBe(false);
	expect(verifyAssertion(text, generateKeyPair().publicKey, "node1", NOW)).toBe(false);
});

test("any changed character makes it worthless", () => {
	const text = signAssertion(host.privateKey, "node1", NOW);
	// The last character of the signature carries bits that base64 does not use.
	fc.assert(
		fc.property(fc.nat(text.length - 2), fc.constantFrom("A", "b", "7", "_", ".", "="), (at, letter) => {
			const changed = text.slice(0, at) + letter + text.slice(at + 1);
			fc.pre(changed !== text);
			expect(verifyAssertion(changed, host.publicKey, "node1", NOW)).toBe(false);
		}),
	);
});

test("a payload written by somebody else is refused although its form is right", () => {
	const [prefix, , signature] = signAssertion(host.privateKey, "node1", NOW).split(".");
	const payload = Buffer.from(JSON.stringify({ audience: "node1", expires_at_ms: NOW + 1000 }));
	const forged = `${prefix}.${payload.toString("base64url")}.${signature}`;
	expect(verifyAssertion(forged, host.publicKey, "node1", NOW)).toBe(false);
});

test("what is no assertion at all is refused, whatever it is", () => {
	for (const text of ["", "gswh", "gswh.", "gswh..", "gswh.e30.", "gswh.a.b.c", "gsw_admin_x", "gswh.%.%"]) {
		expect([text, verifyAssertion(text, host.publicKey, "node1", NOW)]).toEqual([text, false]);
	}
	fc.assert(
		fc.property(fc.string(), (text) => {
			expect(verifyAssertion(`gswh.${text}`, host.publicKey, "node1", NOW)).toBe(false);
		}),
	);
	const good = signAssertion(host.privateKey, "node1", NOW);
	for (const key of ["", "AAAA", "not base64!"]) expect(verifyAssertion(good, key, "node1", NOW)).toBe(false);
});

test("what the host signed without being an assertion is none", () => {
	const forever = { audience: "node1" };
	const unsafe = { audience: "node1", expires_at_ms: NOW + 24 * 3_600_000 };
	for (const payload of [forever, unsafe, [], "text", null]) {
		expect([payload, verifyAssertion(signed(payload), host.publicKey, "node1", NOW)]).toEqual([
			payload,
			false,
		]);
	}
});

function signed(payload: unknown): string {
	const text = Buffer.from(JSON.stringify(payload)).toString("base64url");
	const key = createPrivateKey({ key: Buffer.from(host.privateKey, "base64"), format: "der", type: "pkcs8" });
	return `gswh.${text}.${sign(null, Buffer.from(text), key).toString("base64url")}`;
}
