/** What a source has and what a download would do, asked through host and node without downloading. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { createApiClient } from "../../src/api/client.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { type LocalCluster, localCluster, modelFiles } from "../support/cluster.ts";

let cluster: LocalCluster;

beforeAll(async () => {
	cluster = await localCluster({
		nodes: ["node1", "node2"],
		files: {
			"acme/tiny": { ...modelFiles(100_000), "README.md": "---\nlicense: mit\n---\n" },
			"acme/gguf": { "tiny-Q4_0.gguf": "four", "tiny-Q8_0.gguf": "eight eight", "config.json": "{}" },
		},
	});
}, 60_000);
afterAll(() => cluster[Symbol.asyncDispose]());

const inspect = (body: {
	source_url?: string;
	model_name?: string;
	target_device?: string;
	include?: string[];
}) => cluster.host.client.call("inspectSource", { body });
const failure = (work: Promise<unknown>): Promise<Record<string, unknown>> =>
	work.then(
		() => ({ reason: "nothing was refused" }),
		(error: unknown) => asGswarmError(error) as unknown as Record<string, unknown>,
	);
const tasks = async (): Promise<number> =>
	(await cluster.host.client.call("queueHistory", {})).tasks.length +
	(await cluster.host.client.call("queueStatus", {})).tasks.length;

test("the host lets a node look at a source, and there is no task, no model and no file for it", async () => {
	const found = await inspect({ source_url: "hf:acme/tiny" });
	expect(found).toMatchObject({
		source_url: `hf:acme/tiny@${cluster.hub.commitOf("acme/tiny")}`,
		suggested_name: "acme/tiny",
		// The weights of this one are noise: what they are is not known, the notes say why, and the rest is told.
		format: "unknown",
		license: "mit",
		file_count: 3,
		plan: null,
		quantisations: null,
	});
	expect(found.files.map(({ path, size_bytes }) => [path, size_bytes])).toContainEqual(["config.json", 2]);
	expect(found.notes.join()).toContain("corrupt_safetensors");
	expect(await tasks()).toBe(0);
	expect((await cluster.host.client.call("listModels", {})).total).toBe(0);
	expect(cluster.node("node1").files()).toEqual([]);
});

test("who only looks sees every quantisation; a plan has to name one", async () => {
	const found = await inspect({ source_url: "hf:acme/gguf" });
	expect(found.quantisations).toEqual({ Q4_0: 4, Q8_0: 11 });
	expect(found.file_count).toBe(3);
	const refused = await failure(inspect({ source_url: "hf:acme/gguf", model_name: "acme/gguf" }));
	expect(refused).toMatchObject({ code: "INVALID_REQUEST", reason: "ambiguous_quantisation" });
	const one = await inspect({ source_url: "hf:acme/gguf:Q4_0", model_name: "acme/gguf" });
	expect(one.plan).toMatchObject({ model_name: "acme/gguf", bytes_to_fetch: 6, already_there: false });
});

test("a plan says where, how much, whether it fits, and what is there already", async () => {
	const plan = async (target_device: string) =>
		(await inspect({ source_url: "hf:acme/tiny", model_name: "acme/tiny", target_device })).plan;
	const before = await plan("node2:disk");
	expect(before).toMatchObject({
		device: "node2:disk",
		already_there: false,
		other_locations: [],
		fits: true,
		task_id: null,
	});
	expect(before?.bytes_to_fetch).toBeGreaterThan(100_000);
	expect(before?.required).toBe(before?.bytes_to_fetch ?? 0);
	await cluster.download("acme/tiny", "node1:disk");
	expect(await plan("node1:disk")).toMatchObject({ already_there: true, bytes_to_fetch: 0, required: 0 });
	expect(await plan("node2:disk")).toMatchObject({ already_there: false, other_locations: ["node1:disk"] });
	expect(await plan("node1:dram")).toMatchObject({ other_locations: ["node1:disk"] });
}, 60_000);

test("what does not fit is said, not refused", async () => {
	const { plan } = await inspect({
		model_name: "big",
		source_url: "hf:acme/tiny",
		target_device: "node1:disk",
	});
	const { available = 0 } = plan ?? {};
	expect(available).toBeGreaterThan(0);
	expect(plan?.fits).toBe((plan?.required ?? 0) <= available);
});

test.each<[string, Parameters<typeof inspect>[0], string, string, number]>([
	["nothing", {}, "INVALID_REQUEST", "bad_field", 400],
	["a repository that is not there", { source_url: "hf:acme/none" }, "FORBIDDEN", "auth", 403],
	[
		"a revision that is not there",
		{ source_url: "hf:acme/tiny@none" },
		"NOT_FOUND",
		"revision_not_found",
		404,
	],
	["a scheme of no source", { source_url: "ftp://x/y" }, "INVALID_REQUEST", "scheme_not_allowed", 400],
	[
		"a file of this machine",
		{ source_url: "file:///etc/passwd" },
		"INVALID_REQUEST",
		"scheme_not_allowed",
		400,
	],
	["this machine", { source_url: "http://127.0.0.1:1/x" }, "FORBIDDEN", "address_blocked", 403],
	["a metadata service", { source_url: "http://169.254.169.254/x" }, "FORBIDDEN", "address_blocked", 403],
	[
		"a device of nobody",
		{ model_name: "acme/tiny", target_device: "node9:disk" },
		"NOT_FOUND",
		"node_not_found",
		404,
	],
	["a bare name", { model_name: "unknown" }, "MODEL_NOT_FOUND", "model_not_found", 404],
	["no files", { source_url: "hf:acme/tiny", include: ["*.x"] }, "INVALID_REQUEST", "no_files_match", 400],
])("a look at %s is refused as what it is", async (_what, body, code, reason, status) => {
	const refused = await failure(inspect(body));
	expect([refused["code"], refused["reason"], refused["status"]]).toEqual([code, reason, status]);
});

test("a node does not look for another node", async () => {
	const { client } = cluster.node("node1");
	const body = { source_url: "hf:acme/tiny", model_name: "acme/tiny", target_device: "node2:disk" };
	expect(await failure(client.call("inspectSource", { body }))).toMatchObject({ reason: "wrong_node" });
});

test("nobody without a token makes a node ask anything", async () => {
	cluster.hub.clearLog();
	const stranger = createApiClient({ baseUrl: cluster.host.url, token: () => undefined });
	const refused = await failure(stranger.call("inspectSource", { body: { source_url: "hf:acme/tiny" } }));
	expect(refused).toMatchObject({ code: "UNAUTHORIZED" });
	expect(cluster.hub.log()).toEqual([]);
});
