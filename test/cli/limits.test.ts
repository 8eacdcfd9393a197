import { expect, test } from "bun:test";
import { fakeAgent } from "./support/fake-agent.ts";
import { run } from "./support/fake-world.ts";

const NODE = { node: "node1", down: 200e6, up: null, share_down: 50e6, share_up: null };

test("queue limit changes a task's rate, or takes it off", async () => {
	const answer = ({ params, body }: { params: Record<string, string>; body: unknown }) => ({
		task_id: params["task_id"],
		...(body as object),
	});
	const agent = fakeAgent({ setTaskBandwidth: answer });
	const limited = await run(["queue", "limit", "copy-tiny-k3v9x2ma", "20MB/s"], { agent });
	expect(limited.code).toBe(0);
	expect(limited.stderr).toContain("at most 20 MB/s");
	expect(agent.only("setTaskBandwidth").body).toEqual({ bandwidth_limit: 20_000_000 });
	const free = fakeAgent({ setTaskBandwidth: answer });
	expect((await run(["queue", "limit", "copy-tiny-k3v9x2ma", "none"], { agent: free })).code).toBe(0);
	expect(free.only("setTaskBandwidth").body).toEqual({ bandwidth_limit: null });
	expect((await run(["queue", "limit", "copy-tiny-k3v9x2ma", "fast"], { agent: free })).code).toBe(2);
	expect((await run(["queue", "limit", "copy-tiny-k3v9x2ma"], { agent: free })).code).toBe(2);
});

test("node limit shows what holds, and changes what is named", async () => {
	const agent = fakeAgent({ getNodeBandwidth: NODE });
	const shown = await run(["node", "limit", "node1"], { agent });
	expect(shown.code).toBe(0);
	expect(shown.stderr).toContain("receives at most 200 MB/s (its share of the cluster's limit: 50 MB/s)");
	expect(shown.stderr).toContain("sends as fast as it goes");
	const changing = fakeAgent({ setNodeBandwidth: NODE });
	const { code, stdout } = await run(["node", "limit", "all", "--up", "none", "--down=1GB/s", "--json"], {
		agent: changing,
	});
	expect(code).toBe(0);
	expect(JSON.parse(stdout)).toEqual(NODE);
	expect(changing.only("setNodeBandwidth")).toMatchObject({
		params: { node: "all" },
		body: { down: 1e9, up: null },
	});
});
