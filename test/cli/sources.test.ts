/** Looking at a source, and at what a download would do, from the command line. */
import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "bun:test";
import { modelNotFound } from "../../src/schema/errors.ts";
import type { SourceInfo } from "../../src/schema/source-info.ts";
import { fakeAgent } from "./support/fake-agent.ts";
import { tempDir } from "../support/temp-dir.ts";
import { run } from "./support/fake-world.ts";

const SOURCE: SourceInfo = {
	source_url: "hf:acme/big@0123456789abcdef",
	suggested_name: "acme/big",
	revision: "0123456789abcdef",
	model_type: "llm",
	format: "safetensors",
	architecture: "LlamaForCausalLM",
	parameters: 8_030_261_248,
	precision: "BF16",
	license: "llama3",
	context_length: 8192,
	archive: null,
	total_size: 16_000_000_000,
	file_count: 1,
	files: [{ path: "model.safetensors", size_bytes: 16_000_000_000, digest: "sha256:0011223344556677" }],
	quantisations: null,
	notes: [],
	plan: null,
};
const PLAN = {
	model_name: "acme/big",
	device: "node1:disk",
	already_there: false,
	other_locations: ["node2:disk"],
	bytes_to_fetch: 16_000_000_000,
	required: 16_000_000_000,
	available: 500_000_000_000,
	fits: true,
	task_id: null,
};

describe("model show of a source", () => {
	test("tells what the agent found, and what usually comes next", async () => {
		const agent = fakeAgent({ inspectSource: SOURCE });
		const { code, stdout, stderr } = await run(["model", "show", "hf:acme/big", "--exclude", "*.bin"], {
			agent,
		});
		expect(code).toBe(0);
		for (const part of [
			"LlamaForCausalLM",
			"8.03 billion",
			"BF16",
			"8192 tokens",
			"llama3",
			"16 GB in 1 file",
		])
			expect(stdout).toContain(part);
		expect(stdout).toContain("sha256:001122334455");
		expect(stderr).toContain("next: gswarm model download hf:acme/big --dry-run");
		expect(agent.only("inspectSource").body).toEqual({ source_url: "hf:acme/big", exclude: ["*.bin"] });
	});

	test("is the whole answer as JSON", async () => {
		const agent = fakeAgent({ inspectSource: SOURCE });
		const { stdout } = await run(["model", "show", "hf:acme/big", "--json"], { agent });
		expect(JSON.parse(stdout)).toEqual(SOURCE);
	});

	test("lists quantisations and says how to name one; notes are told", async () => {
		const found = { ...SOURCE, quantisations: { Q4_0: 4e9, Q8_0: 8e9 }, notes: ["x could not be read."] };
		const { stdout, stderr } = await run(["show", "hf:acme/big"], {
			agent: fakeAgent({ inspectSource: found }),
		});
		expect(stdout).toContain("Quantisation Q8_0");
		expect(stderr).toContain("x could not be read.");
		expect(stderr).toContain("gswarm model download hf:acme/big:Q4_0");
	});

	test("shows no escape that a source put into its names", async () => {
		const files = [{ path: "a\u001b[31mb", size_bytes: null, digest: null }];
		const found = { ...SOURCE, license: "m\u001b]0;t\u0007it", files };
		const { stdout } = await run(["show", "hf:acme/big"], { agent: fakeAgent({ inspectSource: found }) });
		expect(stdout).not.toContain("\u001b");
	});

	test("of a name that nothing is known of points to the hub, and asks it nothing", async () => {
		const agent = fakeAgent({
			getModel: () => {
				throw modelNotFound("acme/big");
			},
		});
		const { code, stderr } = await run(["model", "show", "acme/big"], { agent });
		expect(code).toBe(3);
		expect(stderr).toContain("gswarm model show hf:acme/big");
		expect(agent.seen.map(({ route }) => route)).toEqual(["getModel"]);
	});

	test("a choice of files belongs to a source", async () => {
		const { code, stderr } = await run(["model", "show", "acme/big", "--all-files"], {
			agent: fakeAgent({}),
		});
		expect(code).toBe(2);
		expect(stderr).toContain("hf:acme/big");
	});
});

