import { expect, test } from "bun:test";
import { createApiClient } from "../../src/api/client.ts";
import { readEvents } from "../../src/api/event-reader.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { OPERATION_HEADER, formatToken } from "../../src/schema/operation.ts";
import type { TaskDocument } from "../../src/schema/task.ts";
import { type LocalCluster, localCluster, modelFiles } from "../support/cluster.ts";
import { until } from "../support/until.ts";

const MODEL = "acme/tiny";
const params = { model_name: MODEL };
const files = { [MODEL]: modelFiles(4_000_000) };
const LIMIT_MS = 90_000;

async function reasonOf(run: Promise<unknown>): Promise<string> {
	try {
		await run;
	} catch (error) {
		const { status, reason } = asGswarmError(error);
		return `${status} ${reason}`;
	}
	return "accepted";
}

/** Downloads that take so long that a test can look at them. */
async function slowDownload(c: LocalCluster, device: string): Promise<string> {
	const body = { target_device: device, bandwidth_limit: 20_000 };
	const { task_id } = await c.host.client.call("downloadModel", { params, body });
	return task_id;
}

/** Every task of the history, page by page. */
async function wholeHistory(c: LocalCluster, limit: number): Promise<TaskDocument[]> {
	const all: TaskDocument[] = [];
	let cursor: string | null | undefined;
	do {
		const query = { limit, ...(cursor === undefined || cursor === null ? {} : { cursor }) };
		const page = await c.host.client.call("queueHistory", { query });
		expect(page.tasks.length).toBeLessThanOrEqual(limit);
		all.push(...page.tasks);
		cursor = page.next_cursor;
	} while (cursor !== null);
	return all;
}

test(
	"the host's queue is the cluster's: every queue in it, the sums, and one of them when it is named",
	async () => {
		await using c = await localCluster({ files });
		const one = await slowDownload(c, "node1:disk");
		const other = await slowDownload(c, "node2:disk");
		await until("both run", async () => {
			const { task_queue } = await c.host.client.call("queueStatus", {});
			return task_queue.running === 2;
		});
		const all = await c.host.client.call("queueStatus", {});
		expect(all.tasks.map((task) => task.task_id).sort()).toEqual([one, other].sort());
		expect(all).toMatchObject({ total: 2, next_cursor: null });
		expect(Object.keys(all.nodes ?? {}).sort()).toEqual(["host", "node1", "node2"]);
		expect(all.nodes?.["node1"]).toMatchObject({ task_queue: { running: 1 } });
		expect(all.missing_nodes).toBeUndefined();
		const first = await c.host.client.call("queueStatus", { query: { limit: 1 } });
		const second = await c.host.client.call("queueStatus", {
			query: { limit: 1, cursor: first.next_cursor ?? "" },
		});
		expect([...first.tasks, ...second.tasks].map((task) => task.task_id).sort()).toEqual([one, other].sort());
		expect([first.total, second.total, second.next_cursor]).toEqual([2, 2, null]);
		const named = await c.host.client.call("queueStatus", { query: { node: "node2" } });
		expect(named.tasks.map((task) => task.task_id)).toEqual([other]);
		expect(await reasonOf(c.host.client.call("queueStatus", { query: { node: "node9" } }))).toBe(
			"404 node_not_found",
		);
		await c.node("node2").stop();
		const without = await c.host.client.call("queueStatus", {});
		expect(without.missing_nodes).toEqual(["node2"]);
		expect(without.tasks.map((task) => task.task_id)).toEqual([one]);
	},
	LIMIT_MS,
);

