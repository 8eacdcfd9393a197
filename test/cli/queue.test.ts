import { describe, expect, test } from "bun:test";
import { formatEvent } from "../../src/agent/http/event-stream.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import type { ObstacleBody, TaskEventBody } from "../../src/schema/queue.ts";
import { waitSentence } from "../../src/cli/render/waits.ts";
import { type SeenRequest, fakeAgent } from "./support/fake-agent.ts";
import { NOW_MS, run } from "./support/fake-world.ts";
import { DONE, SUBMITTED, sampleTask } from "./support/samples.ts";

const NOW_S = NOW_MS / 1000;
const TASK = "download-tiny-k3v9x2ma";
const CONFIG = {
	max_concurrent_tasks: 4,
	priority_levels: ["critical" as const, "high" as const, "normal" as const, "low" as const],
	resource_tracking: true,
};
const COUNTS = { pending: 2, running: 1, completed: 3 };
const STATUS = {
	queue_config: CONFIG,
	task_queue: COUNTS,
	tasks: [sampleTask()],
	total: 1,
	next_cursor: null,
};

/** A stream of the agent; `rest` leaves it open. */
function stream(events: readonly { id?: string; event: string; data: unknown }[], rest: "open" | "closed") {
	const encoder = new TextEncoder();
	return new Response(
		new ReadableStream({
			start(controller) {
				controller.enqueue(encoder.encode(":\n\n"));
				for (const event of events) controller.enqueue(encoder.encode(formatEvent(event)));
				if (rest === "closed") controller.close();
			},
		}),
	);
}

function change(to: Partial<TaskEventBody> = {}): TaskEventBody {
	return {
		id: 7,
		task_id: TASK,
		task_type: "download",
		model_name: "acme/tiny",
		node: "node1",
		from: "pending",
		status: "running",
		state: "running",
		attempt: 1,
		reason: null,
		at: NOW_S,
		...to,
	};
}

describe("what is asked for", () => {
	const asked = async (
		line: string,
		route: "queueStatus" | "queueHistory",
	): Promise<SeenRequest["query"]> => {
		const history = { tasks: [DONE], next_cursor: null };
		const agent = fakeAgent({ queueStatus: STATUS, queueHistory: history });
		expect((await run(line.split(" "), { agent })).code).toBe(0);
		return agent.only(route).query;
	};

	test("filters go to the agent, which has all tasks", async () => {
		const flags = "--type copy --priority high --node node2";
		const sent = { type: "copy", priority: "high", node: "node2" };
		expect(await asked(`queue tasks --status pending ${flags}`, "queueStatus")).toEqual({
			...sent,
			status: "pending",
			limit: "100",
		});
		expect(await asked(`queue status --status running ${flags}`, "queueStatus")).toEqual({
			...sent,
			status: "running",
			limit: "20",
		});
		expect(await asked(`queue history --status failed ${flags}`, "queueHistory")).toEqual({
			...sent,
			status: "failed",
			limit: "50",
		});
	});

	test("a page that is not all of it says so, and how to go on with the same question", async () => {
		const agent = fakeAgent({ queueStatus: { ...STATUS, total: 5432, next_cursor: "abc" } });
		const { stderr } = await run(["queue", "tasks", "--node", "node1"], { agent });
		expect(stderr).toContain("1 of 5432 tasks.");
		expect(stderr).toContain("gswarm queue tasks --cursor abc --node node1");
	});

	test("nodes that did not answer are named", async () => {
		const away = { missing_nodes: ["node2", "node3"] };
		const agent = fakeAgent({
			queueStatus: { ...STATUS, ...away },
			queueHistory: { tasks: [DONE], next_cursor: null, ...away },
		});
		for (const command of ["tasks", "status", "history"]) {
			const { code, stderr } = await run(["queue", command], { agent });
			expect({ command, code }).toEqual({ command, code: 0 });
			expect(stderr).toContain("Without node2, node3, which do not answer.");
		}
	});
});

