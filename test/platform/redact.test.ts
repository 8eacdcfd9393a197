import { expect, test } from "bun:test";
import { isSecretName, redactSecrets } from "../../src/platform/redact.ts";

const S32 = "0123456789abcdefABCDEF0123456789";

test.each([
	[`gsw_user_ab12cd34_${S32}_A1b2C3`, "gsw_user_ab12cd34_[redacted]"],
	[`gsw_admin_ab12cd34_${S32}`, "gsw_admin_ab12cd34_[redacted]"],
	["gsw_node_ab12cd34_01234", "gsw_node_ab12cd34_[redacted]"],
	[`(gsw_join_ab12cd34_${S32}_A1b2C3)`, "(gsw_join_ab12cd34_[redacted])"],
	["gswh.eyJhIjoxfQ.c2ln-_x", "gswh.[redacted]"],
	[`GSW10${"ab".repeat(32)}::ab12cd34.${S32}`, `GSW10${"ab".repeat(32)}::ab12cd34.[redacted]`],
	[`GSW10::ab12cd34.${S32}`, "GSW10::ab12cd34.[redacted]"],
	[`{"secret":"ab12cd34.${S32}"}`, '{"secret":"ab12cd34.[redacted]"}'],
	["hf_abcdefghijABCDEFGHIJ0123456789abcd", "hf_[redacted]"],
	["sk-proj-0123456789abcdefghij", "sk-[redacted]"],
	["Authorization: Bearer abc.def-ghi", "Authorization: Bearer [redacted]"],
	["authorization: basic dXNlcjpwdw==", "authorization: basic [redacted]"],
	["GET /x?token=abc&page=2", "GET /x?token=[redacted]&page=2"],
	["/x?page=2&access_token=a%20b#c", "/x?page=2&access_token=[redacted]#c"],
	["https://s3/b?X-Amz-Signature=00ff&X-Amz-Date=1", "https://s3/b?X-Amz-Signature=[redacted]&X-Amz-Date=1"],
	["https://me:pass@mirror/x", "https://[redacted]@mirror/x"],
	["https://:pass@mirror/x", "https://[redacted]@mirror/x"],
	[
		"-----BEGIN EC PRIVATE KEY-----\nabc\n-----END EC PRIVATE KEY-----",
		"-----BEGIN EC PRIVATE KEY-----[redacted]-----END EC PRIVATE KEY-----",
	],
])("%s is written %s", (text, written) => {
	expect(redactSecrets(text)).toBe(written);
	// Twice is as good as once, and JSON stays JSON.
	expect(redactSecrets(written)).toBe(written);
	expect(JSON.parse(redactSecrets(JSON.stringify({ a: text, b: [text] })))).toBeObject();
});

test.each([
	"acme/tiny is on node1:disk",
	"https://huggingface.co/acme/tiny/resolve/main/model.safetensors?download=true",
	"sha256 3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	"http://[::1]:8000/api/v1/models?page=2",
	"copy-tiny-4k2j1h09 failed: 5 of 7 tokens",
	"the bearer is missing",
	"mailto: me@example.org at 10:30",
	"http://a:8000/x, then you@b",
])("%s stays as it is", (text) => {
	expect(redactSecrets(text)).toBe(text);
});

test("a long text takes its length, whatever it holds", () => {
	for (const unit of [
		"&token",
		"gsw_user_",
		"://a:",
		"Bearer ",
		"hf_",
		"-----BEGIN PRIVATE KEY-----",
		"a",
		"gswh.",
		"?key=",
	]) {
		const text = unit.repeat(Math.ceil(200_000 / unit.length));
		const started = performance.now();
		redactSecrets(text);
		expect(performance.now() - started).toBeLessThan(2_000);
	}
});

test("names of secrets are known, and names of what identifies them are none", () => {
	for (const name of [
		"Authorization",
		"node_token",
		"accessToken",
		"client_secret",
		"password",
		"Set-Cookie",
		"api_key",
		"apikey",
		"privateKey",
	])
		expect([name, isSecretName(name)]).toEqual([name, true]);
	for (const name of ["token_id", "token_name", "secret_name", "key", "path", "author"])
		expect([name, isSecretName(name)]).toEqual([name, false]);
});
