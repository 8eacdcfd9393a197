import { expect, test } from "bun:test";
import { typed } from "../../src/cli/terminal.ts";
import { until } from "../support/until.ts";
import { ENVIRONMENT, PROGRAM, onTerminal, serveAgent } from "./support/child.ts";
import { fakeAgent } from "./support/fake-agent.ts";
import { run } from "./support/fake-world.ts";

test.each([
	["hunter2\r", "hunter2", "entered"],
	["hunter2\n", "hunter2", "entered"],
	["hunter2\u0004", "hunter2", "entered"],
	["hunterX\u007f2\r", "hunter2", "entered"],
	["wrong\u0015hunter2\r", "hunter2", "entered"],
	["\u007f\u007fa\r", "a", "entered"],
	["hunter2\u0003", "", "interrupted"],
	["hunt", "hunt", undefined],
	["a".repeat(20), "a".repeat(10), undefined],
] as const)("the keys %j make the line %j, %s", (keys, text, end) => {
	expect(typed("", keys, 10)).toEqual({ text, end });
});

/** Asks once and says only how long the answer was. */
const ASKING = `
	import { systemTerminal } from ${JSON.stringify(new URL("../../src/cli/terminal.ts", import.meta.url).pathname)};
	const { stdin, stderr } = systemTerminal();
	const text = await stdin.readHidden(100, () => stderr.write("Token: "));
	stderr.write("\\n" + String(text?.length) + " characters\\n");
	process.exit(0);
`;

test("what is typed at the prompt is read and never shown", async () => {
	await using program = onTerminal([process.execPath, "-e", ASKING], ENVIRONMENT);
	await until("it asks", () => program.shown().includes("Token: "));
	for (const key of "canary-4711") program.type(key);
	program.type("\r");
	expect(await program.exited).toBe(0);
	await until("it answered", () => program.shown().includes("characters"));
	expect(program.shown()).toContain("11 characters");
	expect(program.shown()).not.toContain("canary");
});

test("Ctrl-C at the prompt ends the program", async () => {
	await using program = onTerminal([process.execPath, "-e", ASKING], ENVIRONMENT);
	await until("it asks", () => program.shown().includes("Token: "));
	program.type("cana\u0003");
	expect(await program.exited).not.toBe(0);
	expect(program.shown()).not.toContain("cana");
});

test("gswarm secret set asks at a terminal, shows nothing of the answer, and hands it to the agent", async () => {
	const told = { name: "hf", origins: ["https://huggingface.co"], set_at: 1, set_by: "admin" };
	const fake = fakeAgent({ setSecret: told });
	await using agent = serveAgent(fake);
	await using program = onTerminal([process.execPath, PROGRAM, "secret", "set", "hf"], agent.environment);
	await until("it asks", () => program.shown().includes("Value of hf (not shown): "));
	program.type("hf_canary_4711\r");
	expect(await program.exited).toBe(0);
	await until("it says so", () => program.shown().includes("Stored hf"));
	expect(program.shown()).not.toContain("canary");
	expect(fake.only("setSecret").body).toEqual({ value: "hf_canary_4711" });
});

test("a secret that comes through a pipe is one line; of several none is taken", async () => {
	const told = { name: "hf", origins: ["https://huggingface.co"], set_at: 1, set_by: "admin" };
	const several = fakeAgent({ setSecret: told });
	const refused = await run(["secret", "set", "hf"], { agent: several, input: "hf_one\nhf_two\n" });
	expect(refused.code).toBe(2);
	expect(refused.stderr).toContain("several lines were given; it is one");
	expect(refused.stderr).not.toContain("hf_one");
	expect(several.seen).toEqual([]);
	const one = fakeAgent({ setSecret: told });
	expect((await run(["secret", "set", "hf"], { agent: one, input: "hf_one\r\n" })).code).toBe(0);
	expect(one.only("setSecret").body).toEqual({ value: "hf_one" });
});