test("queue status of a cluster has a line for each queue", async () => {
	const nodes = {
		host: { queue_config: CONFIG, task_queue: { pending: 0, running: 0, completed: 1 } },
		node1: {
			queue_config: { ...CONFIG, max_concurrent_tasks: 8 },
			task_queue: { pending: 2, running: 1, completed: 2 },
		},
	};
	const { stdout } = await run(["queue", "status"], {
		agent: fakeAgent({ queueStatus: { ...STATUS, nodes } }),
	});
	expect(stdout).toMatch(/host +0 +0 of 4 +1\n/);
	expect(stdout).toMatch(/node1 +2 +1 of 8 +2\n/);
	expect(stdout).toMatch(/all +2 +1 +3\n/);
});

describe("why a task waits", () => {
	const OBSTACLES: readonly (readonly [ObstacleBody, string])[] = [
		[
			{
				kind: "reservation",
				key: "model:acme/tiny@node1:disk",
				mode: "exclusive",
				held_by: [{ task_id: "copy-tiny-1", mode: "shared", since: NOW_S - 90, eta_s: 40 }],
				promised_to: [{ task_id: "delete-tiny-2", mode: "exclusive" }],
			},
			"acme/tiny on node1:disk, for itself alone; copy-tiny-1 has had it for 1m30s and needs about 40 s more; delete-tiny-2 has waited longer and gets it first",
		],
		[
			{
				kind: "reservation",
				key: "device:gpu0",
				mode: "shared",
				held_by: [{ task_id: "serve-x-1", mode: "exclusive", since: null, eta_s: null }],
				promised_to: [],
			},
			"the device gpu0; serve-x-1 has had it alone",
		],
		[
			{ kind: "dependency", task_id: "download-a-1", status: "running" },
			"download-a-1 to complete; it is running",
		],
		[
			{
				kind: "space",
				key: "bytes:disk",
				needed: 5e9,
				capacity: 8e9,
				reserved: 6e9,
				held_by: ["download-b-1"],
			},
			"5 GB on disk; of 8 GB that tasks may use 6 GB are for download-b-1",
		],
		[{ kind: "slots", running: 4, limit: 4 }, "a free slot; 4 run, and 4 may"],
		[{ kind: "line", ahead: 1 }, "its turn; 1 task comes first"],
		[{ kind: "line", ahead: 3 }, "its turn; 3 tasks come first"],
	];
	for (const [obstacle, sentence] of OBSTACLES) {
		test(`${obstacle.kind}: ${sentence.slice(0, 50)}`, () => {
			expect(waitSentence(obstacle, NOW_MS)).toBe(sentence);
		});
	}

	test("a wait for a time says until when, and after what", () => {
		const error = { code: "NETWORK_ERROR" as const, message: "The hub did not answer.", details: {} };
		const sentence = (why: "error" | "space" | "host"): string =>
			waitSentence({ kind: "retry", until: NOW_S + 12, why, error }, NOW_MS);
		expect(sentence("error")).toMatch(/^its next attempt at .+, in 12 s, after: The hub did not answer\.$/);
		expect(sentence("space")).toStartWith("room; it looks again at ");
		expect(sentence("host")).toStartWith("the host; it asks again at ");
	});

	test("queue show tells all of it, and nothing twice", async () => {
		const task = sampleTask({ status: "pending", phase: "queued", waiting_for: "model:acme/tiny@disk" });
		const obstacles = OBSTACLES.slice(0, 3).map(([obstacle]) => obstacle);
		const agent = fakeAgent({ getTask: { ...task, obstacles } });
		const { stdout } = await run(["queue", "show", TASK], { agent });
		expect(stdout).toMatch(/Waits for +acme\/tiny on node1:disk, for itself alone; copy-tiny-1/);
		expect(stdout).toMatch(/and for +download-a-1 to complete; it is running/);
		expect(stdout).not.toContain("waiting for model:");
	});
});

describe("queue retry", () => {
	test("waits for the new task and exits as it does", async () => {
		const agent = fakeAgent({ retryTask: { ...SUBMITTED, task_id: "download-tiny-new" }, getTask: DONE });
		const { code, stderr } = await run(["queue", "retry", TASK], { agent });
		expect(code).toBe(0);
		expect(agent.only("retryTask").params).toEqual({ task_id: TASK });
		expect(agent.only("getTask").params).toEqual({ task_id: "download-tiny-new" });
		expect(stderr).toContain("download-tiny-new is done");
	});

	test("what did not fail is refused with exit 4 and the agent's words", async () => {
		const refused = new GswarmError("CONFLICT", "Task x cannot be retried: it is completed.", {
			reason: "not_failed",
			hint: "Only failed and cancelled tasks can be retried.",
		});
		const agent = fakeAgent({ retryTask: () => Promise.reject(refused) });
		const { code, stderr } = await run(["queue", "retry", TASK], { agent });
		expect(code).toBe(4);
		expect(stderr).toContain("Only failed and cancelled tasks can be retried.");
	});
});

