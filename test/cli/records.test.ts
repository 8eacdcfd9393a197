import { describe, expect, test } from "bun:test";
import type { AuditEntry } from "../../src/schema/audit.ts";
import { notFound } from "../../src/schema/errors.ts";
import { fakeAgent } from "./support/fake-agent.ts";
import { NOW_MS, run } from "./support/fake-world.ts";

const CANARY = "hf_canary_4711";
const NOW_S = NOW_MS / 1000;
const ENTRY: AuditEntry = {
	seq: 7,
	at: NOW_S - 60,
	actor: { id: "k3v9x2ma", name: "ann", role: "operator" },
	action: "deleteModel",
	target: { model_name: "acme/tiny", force: "true" },
	status: 202,
	reason: null,
	address: "10.0.0.7",
	listener: "host",
	request_id: "req-1",
};
const STRANGER: AuditEntry = {
	...ENTRY,
	seq: 6,
	actor: { id: null, name: null, role: null },
	action: "unknown",
	target: {},
	status: 401,
	reason: "no_valid_token",
};
const SECRET = { name: "hf", origins: ["https://huggingface.co"], set_at: NOW_S - 7200, set_by: "ann" };

describe("gswarm audit", () => {
	const page = (entries: AuditEntry[], more: object = {}) => ({
		entries,
		next_cursor: null,
		lost: 0,
		...more,
	});

	test("shows who did what to which thing, and who was refused", async () => {
		const agent = fakeAgent({ listAudit: page([ENTRY, STRANGER]) });
		const { code, stdout, stderr } = await run(["audit"], { agent });
		expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
		const [head, first, second] = stdout.split("\n");
		expect(head).toMatch(/WHEN +WHO +ACTION +TARGET +RESULT/);
		expect(first).toMatch(/ann +deleteModel +acme\/tiny force=true +202$/);
		expect(second).toMatch(/\? 10\.0\.0\.7 +unknown +- +401 no_valid_token$/);
		expect(agent.only("listAudit").query).toEqual({ limit: "50" });
	});

	test("-o wide has address, role, listener and request", async () => {
		const { stdout } = await run(["audit", "-o", "wide"], { agent: fakeAgent({ listAudit: page([ENTRY]) }) });
		expect(stdout).toMatch(/10\.0\.0\.7 +operator +host +req-1/);
	});

	test("filters go to the agent, and the next page is one command away", async () => {
		const agent = fakeAgent({ listAudit: page([ENTRY], { next_cursor: "abc" }) });
		const line = "audit --since 1h --actor ann --action deleteModel --limit 5 --cursor xyz";
		const { stderr } = await run(line.split(" "), { agent });
		expect(agent.only("listAudit").query).toEqual({
			limit: "5",
			since: String(NOW_S - 3600),
			actor: "ann",
			action: "deleteModel",
			cursor: "xyz",
		});
		expect(stderr).toContain("gswarm audit --cursor abc");
	});

	test("--json is the answer as it came", async () => {
		const body = page([ENTRY], { field_of_later: 1 });
		const { stdout, stderr } = await run(["audit", "--json"], { agent: fakeAgent({ listAudit: body }) });
		expect(JSON.parse(stdout)).toEqual(body);
		expect(stderr).toBe("");
	});

	test("lost entries are told of, an empty log says so", async () => {
		const agent = fakeAgent({ listAudit: page([], { lost: 3 }) });
		const { stderr, stdout } = await run(["audit", "--actor", "bob"], { agent });
		expect(stdout).toBe("");
		expect(stderr).toContain("3 entries could not be written");
		expect(stderr).toContain("No entry fits.");
	});

	test("nothing of an entry reaches the terminal as a control sequence", async () => {
		const evil = "\u001b]0;pwned\u0007\u001b[31mred\u009b2J\u202e";
		const entry: AuditEntry = {
			...ENTRY,
			actor: { id: evil, name: evil, role: evil },
			action: evil,
			target: { model_name: evil },
			reason: evil,
			address: evil,
			listener: evil,
			request_id: evil,
		};
		for (const form of ["table", "wide", "json", "yaml"]) {
			const agent = fakeAgent({ listAudit: page([entry, { ...STRANGER, address: evil }]) });
			const { stdout } = await run(["audit", "-o", form], { agent });
			// oxlint-disable-next-line no-control-regex -- they are what must not be there
			expect([form, stdout.search(/[\u001b\u0007\u007f-\u009f\u202e]/)]).toEqual([form, -1]);
		}
	});
});