describe("model download --dry-run", () => {
	const LINE = ["model", "download", "hf:acme/big", "--to", "node1:disk", "--dry-run"];

	test("prints the plan and submits nothing", async () => {
		const agent = fakeAgent({ inspectSource: { ...SOURCE, plan: PLAN } });
		const { code, stdout, stderr } = await run(LINE, { agent });
		expect(code).toBe(0);
		for (const part of ["node1:disk", "500 GB", "node2:disk"]) expect(stdout).toContain(part);
		expect(stderr).toContain("dry run");
		expect(agent.only("inspectSource").body).toEqual({
			model_name: "acme/big",
			source_url: "hf:acme/big",
			target_device: "node1:disk",
		});
		expect(agent.seen.length).toBe(1);
	});

	test("says what does not fit and exits as the download would", async () => {
		const plan = { ...PLAN, fits: false, available: 1_000_000 };
		const { code, stderr } = await run(LINE, { agent: fakeAgent({ inspectSource: { ...SOURCE, plan } }) });
		expect(code).toBe(6);
		expect(stderr).toContain("1 MB available");
	});

	test("of a name alone tries what is registered first, then the hub", async () => {
		const agent = fakeAgent({
			inspectSource: ({ body }: { body: unknown }) => {
				if (!(body as { source_url?: string }).source_url) throw modelNotFound("acme/big");
				return { ...SOURCE, plan: PLAN };
			},
		});
		const { code } = await run(["model", "download", "acme/big", "--dry-run"], { agent });
		expect(code).toBe(0);
		expect(agent.seen.map(({ body }) => body)).toEqual([
			{ model_name: "acme/big" },
			{ model_name: "acme/big", source_url: "hf:acme/big" },
		]);
	});
});

describe("model upload", () => {
	const SENT = {
		task_id: "upload-tiny-k3v9x2ma",
		status: "queued",
		position: 0,
		estimated_time: 0,
		node: "node1",
	};

	test("sends the target, and what else was said", async () => {
		const agent = fakeAgent({ uploadModel: SENT });
		const line = ["model", "upload", "acme/tiny", "s3://models/tiny", "--from", "node1:disk", "--overwrite"];
		const { code, stdout } = await run([...line, "--bandwidth", "1MB/s", "--no-wait"], { agent });
		expect({ code, stdout }).toEqual({ code: 0, stdout: "upload-tiny-k3v9x2ma\n" });
		expect(agent.only("uploadModel")).toMatchObject({
			params: { model_name: "acme/tiny" },
			body: {
				target_url: "s3://models/tiny",
				source_device: "node1:disk",
				overwrite: true,
				bandwidth_limit: 1_000_000,
			},
		});
	});

	test.each(["hf:acme/tiny", "models/tiny", "s3:/x", "https://host/x"])("to %s is exit 2", async (target) => {
		const { code, stderr } = await run(["model", "upload", "acme/tiny", target], { agent: fakeAgent({}) });
		expect(code).toBe(2);
		expect(stderr).toContain("s3://bucket/prefix");
	});
});

