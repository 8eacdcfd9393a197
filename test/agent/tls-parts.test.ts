// Where parts of models may come from, and where not.
import { expect, test } from "bun:test";
import { grantedParts } from "../../src/agent/granted-parts.ts";
import { grantForOperation } from "../../src/agent/host/operations.ts";
import { touchOnProgress } from "../../src/agent/node/copy-task.ts";
import { nodeServerName } from "../../src/core/identity/identity.ts";
import { silentLog } from "../../src/platform/log.ts";
import type { TaskDocument } from "../../src/schema/task.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { localCluster, modelFiles } from "../support/cluster.ts";
import { until } from "../support/until.ts";

const MANIFEST = { files: [], total_bytes: 0 };
const answer = (base_url: string) => ({ base_url, node: "node1", grant: "g", manifest: MANIFEST });

test("a receiver meets the node that was named, and reads in the open only on a trusted network", () => {
	const untrusting = { ca: "PEM", trustedNetwork: false };
	const https = grantedParts(answer("https://10.0.0.7:8002"), untrusting);
	expect(https.trust).toEqual({ ca: "PEM", serverName: nodeServerName("node1") });
	// The host knows its key, and says by which name only that one is met.
	const keyed = grantedParts({ ...answer("https://10.0.0.7:8002"), server_name: "k-1.internal" }, untrusting);
	expect(keyed.trust).toEqual({ ca: "PEM", serverName: "k-1.internal" });
	for (const url of ["http://127.0.0.1:8002", "http://[::1]:8002"]) {
		expect(grantedParts(answer(url), untrusting).baseUrl).toBe(url);
	}
	for (const url of ["http://10.0.0.7:8002", "http://gpu1.lan:8002", "http://[fd00::7]:8002"]) {
		expect(() => grantedParts(answer(url), untrusting)).toThrow(
			expect.objectContaining({ reason: "parts_without_tls", status: 503 }),
		);
		expect(grantedParts(answer(url), { ca: "PEM", trustedNetwork: true }).baseUrl).toBe(url);
	}
});

test("a host gives no grant for parts that would go over another machine's plain HTTP, but on a trusted network", async () => {
	const granted: string[] = [];
	const answers: Record<string, unknown> = {
		resolveModel: { copy: { status: "ready", content_id: "c" }, manifest: MANIFEST },
		grantParts: { grant: "the grant" },
	};
	const at = (peerUrl: string, trustedNetwork: boolean) =>
		grantForOperation(
			{
				trustedNetwork,
				cluster: { view: () => ({ peerUrl }) },
				registry: { locations: () => [] },
				nodes: {
					reachable: () => [],
					trust: (node: string) => ({ ca: "PEM", serverName: `k-${node}` }),
					target: (device: string) => ({ node: device.split(":")[0], tier: "disk", device }),
					client: () => ({
						call: (id: string) => {
							granted.push(id);
							return Promise.resolve(answers[id]);
						},
					}),
				},
			} as unknown as Parameters<typeof grantForOperation>[0],
			{
				task_id: "copy-1",
				task_type: "copy",
				status: "running",
				request: { model_name: "m", source_device: "node1:disk", target_device: "node2:disk" },
			} as unknown as TaskDocument,
			"node2",
		);
	expect(at("http://10.0.0.7:8002", false)).rejects.toMatchObject({ reason: "parts_without_tls" });
	expect(granted).toEqual([]);
	const open = await at("http://10.0.0.7:8002", true);
	expect(open).toMatchObject({
		base_url: "http://10.0.0.7:8002",
		node: "node1",
		server_name: "k-node1",
		grant: "the grant",
	});
	expect(await at("https://10.0.0.7:8002", false)).toMatchObject({ node: "node1" });
	expect(await at("http://127.0.0.1:8002", false)).toMatchObject({ node: "node1" });
});

test("a node on another machine that speaks no TLS is asked nothing, neither by the host nor by its gateway", async () => {
	await using c = await localCluster({ nodes: ["node1", "node2"], files: { "acme/tiny": modelFiles(1000) } });
	const node1 = c.node("node1");
	const view = c.host.role.cluster.view("node1");
	const { beat } = view;
	if (beat === undefined) throw new Error("node1 has not reported");
	await node1.stop();
	// What it says from now on is said from elsewhere, and without TLS.
	const service = { node: "node1", service_id: "tiny", model_name: "acme/tiny", state: "ready" };
	const later = {
		...beat,
		incarnation: beat.incarnation + 1,
		services: [service],
		tls: false,
		peer_tls: false,
	};
	await c.host.role.cluster.beat("node1", later as unknown as typeof beat, "203.0.113.9");
	expect(c.host.role.cluster.view("node1").apiUrl).toStartWith("http://203.0.113.9:");
	const asked = c.host.client.call("queueStatus", { query: { node: "node1" } });
	expect(asked).rejects.toMatchObject({ status: 503, reason: "node_without_tls" });
	const chat = await fetch(`${c.host.url}/v1/chat/completions`, {
		method: "POST",
		headers: { authorization: `Bearer ${c.host.admin}`, "content-type": "application/json" },
		body: JSON.stringify({ model: "acme/tiny", messages: [] }),
	});
	expect(chat.status).toBe(404);
}, 60_000);

test("while bytes arrive, and only then, a grant is used beside a request that takes long", async () => {
	const clock = new FakeClock();
	let touched = 0;
	const source = { touch: async () => void touched++ };
	const onBytes = touchOnProgress(clock, { signal: new AbortController().signal, log: silentLog }, source);
	for (let second = 1; second <= 120; second++) {
		await clock.advance(1000);
		onBytes(second * 1000);
	}
	expect(touched).toBe(4);
	for (let second = 1; second <= 300; second++) {
		await clock.advance(1000);
		onBytes(120_000);
	}
	expect(touched).toBe(4);
});

test("a grant that can no longer be used is not what ends a transfer", async () => {
	const clock = new FakeClock();
	const failing = { touch: () => Promise.reject(new Error("gone")) };
	let said = 0;
	const log = { ...silentLog, debug: () => void said++ };
	const onBytes = touchOnProgress(clock, { signal: new AbortController().signal, log }, failing);
	await clock.advance(60_000);
	onBytes(1);
	await until("it was said", () => said === 1);
});
