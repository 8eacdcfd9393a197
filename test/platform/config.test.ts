import { expect, test } from "bun:test";
import { chmodSync, chownSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Config, loadConfig, readAgentEnvironment } from "../../src/platform/config.ts";
import { type GswarmError, asGswarmError } from "../../src/schema/errors.ts";
import { tempDir } from "../support/temp-dir.ts";

const CLUSTER: Config["cluster"] = {
	advertise: [],
	trusted_proxies: [],
	trusted_network: false,
	approve_joins: false,
};
const EVICTION: Config["storage"]["eviction"] = {
	dram: { automatic: true, high: 0.95, low: 0.85 },
	disk: { automatic: false, high: 0.95, low: 0.85 },
};
const DEFAULTS: Config = {
	cluster: CLUSTER,
	nodes: [],
	import_folders: [],
	sources: { allow: [], allow_private: false },
	queue: { max_concurrent_tasks: 4 },
	transfer: { verify: "parts", plane: "auto" },
	accelerator: { driver: "auto" },
	storage: { eviction: EVICTION },
	preload: { mode: "auto", share: 0.5 },
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

function failureOf(action: () => unknown): GswarmError {
	try {
		action();
	} catch (error) {
		return asGswarmError(error);
	}
	throw new Error("it was accepted");
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
		cluster: { ...CLUSTER, host: "master.cluster.local", port: 8000 },
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

test("a simulated GPU's memory is a size or a number of bytes", () => {
	expect(load("accelerator: {driver: sim, memory: 8GB}").accelerator).toEqual({ driver: "sim", memory: 8e9 });
	expect(load("accelerator: {driver: sim, memory: 1GiB, count: 2}").accelerator).toEqual({
		driver: "sim",
		memory: 2 ** 30,
		count: 2,
	});
	expect(load("accelerator: {driver: sim, memory: 4096}").accelerator.memory).toBe(4096);
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
	["accelerator: {driver: rocm}", "accelerator.driver: "],
	["accelerator: {driver: sim}", "accelerator.memory: goes with `driver: sim`, which needs it."],
	["accelerator: {memory: 8GB}", "accelerator.memory: goes with `driver: sim`, which needs it."],
	["accelerator: {driver: sim, memory: lots}", "accelerator.memory: "],
	["accelerator: {driver: sim, memory: 8GB, count: 17}", "accelerator.count: "],
	["storage: {free_space_floor: -1}", "storage.free_space_floor: "],
	["storage: {eviction: {dram: {high: 1.5}}}", "storage.eviction.dram.high: "],
	["storage: {eviction: {dram: {low: 0.9, high: 0.5}}}", "storage.eviction.dram: `low` is above `high`"],
	["storage: {eviction: {gpu: {}}}", "storage.eviction.gpu: unknown key"],
	["import_folders: [models]", "import_folders.0: wanted an absolute path."],
	["sources: {allow: [mirror.local]}", "sources.allow.0: wanted an origin such as"],
	["sources: {allow: ['http://mirror.local/path']}", "sources.allow.0: wanted an origin such as"],
	["sources: {allow: ['http://me:secret@mirror.local']}", "sources.allow.0: wanted an origin such as"],
	["sources: {allow_private: yes please}", "sources.allow_private: "],
	["cluster: {advertise: ['gpu1:8000']}", "cluster.advertise.0: wanted a host name or an address"],
	["cluster: {advertise: ['https://gpu1']}", "cluster.advertise.0: wanted a host name or an address"],
	["cluster: {advertise: ['10.0.0.256']}", "cluster.advertise.0: wanted a host name or an address"],
	["cluster: {advertise: ['-gpu']}", "cluster.advertise.0: wanted a host name or an address"],
	["cluster: {trusted_proxies: [proxy]}", "cluster.trusted_proxies.0: wanted an address or a range"],
	["cluster: {trusted_proxies: [10.0.0.1/8]}", "cluster.trusted_proxies.0: wanted an address or a range"],
	["cluster: {trusted_proxies: [0.0.0.0/0]}", "cluster.trusted_proxies.0: that is every address"],
	["cluster: {trusted_proxies: ['::/0']}", "cluster.trusted_proxies.0: that is every address"],
	["cluster: {trusted_proxies: 10.0.0.1}", "cluster.trusted_proxies: "],
	["cluster: {trusted_network: yes}", "cluster.trusted_network: "],
	["cluster: {approve_joins: 1}", "cluster.approve_joins: "],
	["__proto__: {cluster: {}}", 'line 1: the key "__proto__" is not allowed.'],
])("%j is refused by the path of its key", (text, problem) => {
	expect(problemOf(text)).toStartWith(problem);
});

test.each([
	["a list", "- a", /expected object, received array/],
	["a word", "gswarm", /expected object, received string/],
	["the same key twice", "cluster: {}\ncluster: {}", /^line 2: the key "cluster" is there twice/],
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

test("how the cluster is reached, and whom it trusts, is read", () => {
	const text =
		"cluster:\n  advertise: [gpu1.lab.local, 10.0.0.5, 'fd00::5']\n  trusted_proxies: [10.0.0.1, 192.168.0.0/16, 'fd00::/8']\n  trusted_network: true\n  approve_joins: true";
	expect(load(text).cluster).toEqual({
		advertise: ["gpu1.lab.local", "10.0.0.5", "fd00::5"],
		trusted_proxies: ["10.0.0.1", "192.168.0.0/16", "fd00::/8"],
		trusted_network: true,
		approve_joins: true,
	});
});

test("a configuration that others may write, or that another user owns, is refused", () => {
	using dir = tempDir();
	const path = join(dir.path, "config.yaml");
	writeFileSync(path, "queue: {max_concurrent_tasks: 2}");
	for (const mode of [0o600, 0o644, 0o400]) {
		chmodSync(path, mode);
		expect(loadConfig(dir.path).queue.max_concurrent_tasks).toBe(2);
	}
	for (const mode of [0o620, 0o602, 0o666]) {
		chmodSync(path, mode);
		const failure = failureOf(() => loadConfig(dir.path));
		expect(failure).toMatchObject({ code: "INVALID_REQUEST", reason: "bad_config" });
		expect(failure.message).toEndWith("config.yaml: other users may write to it.");
	}
	chmodSync(path, 0o600);
	if (process.getuid?.() !== 0) return;
	chownSync(path, 12_345, 12_345);
	expect(failureOf(() => loadConfig(dir.path)).message).toEndWith("it belongs to another user.");
});

test("a pipe in place of the configuration is refused and not waited for", () => {
	using dir = tempDir();
	expect(Bun.spawnSync(["mkfifo", join(dir.path, "config.yaml")]).exitCode).toBe(0);
	expect(failureOf(() => loadConfig(dir.path)).message).toEndWith("it cannot be read (it is no file).");
});

test("numbers at the edges are taken", () => {
	expect(
		load("cluster: {port: 65535}\nqueue: {max_concurrent_tasks: 64}\nstorage: {free_space_floor: 0}"),
	).toEqual({
		...DEFAULTS,
		cluster: { ...CLUSTER, port: 65_535 },
		queue: { max_concurrent_tasks: 64 },
		storage: { free_space_floor: 0, eviction: EVICTION },
	});
});

test("the hub's address and token come from the variables that its own tools read", () => {
	using dir = tempDir();
	const token = join(dir.path, "token");
	writeFileSync(token, "hf_file\n");
	const none = { HF_HOME: join(dir.path, "nothing"), HOME: dir.path };
	expect(readAgentEnvironment(none)).toMatchObject({
		hubEndpoint: "https://huggingface.co",
		hubToken: undefined,
	});
	expect(
		readAgentEnvironment({ ...none, HF_ENDPOINT: "http://127.0.0.1:9//", HF_TOKEN: "hf_env" }),
	).toMatchObject({
		hubEndpoint: "http://127.0.0.1:9",
		hubToken: "hf_env",
	});
	expect(readAgentEnvironment({ HF_HOME: dir.path }).hubToken).toBe("hf_file");
	expect(readAgentEnvironment({ ...none, HF_TOKEN_PATH: token }).hubToken).toBe("hf_file");
	expect(readAgentEnvironment({ HF_HOME: dir.path, HF_TOKEN: "" }).hubToken).toBeUndefined();
});

test("keys for buckets come from the variables and files that AWS's tools read", () => {
	using dir = tempDir();
	const none = { HOME: dir.path, HF_HOME: dir.path };
	expect(readAgentEnvironment(none).aws).toEqual({
		accessKeyId: undefined,
		secretAccessKey: undefined,
		sessionToken: undefined,
		region: undefined,
		endpoint: undefined,
		profile: "default",
		files: { credentials: "", config: "" },
	});
	mkdirSync(join(dir.path, ".aws"));
	writeFileSync(join(dir.path, ".aws/credentials"), "[default]");
	writeFileSync(join(dir.path, "elsewhere"), "[profile x]");
	const set = readAgentEnvironment({
		...none,
		AWS_ACCESS_KEY_ID: "id",
		AWS_SECRET_ACCESS_KEY: "secret",
		AWS_SESSION_TOKEN: "",
		AWS_DEFAULT_REGION: "eu-west-1",
		AWS_ENDPOINT_URL: "http://s3.lan:9000",
		AWS_PROFILE: "lab",
		AWS_CONFIG_FILE: join(dir.path, "elsewhere"),
	}).aws;
	expect(set).toMatchObject({
		accessKeyId: "id",
		secretAccessKey: "secret",
		sessionToken: undefined,
		region: "eu-west-1",
		endpoint: "http://s3.lan:9000",
		profile: "lab",
		files: { credentials: "[default]", config: "[profile x]" },
	});
});