test(
	"pages of the cluster's history have every task once, the newest first, whatever their size",
	async () => {
		await using c = await localCluster({ files });
		const done: string[] = [];
		for (let n = 0; n < 4; n++) {
			for (const device of ["node1:disk", "node2:disk", "node1:dram"])
				done.push((await c.download(MODEL, device)).task_id);
		}
		for (const limit of [1, 2, 5, 12, 50]) {
			const tasks = await wholeHistory(c, limit);
			expect({ limit, ids: tasks.map((task) => task.task_id).sort() }).toEqual({
				limit,
				ids: [...done].sort(),
			});
			const times = tasks.map((task) => task.completed_at ?? 0);
			expect(times).toEqual([...times].sort((a, b) => b - a));
		}
		for (const cursor of ["eA", Buffer.from('{"host":5}').toString("base64url")])
			expect(await reasonOf(c.host.client.call("queueHistory", { query: { cursor } }))).toBe(
				"400 bad_cursor",
			);
		const only = await c.host.client.call("queueHistory", { query: { node: "node2", limit: 2 } });
		const rest = await c.host.client.call("queueHistory", {
			query: { node: "node2", limit: 2, cursor: only.next_cursor ?? "" },
		});
		expect([...only.tasks, ...rest.tasks].map((task) => task.node)).toEqual([
			"node2",
			"node2",
			"node2",
			"node2",
		]);
	},
	LIMIT_MS,
);

test(
	"a task of a node is cancelled, and done again, through the host",
	async () => {
		await using c = await localCluster({ files });
		const id = await slowDownload(c, "node1:disk");
		await until("it runs", async () => {
			const { status } = await c.host.client.call("getTask", { params: { task_id: id } });
			return status === "running";
		});
		await c.host.client.call("cancelTask", { params: { task_id: id } });
		expect(await c.ended(id)).toMatchObject({ status: "cancelled", node: "node1" });
		const again = await c.host.client.call("retryTask", { params: { task_id: id } });
		expect(again).toMatchObject({ status: "queued", node: "node1" });
		expect(await reasonOf(c.host.client.call("retryTask", { params: { task_id: "copy-none-1" } }))).toBe(
			"404 task_not_found",
		);
		await c.host.client.call("cancelTask", { params: { task_id: again.task_id } });
	},
	LIMIT_MS,
);

test(
	"a task waits for the tasks it depends on; wrong ones are refused, each for its reason",
	async () => {
		await using c = await localCluster({ files });
		const first = await slowDownload(c, "node1:disk");
		const download = (dependencies: string[]) =>
			c.host.client.call("downloadModel", { params, body: { target_device: "node1:dram", dependencies } });
		const { task_id: second } = await download([first]);
		expect(await c.host.client.call("getTask", { params: { task_id: second } })).toMatchObject({
			status: "pending",
			dependencies: [first],
			obstacles: [{ kind: "dependency", task_id: first }],
		});
		expect(await reasonOf(download(["download-none-1"]))).toBe("400 unknown_dependency");
		const many = Array.from({ length: 65 }, (_, n) => `download-none-${n}`);
		expect(await reasonOf(download(many))).toBe("400 too_many_dependencies");
		await c.host.client.call("cancelTask", { params: { task_id: first } });
		expect(await c.ended(second)).toMatchObject({
			status: "failed",
			error: { code: "DEPENDENCY_FAILED", details: { root: first } },
		});
		expect(await reasonOf(download([first]))).toBe("424 dependency_failed");
	},
	LIMIT_MS,
);

test(
	"the configuration of all queues changes with one call, and that of one node alone",
	async () => {
		await using c = await localCluster({ files });
		const changed = await c.host.client.call("configureQueue", { body: { max_concurrent_tasks: 7 } });
		expect(Object.values(changed.nodes ?? {}).map((config) => config.max_concurrent_tasks)).toEqual([
			7, 7, 7,
		]);
		await c.host.client.call("configureQueue", {
			query: { node: "node1" },
			body: { max_concurrent_tasks: 3 },
		});
		await c.node("node1").stop();
		await c.node("node1").start();
		await until("node1 is back", async () => {
			const { nodes = {} } = await c.host.client.call("queueConfig", {});
			return nodes["node1"]?.max_concurrent_tasks === 3 && nodes["node2"]?.max_concurrent_tasks === 7;
		});
		await c.node("node2").stop();
		const partly = await c.host.client.call("configureQueue", { body: { resource_tracking: false } });
		expect(partly.missing_nodes).toEqual(["node2"]);
	},
	LIMIT_MS,
);

