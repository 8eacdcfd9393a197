import { describe, expect, test } from "bun:test";
import { type ErrorCode, GswarmError } from "../../src/schema/errors.ts";
import { fakeAgent } from "./support/fake-agent.ts";
import { run } from "./support/fake-world.ts";
import { SUBMITTED, sampleTask } from "./support/samples.ts";

/** The statuses that scripts rely on. */
const STATUS: Record<ErrorCode, number> = {
	INVALID_REQUEST: 2,
	MODEL_NOT_FOUND: 3,
	NOT_FOUND: 3,
	CONFLICT: 4,
	UNAUTHORIZED: 5,
	FORBIDDEN: 5,
	NETWORK_ERROR: 6,
	RESOURCE_UNAVAILABLE: 6,
	TASK_FAILED: 1,
	DEPENDENCY_FAILED: 1,
	INTERNAL_ERROR: 1,
};

describe("errors", () => {
	for (const [code, status] of Object.entries(STATUS) as [ErrorCode, number][]) {
		test(`${code} of the API is exit ${status}, with the message and the hint on stderr`, async () => {
			const agent = fakeAgent({
				getModel: () => {
					throw new GswarmError(code, "It went wrong with 7 of 8.", { reason: "why", hint: "Do this." });
				},
			});
			for (const flags of [[], ["--json"], ["-q"]]) {
				const outcome = await run(["model", "show", "tiny", ...flags], { agent });
				expect(outcome).toMatchObject({
					code: status,
					stdout: "",
					stderr: "error: It went wrong with 7 of 8.\nhint: Do this.\n",
				});
			}
		});

		test(`a task that failed with ${code} is exit ${status}; --json prints the task`, async () => {
			const error = { code, message: "The hub said 403.", details: {}, hint: "Accept the licence." };
			const task = sampleTask({ status: "failed", error });
			const script = { downloadModel: SUBMITTED, getTask: task };
			const outcome = await run(["pull", "acme/tiny"], { agent: fakeAgent(script) });
			expect(outcome).toMatchObject({
				code: status,
				stdout: "",
				stderr: "error: The hub said 403.\nhint: Accept the licence.\n",
			});
			const json = await run(["pull", "acme/tiny", "--json"], { agent: fakeAgent(script) });
			expect([json.code, JSON.parse(json.stdout)]).toEqual([status, task]);
		});
	}

	test("an answer that is no JSON of ours is exit 6 and says what came", async () => {
		const agent = fakeAgent({ getModel: () => new Response("<html>", { status: 502 }) });
		const { code, stderr } = await run(["model", "show", "tiny"], { agent });
		expect(code).toBe(6);
		expect(stderr).toContain("502");
	});

	test("a fault of our own is exit 1, one line without --debug, the place with it", async () => {
		const agent = fakeAgent({ getModel: { no: "such answer" } });
		const broken = { ...agent, send: () => Promise.resolve(Response.json({ model_name: 1 })) };
		const { code, stderr } = await run(["model", "show", "tiny"], { agent: broken });
		expect(code).toBe(1);
		expect(stderr).toContain("error: Unexpected: ");
		expect(stderr).toContain("--debug");
		expect(stderr.trim().split("\n").length).toBe(2);
		const debug = await run(["model", "show", "tiny", "--debug"], { agent: broken });
		expect(debug.stderr).toMatch(/at .*\.ts/);
		expect(debug.stderr).toContain("GET /api/v1/models/tiny 200");
	});

	test("a cancelled task is exit 1", async () => {
		const agent = fakeAgent({ downloadModel: SUBMITTED, getTask: sampleTask({ status: "cancelled" }) });
		const { code, stderr } = await run(["pull", "acme/tiny"], { agent });
		expect(code).toBe(1);
		expect(stderr).toContain("was cancelled");
	});

	test("no agent is exit 6 with the command that starts one", async () => {
		const { code, stdout, stderr } = await run(["model", "list", "--json"]);
		expect({ code, stdout }).toEqual({ code: 6, stdout: "" });
		expect(stderr).toContain("`gswarm agent`");
	});
});