describe("model export", () => {
	const TAR = "the bytes of a tar file";

	test("writes a file that is whole, or none", async () => {
		using dir = tempDir();
		const file = join(dir.path, "tiny.tar");
		const agent = fakeAgent({ exportModel: () => new Response(TAR) });
		const { code, stdout, stderr } = await run(["model", "export", "acme/tiny", file, "--json"], { agent });
		expect([code, JSON.parse(stdout)]).toEqual([
			0,
			{ model_name: "acme/tiny", file, size_bytes: TAR.length },
		]);
		expect(stderr).toContain("Exported acme/tiny");
		expect(readFileSync(file, "utf8")).toBe(TAR);
		expect(readdirSync(dir.path)).toEqual(["tiny.tar"]);
	});

	test("that breaks off leaves nothing", async () => {
		using dir = tempDir();
		const file = join(dir.path, "tiny.tar");
		const broken = new ReadableStream<Uint8Array>({
			start(controller) {
				controller.enqueue(Buffer.from("some"));
			},
			pull(controller) {
				controller.error(new Error("the copy is damaged"));
			},
		});
		const agent = fakeAgent({ exportModel: () => new Response(broken) });
		const { code, stderr } = await run(["model", "export", "acme/tiny", file], { agent });
		expect(code).toBe(6);
		expect(stderr).toContain("broke off");
		expect(readdirSync(dir.path)).toEqual([]);
	});

	test("does not replace a file unless told", async () => {
		using dir = tempDir();
		const file = join(dir.path, "tiny.tar");
		writeFileSync(file, "mine");
		const agent = fakeAgent({ exportModel: () => new Response(TAR) });
		expect((await run(["model", "export", "acme/tiny", file], { agent })).code).toBe(4);
		expect(readFileSync(file, "utf8")).toBe("mine");
		expect((await run(["model", "export", "acme/tiny", file, "--overwrite"], { agent })).code).toBe(0);
		expect(readFileSync(file, "utf8")).toBe(TAR);
	});

	test("to a name that could not be imported is exit 2", async () => {
		const { code, stderr } = await run(["model", "export", "acme/tiny", "/tmp/tiny.bin"], {
			agent: fakeAgent({}),
		});
		expect(code).toBe(2);
		expect(stderr).toContain(".tar");
		expect(existsSync("/tmp/tiny.bin")).toBe(false);
	});

	test("goes to no terminal", async () => {
		const { code } = await run(["model", "export", "acme/tiny", "-"], { agent: fakeAgent({}), columns: 80 });
		expect(code).toBe(2);
	});
});

describe("model import", () => {
	test("a file that is not here is named, and the way to one of the node", async () => {
		const { code, stderr } = await run(["model", "import", "/nowhere/tiny.tar"], { agent: fakeAgent({}) });
		expect(code).toBe(2);
		expect(stderr).toContain("There is no file /nowhere/tiny.tar on this machine.");
		expect(stderr).toContain("--on-node");
	});

	const SENT = {
		task_id: "download-tiny-k3v9x2ma",
		status: "queued",
		position: 0,
		estimated_time: 0,
		node: "node1",
		model_name: "acme/tiny",
		revision: "r1",
	};

	test.each([
		["/srv/models/a b.tar", "file:///srv/models/a%20b.tar"],
		["https://files.example/tiny.tar", "https://files.example/tiny.tar"],
	])("of %s asks the node to read it", async (file, source_url) => {
		const agent = fakeAgent({ importModel: SENT });
		const where = file.startsWith("/") ? ["--on-node"] : [];
		const line = ["model", "import", file, ...where, "--to", "node1:disk", "--name", "mine", "--no-wait"];
		expect((await run(line, { agent })).code).toBe(0);
		expect(agent.only("importModel").body).toEqual({
			source_url,
			target_device: "node1:disk",
			model_name: "mine",
		});
	});

	test("of a file of this machine sends it, and stays for that", async () => {
		using dir = tempDir();
		const file = join(dir.path, "tiny.tar");
		writeFileSync(file, "no tar at all".repeat(100));
		const agent = fakeAgent({ importModel: SENT });
		const no = await run(["model", "import", file], { agent });
		expect([no.code, agent.seen]).toEqual([2, []]);
		expect(no.stderr).toContain("is no bundle");
		const left = await run(["model", "import", file, "--no-wait"], { agent });
		expect([left.code, agent.seen]).toEqual([2, []]);
		expect(left.stderr).toContain("--on-node");
		expect((await run(["model", "import", file, "--on-node", "--no-wait"], { agent })).code).toBe(0);
		expect(agent.only("importModel").body).toEqual({ source_url: `file://${file}` });
	});
});