test(
	"the host's stream has the changes of every queue once, over a cut and over a node that was away",
	async () => {
		await using c = await localCluster({ files });
		const seen: string[] = [];
		let lastId: string | undefined;
		/** Reads on after the last event until `done`, then hangs up. */
		const read = async (done: () => boolean): Promise<void> => {
			const after = lastId === undefined ? {} : { headers: { "last-event-id": lastId } };
			const response = await c.host.client.open("queueEvents", after);
			for await (const event of readEvents(response.body as ReadableStream<Uint8Array>)) {
				lastId = event.id ?? lastId;
				if (event.event === "task") {
					const { node, task_id, state } = JSON.parse(event.data) as Record<string, string>;
					seen.push(`${node} ${task_id} ${state}`);
				}
				if (done()) return;
			}
		};
		const opened = (id: string | undefined): boolean =>
			["host", "node1", "node2"].every((name) => id?.includes(name));
		await read(() => opened(lastId));
		const first = await c.download(MODEL, "node1:disk");
		const second = await c.download(MODEL, "node2:disk");
		const ends = (task: TaskDocument): string => `${task.node} ${task.task_id} completed`;
		await read(() => seen.includes(ends(first)) && seen.includes(ends(second)));
		expect(seen.filter((line) => line.includes(first.task_id))).toEqual([
			`node1 ${first.task_id} pending`,
			`node1 ${first.task_id} running`,
			`node1 ${first.task_id} completed`,
		]);
		await c.node("node1").stop();
		await c.node("node1").start();
		const third = await c.download(MODEL, "node1:dram");
		await read(() => seen.includes(ends(third)));
		expect(new Set(seen).size).toBe(seen.length);
		expect(seen.filter((line) => line.includes(third.task_id))).toHaveLength(3);
	},
	LIMIT_MS,
);

test(
	"the stream of a node's task comes through the host and ends with the task",
	async () => {
		await using c = await localCluster({ files });
		const id = await slowDownload(c, "node2:disk");
		const response = await c.host.client.open("taskEvents", { params: { task_id: id } });
		const events: string[] = [];
		for await (const { event, data } of readEvents(response.body as ReadableStream<Uint8Array>)) {
			const { task_id, node, status } = JSON.parse(data) as TaskDocument;
			expect({ task_id, node }).toEqual({ task_id: id, node: "node2" });
			events.push(`${event} ${status}`);
			// Once: it may be said to run again while it is being cancelled.
			if (status === "running" && events.filter((one) => one.endsWith("running")).length === 1)
				await c.host.client.call("cancelTask", { params: { task_id: id } });
		}
		expect(events.at(-1)).toBe("end cancelled");
	},
	LIMIT_MS,
);

test(
	"parts of operations come from the host alone, each once, and not under an older token",
	async () => {
		await using c = await localCluster({ files });
		await c.download(MODEL, "node1:disk");
		const { client: admin, url } = c.node("node1");
		const host = createApiClient({ baseUrl: url, token: () => c.host.assertionFor("node1") });
		const operation = "copy-tiny-none/part";
		const send = (as: typeof host, text: string) =>
			as.call("copyModel", {
				params,
				body: { source_device: "disk", target_device: "dram" },
				headers: { [OPERATION_HEADER]: text },
			});
		const token = { operation, host_epoch: 5, n: 2 };
		expect(await reasonOf(send(admin, formatToken(token)))).toBe("403 not_your_operation");
		expect(await reasonOf(send(host, "5.2"))).toBe("400 bad_operation_token");
		const { task_id } = await send(host, formatToken(token));
		expect((await send(host, formatToken(token))).task_id).toBe(task_id);
		expect(await reasonOf(send(host, formatToken({ ...token, n: 1 })))).toBe("409 stale_token");
		expect(await host.call("followPart", { query: token })).toMatchObject({ ...token, task: { task_id } });
		expect(await reasonOf(admin.call("followPart", { query: token }))).toBe("403 role_not_allowed");
		expect(await reasonOf(host.call("revokePart", { body: { ...token, host_epoch: 4 } }))).toBe(
			"409 stale_token",
		);
	},
	LIMIT_MS,
);