describe("queue config", () => {
	test("without flags it shows every queue and changes nothing", async () => {
		const agent = fakeAgent({ queueConfig: { ...CONFIG, nodes: { host: CONFIG, node1: CONFIG } } });
		const { stdout } = await run(["queue", "config"], { agent });
		expect(stdout).toMatch(/node1 +4 +critical, high, normal, low +tracked/);
		expect(agent.seen.some(({ route }) => route === "configureQueue")).toBe(false);
	});

	test("flags are what is changed, and nothing beside them", async () => {
		const agent = fakeAgent({ configureQueue: { ...CONFIG, max_concurrent_tasks: 8 } });
		const line = "queue config --max-concurrent-tasks 8 --resource-tracking off --node node1";
		expect((await run(line.split(" "), { agent })).code).toBe(0);
		expect(agent.only("configureQueue")).toMatchObject({
			query: { node: "node1" },
			body: { max_concurrent_tasks: 8, resource_tracking: false },
		});
		const levels = fakeAgent({ configureQueue: CONFIG });
		await run(["queue", "config", "--priority-levels", "high,low"], { agent: levels });
		expect(levels.only("configureQueue").body).toEqual({ priority_levels: ["high", "low"] });
	});

	test("a level that is none is a usage error", async () => {
		const agent = fakeAgent({});
		expect((await run(["queue", "config", "--priority-levels", "high,urgent"], { agent })).code).toBe(2);
		expect(agent.seen).toEqual([]);
	});

	test("a node that did not hear of the change makes it a failure that says so", async () => {
		const agent = fakeAgent({ configureQueue: { ...CONFIG, missing_nodes: ["node2"] } });
		const { code, stderr } = await run(["queue", "config", "--max-concurrent-tasks", "2"], { agent });
		expect(code).toBe(6);
		expect(stderr).toContain("Without node2, which does not answer.");
	});
});

describe("--watch", () => {
	test("without a terminal each change is a line, until Ctrl-C ends it with 130", async () => {
		const events = [
			{ id: "1", event: "open", data: { node: "node1" } },
			{ id: "2", event: "task", data: change() },
			{ event: "progress", data: { task_id: TASK } },
			{ id: "3", event: "task", data: change({ state: "retry_wait", reason: "disk_full", attempt: 2 }) },
		];
		const agent = fakeAgent({ queueStatus: STATUS, queueEvents: () => stream(events, "open") });
		let lines = "";
		const outcome = await run(["queue", "tasks", "--watch", "--timeout", "5s"], {
			agent,
			onSleep: (_ms, { interrupt }) => interrupt(),
		});
		lines = outcome.stdout;
		expect(outcome.code).toBe(130);
		expect(lines.trim().split("\n")).toEqual([
			expect.stringMatching(/ {2}node1 {2}download-tiny-k3v9x2ma {2}pending → running$/),
			expect.stringMatching(/pending → retry_wait \(disk_full\), attempt 2$/),
		]);
		expect(lines).not.toContain("\u001b");
	});

	test("--json makes each line one object, and filters choose among them", async () => {
		const events = [change(), change({ task_type: "copy" }), change({ status: "failed", state: "failed" })];
		const agent = fakeAgent({
			queueEvents: () =>
				stream(
					events.map((data, at) => ({ id: String(at), event: "task", data })),
					"open",
				),
		});
		const line = "queue tasks --watch --json --type download --status running --timeout 2s".split(" ");
		const { code, stdout } = await run(line, { agent });
		expect(code).toBe(124);
		expect(
			stdout
				.trim()
				.split("\n")
				.map((text) => JSON.parse(text)),
		).toEqual([events[0]]);
	});

	test("a stream that is cut goes on after the last change that came", async () => {
		const ids: (string | null)[] = [];
		const ended = change({ status: "completed", state: "completed" });
		const parts = [
			stream([{ id: "a=1", event: "task", data: change() }], "closed"),
			stream([{ id: "a=2", event: "task", data: ended }], "closed"),
		];
		const agent = fakeAgent({});
		const send = (request: Request): Promise<Response> => {
			ids.push(request.headers.get("last-event-id"));
			const part = parts.shift();
			if (part === undefined) throw new Error("asked too often");
			return Promise.resolve(part);
		};
		const { stdout } = await run(["queue", "tasks", "--watch"], {
			agent: { ...agent, send },
			onSleep: (_ms, { interrupt }) => {
				if (parts.length === 0) interrupt();
			},
		});
		expect(ids).toEqual([null, "a=1"]);
		expect(stdout.trim().split("\n")).toHaveLength(2);
	});

	test("on a terminal the picture is drawn anew and fits its height", async () => {
		const many = Array.from({ length: 60 }, (_, at) => sampleTask({ task_id: `download-tiny-${at}` }));
		const agent = fakeAgent({
			queueStatus: { ...STATUS, tasks: many, total: 60 },
			queueEvents: () => stream([], "open"),
		});
		const { code, stderr } = await run(["queue", "tasks", "--watch"], {
			agent,
			columns: 100,
			onSleep: (elapsedMs, { interrupt }) => {
				if (elapsedMs > 7000) interrupt();
			},
		});
		expect(code).toBe(130);
		const frames = stderr.split("\r\u001b[");
		expect(frames.length).toBeGreaterThan(2);
		expect(Math.max(...frames.map((frame) => frame.split("\n").length))).toBeLessThanOrEqual(26);
		expect(stderr).toMatch(/… \d+ more lines/);
	});

	test("an agent without the stream says so instead of watching nothing", async () => {
		const { code } = await run(["queue", "tasks", "--watch", "--timeout", "5s"], { agent: fakeAgent({}) });
		expect(code).toBe(3);
	});
});

