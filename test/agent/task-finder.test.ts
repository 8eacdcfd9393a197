/** Where the host finds a task: whoever follows one over a restart must not be told that there is none. */
import { expect, test } from "bun:test";
import { createTaskFinder } from "../../src/agent/host/task-finder.ts";
import { GswarmError, asGswarmError, notFound } from "../../src/schema/errors.ts";

const TASK = "copy-tiny-k3v9x2ma";

/** A host of node1 and node2, each of which answers, says that it has no such task, or is away. */
function finderOf(nodes: Record<string, "has" | "none" | "gone" | "awaited">) {
	const named = (how: (state: string) => boolean) =>
		Object.entries(nodes)
			.filter(([, state]) => how(state))
			.map(([name]) => ({ name }));
	const call = (node: string) => async () => {
		if (nodes[node] === "has") return { task_id: TASK };
		if (nodes[node] === "none") throw notFound("task", TASK);
		throw new GswarmError("NETWORK_ERROR", "away", { reason: "connection_refused", retryable: true });
	};
	return createTaskFinder({
		hostName: "host",
		queue: {
			get() {
				throw notFound("task", TASK);
			},
			explain() {
				throw notFound("task", TASK);
			},
		},
		nodes: {
			reachable: () => named((state) => state !== "awaited"),
			awaited: () => named((state) => state === "awaited"),
			client: (node: string) => ({ call: call(node) }),
		},
	} as unknown as Parameters<typeof createTaskFinder>[0]);
}

const reasonOf = (finding: Promise<unknown>): Promise<string | undefined> =>
	finding.then(
		() => undefined,
		(error: unknown) => asGswarmError(error).reason,
	);

test("A task that a node has is found there, whoever else is away", async () => {
	expect((await finderOf({ node1: "gone", node2: "has" }).find(TASK)).node).toBe("node2");
	expect((await finderOf({ node1: "awaited", node2: "has" }).find(TASK)).node).toBe("node2");
});

test("No task is denied while a node has not reported since the host's start, or does not answer", async () => {
	for (const away of ["awaited", "gone"] as const) {
		const finding = finderOf({ node1: "none", node2: away }).find(TASK);
		expect(await reasonOf(finding)).toBe("node_unreachable");
		expect(await finding.catch((error: GswarmError) => error.retryable)).toBe(true);
	}
});

test("A task that no node has is not found once all of them have said so", async () => {
	expect(await reasonOf(finderOf({ node1: "none", node2: "none" }).find(TASK))).toBe("task_not_found");
});
