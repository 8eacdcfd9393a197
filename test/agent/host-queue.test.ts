import { expect, test } from "bun:test";
import type { HostRequests, HostRouteDependencies } from "../../src/agent/host/host-requests.ts";
import { queueRoutes } from "../../src/agent/host/queue-routes.ts";
import { GswarmError } from "../../src/schema/errors.ts";

/** A host whose only node answers every call so. */
function hostWithNode(answer: () => Promise<unknown>): (() => unknown)[] {
	const config = { max_concurrent_tasks: 4, priority_levels: [], resource_tracking: true };
	const queue = {
		config: () => config,
		configure: () => Promise.resolve(config),
		counters: () => ({ pending: 0, running: 0, completed: 0 }),
		page: () => ({ tasks: [], next_cursor: null, total: 0 }),
		history: () => ({ tasks: [], next_cursor: null }),
	};
	const d = {
		queue,
		hostName: "host",
		nodes: { reachable: () => [{ name: "node1" }], client: () => ({ call: answer }) },
		cluster: { views: () => [{ name: "node1" }] },
	};
	const routes = queueRoutes(d as unknown as HostRouteDependencies, {} as HostRequests);
	// oxlint-disable-next-line typescript/no-explicit-any -- a call has more than these routes look at
	const call = (query: object): any => ({ query, body: {} });
	return [
		() => routes.queueStatus(call({ limit: 10 })),
		() => routes.queueHistory(call({ limit: 10 })),
		() => routes.queueConfig(call({})),
		() => routes.configureQueue(call({})),
	];
}

test("a node that goes away in the middle of an answer is told as missing", async () => {
	const away = new GswarmError("NETWORK_ERROR", "gone", { reason: "connect_refused" });
	for (const ask of hostWithNode(() => Promise.reject(away)))
		expect(await ask()).toMatchObject({ missing_nodes: ["node1"] });
});

test("a node that refuses what is asked is no missing node", async () => {
	const refused = new GswarmError("INVALID_REQUEST", "no", { reason: "bad_field" });
	for (const ask of hostWithNode(() => Promise.reject(refused)))
		await expect((async () => await ask())()).rejects.toMatchObject({ reason: "bad_field" });
});
