import { expect, test } from "bun:test";
import { fakeAgent } from "./support/fake-agent.ts";
import { run } from "./support/fake-world.ts";
import { LOCATION, SUBMITTED, sampleTask } from "./support/samples.ts";

const COPY = {
	revision: "abc",
	content_id: "c0ffee",
	bytes_checked: 100,
	parts_checked: 4,
	parts_total: 4,
	files_damaged: 0,
	damaged: [],
	repaired_from: null,
	not_repaired: null,
};
const DAMAGE = {
	files_damaged: 2,
	damaged: [{ path: "model.gguf", parts: [1], problem: "part 1 has the digest 00, wanted 11" }],
};
const LOCATIONS = { model_name: "acme/tiny", locations: [LOCATION, { ...LOCATION, device: "node2:disk" }] };

function ended(device: string, copy: object, change: object = {}) {
	return sampleTask({
		task_type: "verify",
		status: "completed",
		phase: "done",
		request: { model_name: "acme/tiny", device },
		result: { device, model_name: "acme/tiny", seed: "s", copies: [{ ...COPY, ...copy }] },
		...change,
	});
}

test("model verify reads every copy, one task each, and exits 0 when all are whole", async () => {
	const agent = fakeAgent({
		listLocations: LOCATIONS,
		verifyModel: ({ body }: { body: unknown }) => ({
			...SUBMITTED,
			task_id: `verify-${(body as { device: string }).device.slice(0, 5)}`,
		}),
		getTask: ({ params }: { params: Record<string, string> }) =>
			ended(`${params["task_id"]?.slice(-5)}:disk`, {}),
	});
	const { code, stderr, stdout } = await run(["model", "verify", "acme/tiny"], { agent });
	expect({ code, stdout }).toEqual({ code: 0, stdout: "" });
	expect(stderr).toContain("acme/tiny on node1:disk is whole.");
	expect(stderr).toContain("acme/tiny on node2:disk is whole.");
	const bodies = agent.seen.filter((call) => call.route === "verifyModel").map((call) => call.body);
	expect(bodies).toEqual([
		{ device: "node1:disk", repair: true },
		{ device: "node2:disk", repair: true },
	]);
});

test("model verify exits 1 on a damaged copy, repaired or not, and tells what was wrong", async () => {
	const repaired = ended("node1:disk", { ...DAMAGE, repaired_from: "node2:disk" });
	const agent = fakeAgent({ verifyModel: SUBMITTED, getTask: repaired });
	const line = ["model", "verify", "acme/tiny", "--device", "node1:disk"];
	const mended = await run(line, { agent });
	expect(mended.code).toBe(1);
	expect(mended.stderr).toContain("of model.gguf, part 1 has the digest 00, wanted 11.");
	expect(mended.stderr).toContain("1 more files are damaged.");
	expect(mended.stderr).toContain("is replaced from node2:disk");

	const details = ended("node1:disk", {
		...DAMAGE,
		not_repaired: "no other copy of it can be reached",
	}).result;
	const failed = ended(
		"node1:disk",
		{},
		{
			status: "failed",
			result: null,
			error: {
				code: "TASK_FAILED",
				message: "damaged",
				details: { ...details, reason: "checksum_mismatch" },
			},
		},
	);
	const left = await run([...line, "--json"], {
		agent: fakeAgent({ verifyModel: SUBMITTED, getTask: failed }),
	});
	expect(left.code).toBe(1);
	expect(JSON.parse(left.stdout)).toEqual({ model_name: "acme/tiny", tasks: [failed] });
});

test("model verify passes its flags on, and says how much of a sample was read", async () => {
	const sampled = ended("node1:disk", { parts_checked: 1 });
	const agent = fakeAgent({ verifyModel: SUBMITTED, getTask: sampled });
	const flags = [
		"--device",
		"node1:disk",
		"--sample",
		"5%",
		"--seed",
		"monday",
		"--no-repair",
		"--priority",
		"low",
	];
	const { code, stderr } = await run(["model", "verify", "acme/tiny", ...flags], { agent });
	expect(code).toBe(0);
	expect(stderr).toContain("1 of 4 parts");
	expect(agent.only("verifyModel").body).toEqual({
		device: "node1:disk",
		sample_percent: 5,
		seed: "monday",
		repair: false,
		priority: "low",
	});
	const detached = await run(["model", "verify", "acme/tiny", "--device", "node1:disk", "--no-wait"], {
		agent: fakeAgent({ verifyModel: SUBMITTED }),
	});
	expect({ code: detached.code, stdout: detached.stdout }).toEqual({
		code: 0,
		stdout: `${SUBMITTED.task_id}\n`,
	});
	for (const share of ["0", "101%", "x", "-5"]) {
		const bad = await run(["model", "verify", "acme/tiny", `--sample=${share}`], { agent: fakeAgent({}) });
		expect(bad.code).toBe(2);
	}
});
