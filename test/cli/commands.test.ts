import { describe, expect, test } from "bun:test";
import type { RouteId } from "../../src/api/contract.ts";
import { fakeAgent } from "./support/fake-agent.ts";
import { NOW_MS, run } from "./support/fake-world.ts";
import { DETAIL, DONE, LOCATION, MODEL, NODE, SERVICE, SUBMITTED, sampleTask } from "./support/samples.ts";

/** Where the fake agent is. */
const BASE_URL = "http://agent.test";
const NOW_S = NOW_MS / 1000;
const LIST = { models: [MODEL], total: 1, page: 1, per_page: 200 };
const QUEUE = {
	queue_config: { max_concurrent_tasks: 4, priority_levels: ["critical" as const], resource_tracking: true },
	task_queue: { pending: 1, running: 1, completed: 3 },
	tasks: [sampleTask()],
	total: 1,
	next_cursor: null,
};
const HEALTH = {
	status: "ok" as const,
	details: {
		role: "host" as const,
		name: "host",
		version: "0.1.0",
		uptime_s: 65,
		cluster_id: "c1",
		nodes: { node1: "alive" },
		problems: [],
	},
};

/** [command line, the route it calls, the answer, the names that -o name prints, what the table holds]. */
const READING: readonly (readonly [string, RouteId, object, readonly string[], readonly string[]])[] = [
	[
		"model list",
		"listModels",
		LIST,
		["acme/tiny"],
		["MODEL", "acme/tiny", "64 MB", "node1:disk, node2:dram"],
	],
	["ls", "listModels", LIST, ["acme/tiny"], ["acme/tiny"]],
	[
		"model show acme/tiny",
		"getModel",
		DETAIL,
		["acme/tiny"],
		["hf:acme/tiny", "license", "mit", "node2:dram", "suspect"],
	],
	[
		"model locations acme/tiny",
		"listLocations",
		{ model_name: "acme/tiny", locations: [LOCATION] },
		["node1:disk"],
		["DEVICE", "node1:disk", "0123456789ab"],
	],
	[
		"node list",
		"listNodes",
		{ nodes: [NODE], total: 1 },
		["node1"],
		["disk 800 GB, dram 32 GB", "2 running, 1 waiting"],
	],
	[
		"service list",
		"listServices",
		{ services: [SERVICE], total: 1 },
		["svc-tiny-node2-dram-910b"],
		["acme/tiny", "http://127.0.0.1:8001", "12"],
	],
	["ps", "listServices", { services: [SERVICE], total: 1 }, ["svc-tiny-node2-dram-910b"], ["ready"]],
	[
		"service status svc-tiny-node2-dram-910b",
		"serviceStatus",
		SERVICE,
		["svc-tiny-node2-dram-910b"],
		["Ready in", "0.8 s", "4711"],
	],
	["queue status", "queueStatus", QUEUE, ["download-tiny-k3v9x2ma"], ["1 of at most 4", "downloading 57%"]],
	["queue tasks", "queueStatus", QUEUE, ["download-tiny-k3v9x2ma"], ["TASK", "downloading 57%"]],
	[
		"queue show download-tiny-k3v9x2ma",
		"getTask",
		sampleTask(),
		["download-tiny-k3v9x2ma"],
		["57%, 37 MB of 64 MB, 110 MB/s", "1 of 5"],
	],
	[
		"queue history",
		"queueHistory",
		{ tasks: [DONE], next_cursor: null },
		["download-tiny-k3v9x2ma"],
		["completed", "64 MB", "78 s ago"],
	],
	["health", "health", HEALTH, ["ok"], ["host", "1m05s", "Node node1"]],
];

