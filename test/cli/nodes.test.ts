import { describe, expect, test } from "bun:test";
import { fakeAgent } from "./support/fake-agent.ts";
import { NOW_MS, run } from "./support/fake-world.ts";
import { NODE } from "./support/samples.ts";

const WAITING = {
	...NODE,
	name: "node2",
	status: "waiting" as const,
	address: "10.0.0.7",
	api_port: 0,
	tiers: {},
	last_seen_s: null,
	asked_addresses: ["gpu2.lan"],
	key_fingerprint: "1f2e-3d4c",
};
const LIST = { nodes: [NODE, WAITING], total: 2 };

describe("node list", () => {
	const answer = { nodes: [NODE, WAITING], total: 2 };

	test("shows who waits to join, and says how to let them in", async () => {
		const { stdout, stderr } = await run(["node", "list"], { agent: fakeAgent({ listNodes: answer }) });
		expect(stdout).toMatch(/node2\s+waiting/);
		expect(stdout).toContain("asks to join");
		expect(stderr).toContain("gswarm node approve node2");
	});

	test("a node that a host has not heard since its own start is not said to have never been there", async () => {
		const nodes = [{ ...NODE, last_seen_s: null }];
		const { stdout } = await run(["node", "list"], { agent: fakeAgent({ listNodes: { nodes, total: 1 } }) });
		expect(stdout).toMatch(/alive.*not yet/);
	});

	test("in full shows the addresses that it asks for, those that were approved, and the protocol", async () => {
		const nodes = [{ ...NODE, approved_addresses: ["gpu1.lan"] }, WAITING];
		const { stdout } = await run(["node", "list", "-o", "wide"], {
			agent: fakeAgent({ listNodes: { nodes, total: 2 } }),
		});
		expect(stdout).toContain("127.0.0.1:8001, gpu1.lan");
		expect(stdout).toMatch(/10\.0\.0\.7\s+gpu2\.lan\s+1f2e-3d4c/);
		expect(stdout).toContain("PROTOCOL");
	});
});

describe("node approve", () => {
	test("approves what a node asks for, and tells what that was", async () => {
		const agent = fakeAgent({
			listNodes: LIST,
			approveNode: { node: "node2", status: "waiting", addresses: ["gpu2.lan"] },
		});
		const { code, stdout, stderr } = await run(["node", "approve", "node2"], { agent });
		expect({ code, stdout }).toEqual({ code: 0, stdout: "node2\n" });
		expect(stderr).toContain("gpu2.lan");
		expect(stderr).toContain("asks again");
		expect(agent.only("approveNode").body).toEqual({});
	});

	test("on a terminal asks which machine it is, by its address and its key", async () => {
		const agent = fakeAgent({ listNodes: LIST });
		const asked = await run(["node", "approve", "node2"], {
			agent,
			stdinIsTty: true,
			columns: 80,
			input: "n",
		});
		expect(asked.code).toBe(1);
		expect(asked.stderr).toContain("Let node2 (10.0.0.7, key 1f2e-3d4c) into the cluster?");
		expect(agent.seen.map(({ route: called }) => called)).toEqual(["listNodes"]);
	});

	test("approves only the addresses that are given", async () => {
		const agent = fakeAgent({
			listNodes: LIST,
			approveNode: { node: "node2", status: "joined", addresses: ["a.lan", "::1"] },
		});
		const words = ["node", "approve", "node2", "--address", "a.lan", "--address", "::1"];
		expect((await run(words, { agent })).code).toBe(0);
		expect(agent.only("approveNode").body).toEqual({ addresses: ["a.lan", "::1"] });
	});

	test.each([
		["node approve", "NODE"],
		["node approve ../x", "not a node name"],
		["node approve node2 --address http://x", "a host name or an IP address"],
	])("%s is refused before anybody is asked", async (line, words) => {
		const agent = fakeAgent({});
		const { code, stderr } = await run(line.split(" "), { agent });
		expect(code).toBe(2);
		expect(stderr).toContain(words);
		expect(agent.seen).toEqual([]);
	});
});

describe("node remove and node reset", () => {
	for (const [line, route, answer] of [
		["node remove node2", "removeNode", { node: "node2", removed: true }],
		["node reset node2", "resetNode", { node: "node2", reset: true }],
	] as const) {
		test(`${line} asks on a terminal, and does nothing without a yes`, async () => {
			const agent = fakeAgent({
				listNodes: { nodes: [{ ...NODE, name: "node2" }], total: 1 },
				[route]: answer,
			});
			const refused = await run(line.split(" "), { agent, stdinIsTty: true, columns: 80, input: "n" });
			expect(refused.code).toBe(1);
			expect(agent.seen.map(({ route: called }) => called)).not.toContain(route);
			if (route === "removeNode") expect(refused.stderr).toContain("node2 holds 3 model(s), serves 1");
			agent.seen.length = 0;
			const { code } = await run([...line.split(" "), "--yes"], { agent });
			expect([code, agent.seen.length]).toEqual([0, 1]);
		});
	}

	test("--force goes along, and is off without it", async () => {
		const agent = fakeAgent({ removeNode: { node: "node2", removed: true } });
		await run(["node", "remove", "node2"], { agent });
		expect(agent.only("removeNode").query).toEqual({ force: "false" });
		const forced = fakeAgent({ removeNode: { node: "node2", removed: true } });
		await run(["node", "remove", "node2", "--force"], { agent: forced });
		expect(forced.only("removeNode").query).toEqual({ force: "true" });
	});
});

test("on a terminal token create --join shows one thing to paste on the other machine, secret as its input", async () => {
	const agent = fakeAgent({
		createToken: {
			token: "GSW10::id.secret",
			token_id: "k3v9x2ma",
			expires_at: NOW_MS / 1000 + 3600,
			uses: 1,
			command: "gswarm agent --join https://10.0.0.1:8000",
		},
	});
	const { stdout, stderr } = await run(["token", "create", "--join"], { agent, columns: 100 });
	expect(stdout).toContain("GSW10::id.secret");
	expect(stderr).toContain("\ngswarm agent --join https://10.0.0.1:8000 <<'.'\nGSW10::id.secret\n.\n");
});
