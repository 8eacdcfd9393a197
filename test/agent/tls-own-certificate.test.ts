import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readOwnCertificate } from "../../src/agent/own-certificate.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { LOOPBACK_CERTIFICATE } from "../support/loopback-certificate.ts";
import { tempDir } from "../support/temp-dir.ts";
import { testAuthority } from "./test-certificates.ts";

const NOW = Date.UTC(2027, 0, 1);
const { cert, key } = LOOPBACK_CERTIFICATE;
const dir = tempDir();
const paths = { certificate: join(dir.path, "cert.pem"), key: join(dir.path, "key.pem") };
let otherKey = "";

beforeAll(async () => {
	otherKey = (await (await testAuthority()).host()).privateKey;
});
afterAll(() => dir[Symbol.dispose]());

function read(
	certificate: string | undefined,
	privateKey: string | undefined,
	mode = 0o600,
	nowMs = NOW,
): string {
	const files = { certificate: `${paths.certificate}.gone`, key: `${paths.key}.gone` };
	if (certificate !== undefined) {
		files.certificate = paths.certificate;
		writeFileSync(files.certificate, certificate);
	}
	if (privateKey !== undefined) {
		files.key = paths.key;
		writeFileSync(files.key, privateKey);
		chmodSync(files.key, mode);
	}
	try {
		const got = readOwnCertificate(files, nowMs);
		return got.certificate === certificate && got.privateKey === privateKey ? "taken" : "changed";
	} catch (error) {
		const { code, reason } = asGswarmError(error);
		return `${code} ${reason}`;
	}
}

test("a certificate with its key is taken as it is, with those above it behind it", () => {
	expect(read(cert, key)).toBe("taken");
	expect(read(cert, key, 0o400)).toBe("taken");
	expect(read(`${cert}\n${cert}`, key)).toBe("taken");
});

test.each([
	["no certificate file", undefined, key, 0o600, "bad_tls_certificate"],
	["no key file", cert, undefined, 0o600, "bad_tls_key"],
	["a certificate that is none", "hello", key, 0o600, "bad_tls_certificate"],
	["a key in the place of the certificate", key, key, 0o600, "bad_tls_certificate"],
	["a key that is none", cert, "hello", 0o600, "bad_tls_key"],
	["a certificate in the place of the key", cert, cert, 0o600, "bad_tls_key"],
	["a key that the group may read", cert, key, 0o640, "unsafe_tls_key"],
	["a key that all may read", cert, key, 0o604, "unsafe_tls_key"],
	["a file without end", cert, `${key}${"\n".repeat(300_000)}`, 0o600, "bad_tls_key"],
])("%s is refused", (_what, certificate, privateKey, mode, reason) => {
	expect(read(certificate, privateKey, mode)).toBe(`INVALID_REQUEST ${reason}`);
});

test("another key, a certificate that has ended, and one that has not begun are refused", () => {
	expect(read(cert, otherKey)).toBe("INVALID_REQUEST tls_key_mismatch");
	expect(read(cert, key, 0o600, Date.UTC(2127, 0, 1))).toBe("INVALID_REQUEST tls_certificate_expired");
	expect(read(cert, key, 0o600, Date.UTC(2020, 0, 1))).toBe("INVALID_REQUEST tls_certificate_not_yet_valid");
});

test("a directory is no certificate", () => {
	const files = { certificate: join(dir.path, "folder"), key: paths.key };
	mkdirSync(files.certificate);
	expect(() => readOwnCertificate(files, NOW)).toThrow(
		expect.objectContaining({ reason: "bad_tls_certificate" }),
	);
});