describe("commands that read", () => {
	for (const [line, route, answer, names, shown] of READING) {
		const words = line.split(" ");

		test(`${line} shows what it is about`, async () => {
			const { code, stdout, stderr } = await run(words, { agent: fakeAgent({ [route]: answer }) });
			expect(stderr).toBe("");
			expect(code).toBe(0);
			for (const part of shown) expect(stdout).toContain(part);
		});

		test(`${line} --json prints the answer unchanged, and nothing else`, async () => {
			const grown = { ...answer, field_of_a_later_version: { deep: [1.5, null, "ü"] } };
			const agent = fakeAgent({ [route]: grown });
			const { code, stdout, stderr } = await run([...words, "--json"], { agent });
			expect(JSON.parse(stdout)).toEqual(grown);
			expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
		});

		test(`${line} -o name and --quiet print names alone`, async () => {
			for (const flag of [["-o", "name"], ["--quiet"]]) {
				const { stdout } = await run([...words, ...flag], { agent: fakeAgent({ [route]: answer }) });
				expect(stdout).toBe(names.map((name) => `${name}\n`).join(""));
			}
		});

		test(`${line} -o yaml and -o wide are understood`, async () => {
			const yaml = await run([...words, "-o", "yaml"], { agent: fakeAgent({ [route]: answer }) });
			expect(Bun.YAML.parse(yaml.stdout)).toEqual(answer);
			const wide = await run([...words, "-o", "wide"], { agent: fakeAgent({ [route]: answer }) });
			for (const part of shown) expect(wide.stdout).toContain(part.slice(0, 12));
		});
	}

	const EMPTY: readonly (readonly [string, RouteId, object, string])[] = [
		["model list", "listModels", { models: [], total: 0, page: 1, per_page: 200 }, "model download"],
		["model list --type x", "listModels", { models: [], total: 0, page: 1, per_page: 200 }, "model list"],
		["model locations tiny", "listLocations", { model_name: "tiny", locations: [] }, "model download tiny"],
		["node list", "listNodes", { nodes: [], total: 0 }, "token create --join"],
		["service list", "listServices", { services: [], total: 0 }, "model list"],
		["queue tasks", "queueStatus", { ...QUEUE, tasks: [], total: 0 }, "queue history"],
		["queue history", "queueHistory", { tasks: [], next_cursor: null }, "model download"],
	];
	for (const [line, route, answer, next] of EMPTY) {
		test(`${line}: an empty list prints nothing as data and says what to do next`, async () => {
			const { code, stdout, stderr } = await run(line.split(" "), { agent: fakeAgent({ [route]: answer }) });
			expect({ code, stdout }).toEqual({ code: 0, stdout: "" });
			expect(stderr).toContain(`next: gswarm ${next}`);
		});
	}

	test("model list reads every page, and as JSON is one list of the same shape", async () => {
		const all = Array.from({ length: 450 }, (_, at) => ({ ...MODEL, model_name: `m${at}` }));
		const agent = fakeAgent({
			listModels: ({ query }: { query: Record<string, string> }) => {
				const [page, size] = [Number(query.page), Number(query.per_page)];
				return { models: all.slice((page - 1) * size, page * size), total: 450, page, per_page: size };
			},
		});
		const { stdout } = await run(["model", "list", "--json"], { agent });
		const body = JSON.parse(stdout) as { models: unknown[]; total: number };
		expect({ models: body.models.length, total: body.total, calls: agent.seen.length }).toEqual({
			models: 450,
			total: 450,
			calls: 3,
		});
	});

	test("model list says which copies cannot be used now", async () => {
		const damaged = { ...MODEL, unavailable_locations: ["node2:dram"] };
		const agent = fakeAgent({ listModels: { models: [damaged], total: 1, page: 1, per_page: 200 } });
		const { stdout } = await run(["model", "list"], { agent });
		expect(stdout).toContain("node1:disk, node2:dram (unavailable)");
	});

	test("model list --page asks for that page alone", async () => {
		const agent = fakeAgent({ listModels: { models: [MODEL], total: 45, page: 2, per_page: 20 } });
		const { stderr } = await run(["model", "list", "--page", "2"], { agent });
		expect(agent.only("listModels").query).toEqual({ page: "2", per_page: "20" });
		expect(stderr).toContain("1 of 45 models.");
	});

	test("queue history turns --since into a time and hands the cursor on", async () => {
		const agent = fakeAgent({ queueHistory: { tasks: [DONE], next_cursor: "abc" } });
		const line = ["queue", "history", "--since", "2h", "--status", "failed", "--cursor", "x", "--limit", "5"];
		const { stderr } = await run(line, { agent });
		expect(agent.only("queueHistory").query).toEqual({
			since: String(NOW_S - 7200),
			status: "failed",
			cursor: "x",
			limit: "5",
		});
		expect(stderr).toContain("next: gswarm queue history --cursor abc");
	});

	test("service logs prints the text without the escapes in it", async () => {
		const agent = fakeAgent({ serviceLogs: () => new Response("a\u001b[31mb\u001b]0;title\u0007c\nd\n") });
		const { stdout } = await run(["service", "logs", "svc-tiny-node2-dram-910b", "--lines", "7"], { agent });
		expect(stdout).toBe("abc\nd\n");
		expect(agent.only("serviceLogs").query).toEqual({ lines: "7" });
	});

	test("a degraded cluster is exit 1, with the reasons", async () => {
		const details = { ...HEALTH.details, problems: ["node node2 is dead"] };
		const agent = fakeAgent({ health: { status: "degraded", details } });
		const { code, stdout } = await run(["health"], { agent });
		expect(code).toBe(1);
		expect(stdout).toContain("node node2 is dead");
	});

	test("version tells the agent's version, and is no error without an agent", async () => {
		const { stdout } = await run(["version"], { agent: fakeAgent({ health: HEALTH }) });
		expect(stdout).toContain("Agent     0.1.0");
		const alone = await run(["version"]);
		expect(alone.code).toBe(0);
		expect(alone.stdout).toContain("none answers");
	});
});

