import { expect, test } from "bun:test";
import { formatToken, makeToken } from "../../src/core/identity/identity.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { MAX_LOGGED_CHARACTERS } from "../../src/platform/limits.ts";
import { createLog } from "../../src/platform/log.ts";
import { FakeClock } from "../support/fake-clock.ts";

test("values under a secret's name never reach a line, at whatever depth", () => {
	const lines: string[] = [];
	const log = createLog(
		{ clock: new FakeClock(), write: (line) => lines.push(line) },
		{ level: "debug", fields: { node_token: "canary" } },
	);
	log.debug("one", { Authorization: "Bearer canary", request: { headers: [{ cookie: "canary" }] } });
	log.with({ hub_secret: "canary" }).error("two", { "x-api_key": "canary", password: "canary" });
	expect(lines.join("")).not.toContain("canary");
	expect(lines.map((line) => (JSON.parse(line) as { event: string }).event)).toEqual(["one", "two"]);
});

/** Lines of a log that took these fields. */
function logged(fields: Record<string, unknown>): string {
	const lines: string[] = [];
	createLog({ clock: new FakeClock(), write: (line) => lines.push(line) }).info("it", fields);
	return lines.join("");
}

test("secrets are taken out by their shape, whatever they are called and wherever they stand", () => {
	const token = formatToken(makeToken(systemIds, "admin"));
	const texts = [token, `cannot use ${token}: no`, `https://host/x?a=1&t=${token}`, `\n${token}\n`];
	for (const text of texts) {
		const cause = new Error(text, { cause: new TypeError(text) });
		const line = logged({ path: text, deep: [{ list: [text] }], error: cause, [`key ${text}`]: 1 });
		expect(line).not.toContain(token.slice(-20));
		// Which token it was can still be told.
		expect(line).toContain(token.slice(0, 19));
		expect(JSON.parse(line)).toBeObject();
	}
});

test("a secret's name hides whatever stands under it, but not numbers", () => {
	const line = logged({
		headers: { authorization: ["canary"], cookie: { a: "canary" } },
		tokens: 7,
		token_id: "ab12",
	});
	expect(line).not.toContain("canary");
	expect(JSON.parse(line)).toMatchObject({ tokens: 7, token_id: "ab12" });
});

test("what a terminal would act on is written as an escape, and the line stays JSON", () => {
	const text = "a\u001b[2Jb\u009b2Jc\u202ed\u2028e\u0007f\ufeffg\u{e0041}h\ud800i\r\nj\u007fk\u0085";
	const line = logged({ host: text });
	expect(line.slice(0, -1)).toMatch(/^[\x20-\x7e]*$/);
	expect(line).toEndWith("}\n");
	expect((JSON.parse(line) as { host: string }).host).toBe(text);
});

test("a text of a line is bounded", () => {
	expect(logged({ path: "x".repeat(1_000_000) }).length).toBeLessThan(MAX_LOGGED_CHARACTERS + 200);
});
