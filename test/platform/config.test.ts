import { expect, test } from "bun:test";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Config, loadConfig, readAgentEnvironment } from "../../src/platform/config.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { tempDir } from "../support/temp-dir.ts";

const DEFAULTS: Config = {
	cluster: {},
	nodes: [],
	import_folders: [],
	sources: { allow: [], allow_private: false },
	queue: { max_concurrent_tasks: 4 },
	storage: {},
};

/** As people write it who follow the API design. */
const DESIGN = `# ~/.gswarm/config.yaml
cluster:
  host: "master.cluster.local"
  port: 8000

nodes:
  - name: "node1"
    address: "192.168.1.101"
    capabilities:
      gpus: ["gpu0", "gpu1"]
      storage:
        disk: 1000000000000
        dram: 64000000000

  - name: "node2"
    address: "192.168.1.102"
    capabilities:
      gpus: ["gpu0"]
      storage:
        disk: 500000000000
        dram: 32000000000
`;

function load(text: string | Uint8Array): Config {
	using dir = tempDir();
	writeFileSync(join(dir.path, "config.yaml"), text);
	return loadConfig(dir.path);
}

/** What the refusal says after the file's path. */
function problemOf(text: string | Uint8Array): string {
	try {
		load(text);
	} catch (error) {
		const { code, reason, message } = asGswarmError(error);
		expect([code, reason]).toEqual(["INVALID_REQUEST", "bad_config"]);
		return message.replace(/^.*config\.yaml: /, "");
	}
	throw new Error("it was accepted");
}

test("the example of the API design is read as it stands", () => {
	expect(load(DESIGN)).toEqual({
		...DEFAULTS,
		cluster: { host: "master.cluster.local", port: 8000 },
		nodes: [
			{
				name: "node1",
				address: "192.168.1.101",
				capabilities: {
					gpus: ["gpu0", "gpu1"],
					storage: { disk: 1_000_000_000_000, dram: 64_000_000_000 },
				},
			},
			{
				name: "node2",
				address: "192.168.1.102",
				capabilities: { gpus: ["gpu0"], storage: { disk: 500_000_000_000, dram: 32_000_000_000 } },
			},
		],
	});
});

test("no file, an empty one and one of comments are the defaults", () => {
	using dir = tempDir();
	expect(loadConfig(dir.path)).toEqual(DEFAULTS);
	for (const text of ["", "---\n", "# nothing yet\n", "{}"]) expect(load(text)).toEqual(DEFAULTS);
});

test.each([
	["clutser: {}", "clutser: unknown key."],
	["cluster: {hots: a}", "cluster.hots: unknown key."],
	["nodes:\n- name: a\n  address: b\n  capabilities: {gpu: []}", "nodes.0.capabilities.gpu: unknown key."],
	["nodes:\n- {name: a, address: b}\n- {name: c}", "nodes.1.address: "],
	["cluster: {port: 0}", "cluster.port: "],
	["cluster: {port: 65536}", "cluster.port: "],
	['cluster: {port: "8000"}', "cluster.port: "],
	["queue: {max_concurrent_tasks: 0}", "queue.max_concurrent_tasks: "],
	["queue: {max_concurrent_tasks: 65}", "queue.max_concurrent_tasks: "],
	["queue: {max_concurrent_tasks: 1.5}", "queue.max_concurrent_tasks: "],
	["storage: {free_space_floor: -1}", "storage.free_space_floor: "],
	["import_folders: [models]", "import_folders.0: wanted an absolute path."],
	["sources: {allow: [mirror.local]}", "sources.allow.0: wanted an origin such as"],
	["sources: {allow: ['http://mirror.local/path']}", "sources.allow.0: wanted an origin such as"],
	["sources: {allow_private: yes please}", "sources.allow_private: "],
	["__proto__: {cluster: {}}", "__proto__: unknown key."],
])("%j is refused by the path of its key", (text, problem) => {
	expect(problemOf(text)).toStartWith(problem);
});

test.each([
	["a list", "- a", /expected object, received array/],
	["a word", "gswarm", /expected object, received string/],
	["the same key twice", "cluster: {}\ncluster: {}", /^Map keys must be unique at line 2/],
	["two documents", "cluster: {}\n---\nnodes: []", /multiple documents/],
	["an unclosed bracket", "nodes: [", /line 1/],
	["an alias", "cluster: &it {}\nqueue: *it", /alias/],
	["bytes that are no text", new Uint8Array([0xff, 0xfe, 0x00, 0x80]), /./],
	["more than 1 MiB", `# ${"x".repeat(1024 * 1024)}`, /^it is larger than 1 MiB/],
])("%s is no configuration", (_what, text, problem) => {
	expect(problemOf(text)).toMatch(problem);
});

test("aliases that multiply do not fill the memory", () => {
	const levels = Array.from({ length: 30 }, (_, i) => `l${i + 1}: &l${i + 1} [*l${i}, *l${i}]`).join("\n");
	expect(problemOf(`l0: &l0 [x]\n${levels}\n`)).toContain("alias");
});

test("a configuration that cannot be read is refused and not passed over", () => {
	using dir = tempDir();
	mkdirSync(join(dir.path, "config.yaml"));
	expect(() => loadConfig(dir.path)).toThrow("cannot be read");
	chmodSync(dir.path, 0o700);
});

test("numbers at the edges are taken", () => {
	expect(
		load("cluster: {port: 65535}\nqueue: {max_concurrent_tasks: 64}\nstorage: {free_space_floor: 0}"),
	).toEqual({
		...DEFAULTS,
		cluster: { port: 65_535 },
		queue: { max_concurrent_tasks: 64 },
		storage: { free_space_floor: 0 },
	});
});

test("the hub's address and token come from the variables that its own tools read", () => {
	using dir = tempDir();
	const token = join(dir.path, "token");
	writeFileSync(token, "hf_file\n");
	const none = { HF_HOME: join(dir.path, "nothing") };
	expect(readAgentEnvironment(none)).toEqual({ hubEndpoint: "https://huggingface.co", hubToken: undefined });
	expect(readAgentEnvironment({ ...none, HF_ENDPOINT: "http://127.0.0.1:9//", HF_TOKEN: "hf_env" })).toEqual({
		hubEndpoint: "http://127.0.0.1:9",
		hubToken: "hf_env",
	});
	expect(readAgentEnvironment({ HF_HOME: dir.path }).hubToken).toBe("hf_file");
	expect(readAgentEnvironment({ ...none, HF_TOKEN_PATH: token }).hubToken).toBe("hf_file");
	expect(readAgentEnvironment({ HF_HOME: dir.path, HF_TOKEN: "" }).hubToken).toBeUndefined();
});