describe("commands that change something", () => {
	test("model register sends the name, the source and the notes", async () => {
		const agent = fakeAgent({ registerModel: { ...DETAIL, model_name: "tiny" } });
		const line = ["model", "register", "tiny", "--source", "hf:acme/tiny", "--meta", "a=b=c", "--meta", "d="];
		const { code, stdout, stderr } = await run(line, { agent });
		expect({ code, stdout }).toEqual({ code: 0, stdout: "tiny\n" });
		expect(stderr).toContain("next: gswarm model download tiny");
		expect(agent.only("registerModel").body).toEqual({
			model_name: "tiny",
			source_url: "hf:acme/tiny",
			metadata: { a: "b=c", d: "" },
		});
	});

	test("token create prints the secret alone on stdout and the command for the other machine beside it", async () => {
		const agent = fakeAgent({
			createToken: {
				token: "GSW10::id.secret",
				token_id: "k3v9x2ma",
				expires_at: NOW_S + 600,
				uses: 2,
				command: "gswarm agent --join URL",
			},
		});
		const { stdout, stderr } = await run(["token", "create", "--join", "--ttl", "10m", "--uses", "2"], {
			agent,
		});
		expect(stdout).toBe("GSW10::id.secret\n");
		expect(stderr).toContain("gswarm agent --join URL");
		expect(stderr).toContain("10m00s");
		expect(stderr).not.toContain("secret");
		expect(agent.only("createToken").body).toEqual({ kind: "join", ttl_s: 600, uses: 2 });
	});

	test("token create without --join says which kind is missing", async () => {
		const { code, stderr } = await run(["token", "create"], { agent: fakeAgent({}) });
		expect(code).toBe(2);
		expect(stderr).toContain("gswarm token create --role user --name NAME");
		expect(stderr).toContain("gswarm token create --join");
	});

	test("queue cancel cancels", async () => {
		const agent = fakeAgent({ cancelTask: sampleTask({ status: "cancelled" }) });
		const { code, stderr } = await run(["queue", "cancel", "download-tiny-k3v9x2ma"], { agent });
		expect({ code, stderr }).toEqual({ code: 0, stderr: "Cancelled download-tiny-k3v9x2ma.\n" });
	});

	const COPY_FORMS = [
		"model copy acme/tiny --from node1:disk --to node2:disk",
		"model copy acme/tiny node1:disk node2:disk",
		"model copy acme/tiny --from node1:disk node2:disk",
		"model copy --to=node2:disk acme/tiny node1:disk",
	];
	for (const line of COPY_FORMS) {
		test(`${line}: both ends arrive`, async () => {
			const agent = fakeAgent({ copyModel: SUBMITTED, getTask: DONE });
			const { code } = await run(line.split(" "), { agent });
			expect(code).toBe(0);
			const { params, body } = agent.only("copyModel");
			expect(params).toEqual({ model_name: "acme/tiny" });
			expect(body).toEqual({ source_device: "node1:disk", target_device: "node2:disk" });
		});
	}

	test("model copy without an end says which", async () => {
		const { code, stderr } = await run(["model", "copy", "tiny", "--from", "node1:disk"], {
			agent: fakeAgent({}),
		});
		expect(code).toBe(2);
		expect(stderr).toContain("bring it to is missing");
		const three = await run(["model", "copy", "tiny", "disk", "dram", "--to", "disk1"], {
			agent: fakeAgent({}),
		});
		expect(three.stderr).toContain('"dram" is one device too many');
	});

	test("model move tells why the source stayed", async () => {
		const task = { ...DONE, result: { device: "node2:dram", source_kept: "last_durable_copy" } };
		const agent = fakeAgent({ moveModel: SUBMITTED, getTask: task });
		const { stderr } = await run(["model", "move", "tiny", "node2:disk", "node2:dram", "--keep-source"], {
			agent,
		});
		expect(stderr).toContain("the copy on node2:disk stays, it is the last one on a disk");
		expect(agent.only("moveModel").body).toMatchObject({ keep_source: true });
	});

	test("model serve prints the address as data and what to do with it beside it", async () => {
		const served = sampleTask({
			status: "completed",
			task_type: "serve",
			result: { url: "http://127.0.0.1:9" },
		});
		const agent = fakeAgent({ startService: { ...SUBMITTED, service_id: "svc-tiny-1" }, getTask: served });
		const line = "model serve tiny --device node1:dram --ctx 4096 --parallel 2 --port 9000";
		const { code, stdout, stderr } = await run(line.split(" "), { agent });
		expect({ code, stdout }).toEqual({ code: 0, stdout: "http://127.0.0.1:9\n" });
		expect(stderr).toContain("service stop svc-tiny-1");
		// Address and token of the agent asked, and the token on no command line.
		expect(stderr).toContain('eval "$(gswarm env)"');
		expect(stderr).toContain("curl $OPENAI_BASE_URL/chat/completions -H @-");
		expect(agent.only("startService").body).toEqual({
			model_name: "tiny",
			device: "node1:dram",
			port: 9000,
			config: { max_sequence_length: 4096, max_batch_size: 2 },
		});
	});

	test("without a port of its own the address is that of the agent asked, whose token is at hand", async () => {
		const result = { url: "http://127.0.0.1:9" };
		const getTask = sampleTask({ status: "completed", task_type: "serve", result });
		const agent = fakeAgent({ startService: { ...SUBMITTED, service_id: "svc-tiny-1" }, getTask });
		const { stdout } = await run(["model", "serve", "tiny", "--device", "node2:dram"], { agent });
		expect(stdout).toBe(`${BASE_URL}\n`);
	});

	test("a service may be named by the model that it serves, unless two serve it", async () => {
		const stopped = sampleTask({ status: "completed", task_type: "stop" });
		const other = { ...SERVICE, service_id: "svc-tiny-node1-disk-0001" };
		const one = fakeAgent({
			listServices: { services: [SERVICE], total: 1 },
			stopService: SUBMITTED,
			getTask: stopped,
		});
		expect((await run(["service", "stop", "acme/tiny"], { agent: one })).code).toBe(0);
		expect(one.only("stopService").params).toEqual({ service_id: SERVICE.service_id });
		const two = fakeAgent({ listServices: { services: [SERVICE, other], total: 2 } });
		const { code, stderr } = await run(["service", "stop", "acme/tiny"], { agent: two });
		expect(code).toBe(4);
		expect(stderr).toContain("svc-tiny-node1-disk-0001");
		const none = await run(["service", "stop", "tiny"], { agent: two });
		expect(none.code).toBe(3);
	});

	test("model delete says how many bytes are free again", async () => {
		const task = sampleTask({
			status: "completed",
			task_type: "delete",
			result: { freed_bytes: 64_000_000 },
		});
		const agent = fakeAgent({ deleteModel: SUBMITTED, getTask: task });
		const { code, stderr } = await run(["rm", "acme/tiny", "--device", "node1:disk", "--force"], { agent });
		expect(code).toBe(0);
		expect(stderr).toContain("64 MB are free again");
		expect(agent.only("deleteModel").query).toEqual({ device: "node1:disk", force: "true" });
	});

	const ANSWERS: readonly (readonly [string, string | undefined, readonly string[], boolean])[] = [
		["yes deletes", "y", [], true],
		["no deletes nothing", "n", [], false],
		["an empty answer deletes nothing", "", [], false],
		["--yes does not ask", undefined, ["--yes"], true],
		["--no-input is an error instead of a question", undefined, ["--no-input"], false],
	];
	for (const [title, input, flags, isDeleted] of ANSWERS) {
		test(`model delete on a terminal: ${title}`, async () => {
			const agent = fakeAgent({ deleteModel: SUBMITTED, getTask: DONE });
			const { code } = await run(["model", "delete", "tiny", ...flags], {
				agent,
				columns: 80,
				stdinIsTty: true,
				...(input === undefined ? {} : { input }),
			});
			expect(agent.seen.some((call) => call.route === "deleteModel")).toBe(isDeleted);
			expect(code).toBe(isDeleted ? 0 : flags.length > 0 ? 2 : 1);
		});
	}
});