describe("gswarm secret", () => {
	test("set takes the value from a pipe, and says where it is sent", async () => {
		const agent = fakeAgent({ setSecret: SECRET });
		const { code, stdout, stderr } = await run(["secret", "set", "hf", "--debug"], {
			agent,
			input: `${CANARY}\n`,
		});
		expect(code).toBe(0);
		expect(agent.only("setSecret")).toMatchObject({ params: { secret_name: "hf" }, body: { value: CANARY } });
		expect(stderr).toContain("https://huggingface.co alone");
		expect(stdout + stderr).not.toContain(CANARY);
	});

	test("set asks at a terminal, with all origins that were given", async () => {
		const agent = fakeAgent({ setSecret: SECRET });
		const line = "secret set lab --origin https://a.example --origin https://b.example:8443";
		const { stderr, stdout } = await run(line.split(" "), {
			agent,
			input: CANARY,
			stdinIsTty: true,
			columns: 80,
		});
		expect(stderr).toContain("Value of lab (not shown): ");
		expect(stdout + stderr).not.toContain(CANARY);
		expect(agent.only("setSecret").body).toEqual({
			value: CANARY,
			origins: ["https://a.example", "https://b.example:8443"],
		});
	});

	test.each([
		["secret set hf hf_canary_4711", "x", "never from the command line"],
		["secret set", "x", "NAME is missing"],
		["secret set ../x", "x", "is no name of a secret"],
		["secret set lab --origin http://10.0.0.1", "x", "not sent over plain http"],
		["secret set lab --origin ftp://x", "x", "is not an origin"],
		["secret set hf", undefined, "nothing was given"],
		["secret set hf", "  \n", "nothing was given"],
		["secret set hf", "two words", "holds a space"],
		["secret set hf", "a\u001bb", "holds a space or another"],
		["secret set hf", "x".repeat(4097), "longer than 4096"],
	])("%s with %j is exit 2: %s", async (line, input, message) => {
		const agent = fakeAgent({ setSecret: SECRET });
		const options = input === undefined ? { agent } : { agent, input };
		const { code, stderr } = await run(line.split(" "), options);
		expect(code).toBe(2);
		expect(stderr).toContain(message);
		expect(agent.seen).toEqual([]);
	});

	test("--no-input at a terminal is an error, not a question", async () => {
		const agent = fakeAgent({ setSecret: SECRET });
		const { code } = await run(["secret", "set", "hf", "--no-input"], {
			agent,
			stdinIsTty: true,
			input: CANARY,
		});
		expect(code).toBe(2);
		expect(agent.seen).toEqual([]);
	});

	test("list shows names, origins, when and by whom; -o name the names alone", async () => {
		const agent = () => fakeAgent({ listSecrets: { secrets: [SECRET], total: 1 } });
		const { stdout } = await run(["secret", "list"], { agent: agent() });
		expect(stdout).toMatch(/hf +https:\/\/huggingface\.co +2 h ago +ann/);
		expect((await run(["secret", "list", "-o", "name"], { agent: agent() })).stdout).toBe("hf\n");
		const none = await run(["secret", "list"], {
			agent: fakeAgent({ listSecrets: { secrets: [], total: 0 } }),
		});
		expect(none.stderr).toContain("No secret is stored.");
	});

	test("remove asks first, and says when there is none", async () => {
		const agent = fakeAgent({ removeSecret: SECRET });
		expect((await run(["secret", "remove", "hf", "--yes"], { agent })).code).toBe(0);
		expect(agent.only("removeSecret").params).toEqual({ secret_name: "hf" });
		const missing = fakeAgent({
			removeSecret: () => {
				throw notFound("secret", "hf");
			},
		});
		expect((await run(["secret", "remove", "hf", "--yes"], { agent: missing })).code).toBe(3);
		const asked = fakeAgent({ removeSecret: SECRET });
		const no = await run(["secret", "remove", "hf"], {
			agent: asked,
			stdinIsTty: true,
			columns: 80,
			input: "n",
		});
		expect({ code: no.code, seen: asked.seen }).toEqual({ code: 1, seen: [] });
	});
});