describe("waiting for a task by its stream", () => {
	const task = (bytes: number) =>
		sampleTask({
			progress: { bytes_done: bytes, bytes_total: 64e6, rate_bytes_per_s: 1e6, eta_s: 3 },
		});

	test("nobody is asked again and again, and the end is known when it comes", async () => {
		const events = [
			{ event: "task", data: task(1e6) },
			{ event: "task", data: task(2e6) },
			{ event: "end", data: DONE },
		];
		const agent = fakeAgent({ downloadModel: SUBMITTED, taskEvents: () => stream(events, "closed") });
		const { code, stderr } = await run(["pull", "acme/tiny"], { agent });
		expect(code).toBe(0);
		expect(stderr).toContain("Downloaded acme/tiny");
		expect(agent.seen.map(({ route }) => route)).toEqual(["downloadModel", "taskEvents"]);
	});

	test("a stream that is cut is opened again", async () => {
		let opened = 0;
		const agent = fakeAgent({
			downloadModel: SUBMITTED,
			taskEvents: () =>
				++opened < 3
					? stream([{ event: "task", data: task(opened) }], "closed")
					: stream([{ event: "end", data: DONE }], "closed"),
		});
		expect((await run(["pull", "acme/tiny"], { agent })).code).toBe(0);
		expect(opened).toBe(3);
	});

	test("--timeout and Ctrl-C end the waiting for a stream that says nothing", async () => {
		const agent = fakeAgent({
			downloadModel: SUBMITTED,
			taskEvents: () => stream([{ event: "task", data: task(1) }], "open"),
		});
		const late = await run(["pull", "acme/tiny", "--timeout", "5s"], { agent });
		expect({ code: late.code, elapsedMs: late.elapsedMs }).toEqual({ code: 124, elapsedMs: 5000 });
		const left = await run(["pull", "acme/tiny"], { agent, onSleep: (_ms, { interrupt }) => interrupt() });
		expect(left.code).toBe(130);
	});
});

test("queue cancel does not claim an end that it has not seen", async () => {
	const cancel = async (status: "running" | "cancelled") =>
		(
			await run(["queue", "cancel", "download-tiny-k3v9x2ma"], {
				agent: fakeAgent({ cancelTask: sampleTask({ status }) }),
			})
		).stderr;
	expect(await cancel("cancelled")).toContain("Cancelled download-tiny-k3v9x2ma.");
	expect(await cancel("running")).toContain("it goes on for the others");
});
