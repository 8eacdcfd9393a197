import { expect, test } from "bun:test";
import type { RouteId } from "../../src/api/contract.ts";
import { modelNotFound } from "../../src/schema/errors.ts";
import { fakeAgent } from "./support/fake-agent.ts";
import { run } from "./support/fake-world.ts";
import { SUBMITTED } from "./support/samples.ts";

const FIRST = "download-acme-tiny-k3v9x2ma";
const SECOND = "copy-acme-tiny-7h2mq9xw";
const AFTER = `--after ${FIRST} --after=${SECOND}`;
const PLAN = { items: [], total_bytes: 0 };

const LINES: readonly (readonly [string, RouteId])[] = [
	["model download hf:acme/tiny", "downloadModel"],
	["model download hf:acme/tiny --to node1:disk,node2:disk", "transferModels"],
	["model copy acme/tiny node1:disk node2:disk", "copyModel"],
	["model copy acme/tiny --to all:disk", "transferModels"],
	["model move acme/tiny node1:disk node2:disk", "moveModel"],
	["model serve acme/tiny --device node2:disk", "startService"],
	["model upload acme/tiny s3://bucket/tiny", "uploadModel"],
	["model verify acme/tiny --device node2:disk", "verifyModel"],
];

for (const [line, route] of LINES) {
	test(`${line} --after TASK: the tasks arrive as dependencies`, async () => {
		const agent = fakeAgent({ [route]: { ...SUBMITTED, service_id: "svc-1", plan: PLAN } });
		const { code, stderr } = await run(`${line} ${AFTER} --no-wait`.split(" "), { agent });
		expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
		expect(agent.only(route).body).toMatchObject({ dependencies: [FIRST, SECOND] });
	});
}

test("a model that is not there yet is verified where the task before brings it", async () => {
	const agent = fakeAgent({
		listLocations: () => {
			throw modelNotFound("acme/tiny");
		},
		verifyModel: SUBMITTED,
	});
	const { code } = await run(["model", "verify", "acme/tiny", "--after", FIRST, "--no-wait"], { agent });
	expect(code).toBe(0);
	expect(agent.only("verifyModel").body).toEqual({ repair: true, dependencies: [FIRST] });
	const without = await run(["model", "verify", "acme/tiny", "--no-wait"], { agent });
	expect(without.code).toBe(3);
});
