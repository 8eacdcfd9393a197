/** One request of the largest size that is read: its answer is short, and nobody waits for it. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { redactSecrets } from "../../src/platform/redact.ts";
import { type TestApp, testApp } from "../agent/test-app.ts";

setDefaultTimeout(60_000);

const LARGEST = 1_000_000;
const MAX_ANSWER = 20_000;
const MAX_MS = 1000;
/** What regular expressions like least: beginnings of what they look for, again and again. */
const PIECES = [
	"x",
	"0",
	"a.",
	"../",
	"%2e",
	"http://",
	"://a:b",
	"://a:b@",
	"?a",
	"&token=",
	"?x-amz-signature",
	"Bearer ",
	"Bearer aaaaaa",
	"gsw_user_",
	"gsw_user_k3v9x2ma_",
	"gswh.a.",
	"GSW10::k3v9x2ma.",
	"k3v9x2ma.",
	"hf_",
	"sk-",
	"AKIA",
	"-----BEGIN PRIVATE KEY-----",
	"-----BEGIN ",
	"\u001b]",
	"\u0090",
	"\ud83d\ude00",
	"e\u0301",
	"\\",
	'"',
];
const largest = (piece: string): string => piece.repeat(Math.floor(LARGEST / (3 * piece.length)));

let t: TestApp;
beforeAll(async () => {
	t = await testApp("host");
});
afterAll(() => t[Symbol.asyncDispose]());

async function expectShort(what: string, ask: () => Promise<Response>): Promise<void> {
	const startedMs = performance.now();
	const answer = await ask();
	const { length } = await answer.text();
	const ms = performance.now() - startedMs;
	// What is accepted comes back from the handler of this test.
	const isShort = answer.ok || length < MAX_ANSWER;
	expect([what, answer.status < 500, isShort, ms < MAX_MS]).toEqual([what, true, true, true]);
}

test("a key, a value, a name and an address of any text are answered shortly and soon", async () => {
	for (const piece of PIECES) {
		const text = largest(piece);
		const post = (
			body: unknown,
			path = "/api/v1/models",
			as: "admin" | undefined = "admin",
		): Promise<Response> => t.ask("POST", path, { as, body });
		await expectShort(`the key ${piece}`, () => post({ model_name: "a", [text]: 1 }));
		await expectShort(`the name ${piece}`, () => post({ model_name: text }));
		await expectShort(`metadata ${piece}`, () => post({ model_name: "a", metadata: { [text]: text } }));
		await expectShort(`the source ${piece}`, () => post({ model_name: "a", source_url: text }));
		await expectShort(`many keys ${piece}`, () =>
			post({
				model_name: "a",
				metadata: Object.fromEntries(Array.from({ length: 1000 }, (_, at) => [`${piece}${at}`, 1])),
			}),
		);
		const short = encodeURIComponent(text.slice(0, 2000).toWellFormed());
		await expectShort(`the path ${piece}`, () => t.ask("GET", `/api/v1/models/${short}`));
		await expectShort(`the query ${piece}`, () => t.ask("GET", `/api/v1/models?${short}=${short}`));
		await expectShort(`a join by ${piece}`, () =>
			post({ node: text.slice(0, 20_000), [text.slice(0, 20_000)]: 1 }, "/api/v1/join", undefined),
		);
	}
});

test("secrets are taken out of the longest text in a moment", () => {
	for (const piece of PIECES) {
		const text = largest(piece).repeat(9);
		const startedMs = performance.now();
		redactSecrets(text);
		expect([piece, performance.now() - startedMs < MAX_MS]).toEqual([piece, true]);
	}
});