describe("model download", () => {
	const script = { downloadModel: SUBMITTED, getTask: DONE };

	test("every flag reaches the API", async () => {
		const agent = fakeAgent(script);
		const line =
			"model download tiny --source hf:acme/tiny@v1 --to node2:disk --include *.gguf --include *.json --exclude x* " +
			"--all-files --type llm --priority high --bandwidth 100MB/s --no-verify";
		expect((await run(line.split(" "), { agent })).code).toBe(0);
		expect(agent.only("downloadModel")).toMatchObject({
			params: { model_name: "tiny" },
			body: {
				source_url: "hf:acme/tiny@v1",
				target_device: "node2:disk",
				include: ["*.gguf", "*.json"],
				exclude: ["x*"],
				all_files: true,
				model_type: "llm",
				priority: "high",
				bandwidth_limit: 100_000_000,
				verify_checksum: false,
			},
		});
	});

	const SOURCES = [
		["hf:acme/tiny", "acme/tiny"],
		["acme/tiny:Q4_K_M", "acme/tiny"],
		["https://example.org/models/Tiny-Q4.gguf", "Tiny-Q4"],
	] as const;
	for (const [source, name] of SOURCES) {
		test(`${source} as the name is the source of ${name}`, async () => {
			const agent = fakeAgent(script);
			await run(["pull", source], { agent });
			expect(agent.only("downloadModel")).toMatchObject({
				params: { model_name: name },
				body: { source_url: source },
			});
		});
	}

	test("org/name is a registered name first, and a hub repository when it is none", async () => {
		const registered = fakeAgent(script);
		await run(["pull", "acme/tiny"], { agent: registered });
		expect(registered.only("downloadModel").body).toEqual({});
		const { modelNotFound } = await import("../../src/schema/errors.ts");
		const unknown = fakeAgent({
			...script,
			downloadModel: ({ body }: { body: unknown }) => {
				if (!("source_url" in (body as object))) throw modelNotFound("acme/tiny");
				return SUBMITTED;
			},
		});
		expect((await run(["pull", "acme/tiny"], { agent: unknown })).code).toBe(0);
		expect(unknown.seen.at(1)?.body).toEqual({ source_url: "hf:acme/tiny" });
	});

	test("a bare name that nobody registered is exit 3 with examples", async () => {
		const { modelNotFound } = await import("../../src/schema/errors.ts");
		const agent = fakeAgent({
			downloadModel: () => {
				throw modelNotFound("tiny");
			},
		});
		const { code, stderr, stdout } = await run(["pull", "tiny"], { agent });
		expect({ code, stdout }).toEqual({ code: 3, stdout: "" });
		expect(stderr).toContain("gswarm model download hf:ORG/tiny");
		expect(agent.seen.length).toBe(1);
	});

	test("--no-wait prints the task's id alone as data", async () => {
		const agent = fakeAgent({ downloadModel: { ...SUBMITTED, position: 3, estimated_time: 90 } });
		const { code, stdout, stderr } = await run(["pull", "acme/tiny", "--no-wait"], { agent });
		expect({ code, stdout }).toEqual({ code: 0, stdout: "download-tiny-k3v9x2ma\n" });
		// Position 1 is the next one.
		expect(stderr).toContain("behind 2 others, done in about 1m30s.");
		const next = fakeAgent({ downloadModel: { ...SUBMITTED, position: 1 } });
		const { stderr: alone } = await run(["pull", "acme/tiny", "--no-wait"], { agent: next });
		expect(alone).toContain("Queued as download-tiny-k3v9x2ma.");
		expect(stderr).toContain("queue show download-tiny-k3v9x2ma --wait");
		const json = await run(["pull", "acme/tiny", "--no-wait", "--json"], {
			agent: fakeAgent({ downloadModel: SUBMITTED }),
		});
		expect(JSON.parse(json.stdout)).toEqual(SUBMITTED);
	});
});

test("model serve prints no address of a service that did not come up", async () => {
	const error = { code: "TASK_FAILED", message: "The engine could not load it.", details: {} };
	const getTask = sampleTask({ status: "failed", error });
	const { code, stdout, stderr } = await run(["model", "serve", "acme/tiny"], {
		agent: fakeAgent({ startService: { ...SUBMITTED, service_id: "svc-1" }, getTask }),
	});
	expect([code, stdout.trim()]).toEqual([1, ""]);
	expect(stderr).toContain("The engine could not load it.");
});

test("model adopt --dry-run names the command that does it, with what was asked for", async () => {
	const one = {
		path: "/srv/tiny",
		kind: "folder",
		model_name: "tiny",
		revision: null,
		refs: [],
		source_url: "file:///srv/tiny",
		file_count: 1,
		size_bytes: 1,
		problem: null,
		adopted_as: null,
	};
	const findAdoptable = { node: "node2", device: "node2:disk", found: [one] };
	const line = ["model", "adopt", "/srv/tiny", "--node", "node2", "--as", "acme/x", "--link", "--dry-run"];
	const { stderr } = await run(line, { agent: fakeAgent({ findAdoptable }) });
	expect(stderr).toContain("gswarm model adopt /srv/tiny --node node2 --as acme/x --link");
});
