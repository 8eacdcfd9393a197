import { describe, expect, test } from "bun:test";
import {
	appendFileSync,
	chmodSync,
	chownSync,
	existsSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	realpathSync,
	renameSync,
	rmSync,
	statSync,
	symlinkSync,
	utimesSync,
	writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { parseModelName } from "../../src/schema/names.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import type { TaskDocument } from "../../src/schema/task.ts";
import { localCluster, type LocalCluster, modelFiles } from "../support/cluster.ts";
import { hubSnapshot, ollamaModel } from "../support/layouts.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const MODEL = "acme/tiny";
const LIMIT_MS = 90_000;
const REV_A = "a".repeat(40);
const REV_B = "b".repeat(40);

async function reasonOf(run: Promise<unknown>): Promise<string> {
	try {
		await run;
	} catch (error) {
		const { status, reason } = asGswarmError(error);
		return `${status} ${reason}`;
	}
	return "accepted";
}

function adopt(c: LocalCluster, model: string, path: string, node = "node1"): Promise<{ task_id: string }> {
	return c.host.client.call("adoptModel", {
		params: { model_name: model },
		body: { path, device: `${node}:disk` },
	});
}

/** Two snapshots of one repository that share their tokenizer. */
function twoSnapshots(cache: string): { a: string; b: string } {
	const tokenizer = "t".repeat(3000);
	const a = hubSnapshot(cache, MODEL, "a", { ...modelFiles(1_000_000), "tokenizer.json": tokenizer }, ["v1"]);
	const b = hubSnapshot(cache, MODEL, "b", { ...modelFiles(1_200_000), "tokenizer.json": tokenizer });
	return { a, b };
}

const copyOf = (c: LocalCluster, node: string, model = MODEL) =>
	c.node(node).role.storage.copy(parseModelName(model), "disk");
const remove = (c: LocalCluster, more: Record<string, string>): Promise<TaskDocument> =>
	c.done(
		c.host.client.call("deleteModel", {
			params: { model_name: MODEL },
			query: { device: "node1:disk", ...more },
		}),
	);

test(
	"what a Hugging Face cache has is registered where it lies, costs no room, and is copied to another node",
	async () => {
		using dir = tempDir();
		const { a, b } = twoSnapshots(dir.path);
		await using c = await localCluster({ importDirectories: [dir.path] });
		const before = c.node("node1").role.storage.usage("disk").used;
		const { found } = await c.host.client.call("findAdoptable", {
			body: { path: dir.path, device: "node1:disk" },
		});
		expect(found.map((one) => [one.model_name, one.revision, one.path, one.problem])).toEqual([
			[MODEL, REV_A, a, null],
			[MODEL, REV_B, b, null],
		]);
		for (const { path } of found) await c.done(adopt(c, MODEL, path));
		expect(c.node("node1").role.storage.usage("disk").used).toBe(before);
		expect(c.node("node1").files("disk")).toEqual([]);
		const { location_details: locations, source_url } = await c.host.client.call("getModel", {
			params: { model_name: MODEL },
		});
		expect(locations.map((it) => [it.revision, it.place, it.adopted_from, it.status])).toEqual([
			[REV_A, "adopted", a, "ready"],
			[REV_B, "adopted", b, "ready"],
		]);
		expect(source_url).toBe(`hf:${MODEL}@${REV_A}`);
		const again = await c.host.client.call("findAdoptable", { body: { path: a, device: "node1:disk" } });
		expect(again.found[0]?.adopted_as).toBe(MODEL);

		// An engine gets a directory with the model's names.
		const copy = copyOf(c, "node1");
		const view = c.node("node1").role.storage.pathOf(copy ?? expect.unreachable());
		expect(readdirSync(view).sort()).toEqual(["config.json", "model.safetensors", "tokenizer.json"]);
		expect(readFileSync(join(view, "model.safetensors")).length).toBe(1_200_000);

		await c.done(c.copy(MODEL, "node1:disk", "node2:disk"));
		await c.done(c.copy(MODEL, "node1:disk", "node1:dram"));
		const target = copyOf(c, "node2");
		expect(target).toMatchObject({ revision: REV_B, content_id: copy?.content_id });
		expect(target?.place).toBeUndefined();
		const verified = await c.done(
			c.host.client.call("verifyModel", {
				params: { model_name: MODEL },
				body: { device: "node1:disk", sha256: true },
			}),
		);
		expect(verified.result).toMatchObject({ copies: [{ files_damaged: 0 }, { files_damaged: 0 }] });
		const exported = await c.host.client.open("exportModel", {
			params: { model_name: MODEL },
			query: { device: "node1:disk" },
		});
		expect((await exported.bytes()).length).toBeGreaterThan(1_200_000);
	},
	LIMIT_MS,
);

test(
	"to delete an adopted copy forgets it and needs nobody's leave; a move leaves it where it is",
	async () => {
		using dir = tempDir();
		const { b } = twoSnapshots(dir.path);
		await using c = await localCluster({ importDirectories: [dir.path] });
		await c.done(adopt(c, MODEL, b));
		const moved = await c.done(c.move(MODEL, "node1:disk", "node1:dram"));
		expect(moved.result).toMatchObject({ source_kept: "adopted" });
		const far = await c.done(c.move(MODEL, "node1:disk", "node2:disk"));
		expect(far.result).toMatchObject({ source_kept: "adopted" });
		// It is no reason to destroy the one in the store.
		expect(await reasonOf(c.remove(MODEL, "node2:disk"))).toBe("409 last_durable_copy");
		const { result } = await remove(c, {});
		expect(result).toMatchObject({ freed_bytes: 0, adopted_files_kept: b });
		expect(readdirSync(b).length).toBe(3);
		expect(readFileSync(join(b, "model.safetensors")).length).toBe(1_200_000);
		const root = c.node("node1").role.storage.tier("disk").root;
		expect(readdirSync(join(root, "adopted"))).toEqual([]);
		expect(await c.ready(MODEL)).toEqual(["node1:dram", "node2:disk"]);
	},
	LIMIT_MS,
);

test(
	"with its files it goes for good, but for blobs that another snapshot uses",
	async () => {
		using dir = tempDir();
		const { a, b } = twoSnapshots(dir.path);
		const repository = join(dir.path, `models--${MODEL.replace("/", "--")}`);
		await using c = await localCluster({ importDirectories: [dir.path] });
		await c.done(adopt(c, MODEL, a));
		await c.done(adopt(c, MODEL, b));
		const params = { model_name: MODEL };
		const query = { device: "node1:disk", delete_files: "true" } as const;
		expect(await reasonOf(c.host.client.call("deleteModel", { params, query }))).toBe(
			"400 ambiguous_revision",
		);
		const last = { ...query, revision: REV_B };
		expect(await reasonOf(c.host.client.call("deleteModel", { params, query: last }))).toBe(
			"409 last_durable_copy",
		);
		const first = await remove(c, { revision: REV_B, delete_files: "true", force: "true" });
		// The tokenizer and the empty configuration are in the other snapshot too.
		expect(first.result).toMatchObject({ freed_bytes: 1_200_000, files_kept: 2 });
		expect(existsSync(b)).toBe(false);
		expect(readdirSync(join(repository, "refs"))).toEqual(["v1"]);
		expect(readdirSync(join(repository, "blobs")).length).toBe(3);
		expect(readFileSync(join(a, "tokenizer.json"), "utf8")).toBe("t".repeat(3000));
		const second = await remove(c, { revision: REV_A, delete_files: "true", force: "true" });
		expect(second.result).toMatchObject({ freed_bytes: 1_003_002, files_kept: 0 });
		expect(readdirSync(dir.path)).toEqual([]);
	},
	LIMIT_MS,
);

test(
	"an Ollama store gives up a model with its blobs, but for those of its others",
	async () => {
		using dir = tempDir();
		const store = join(dir.path, "ollama");
		const weights = "w".repeat(50_000);
		const small = ollamaModel(store, "tiny", "latest", { model: weights, params: '{"a":1}' });
		const other = ollamaModel(store, "tiny", "8b", { model: weights, template: "{{ .Prompt }}" });
		await using c = await localCluster({ importDirectories: [dir.path], nodes: ["node1"] });
		await c.done(adopt(c, MODEL, small));
		const copy = copyOf(c, "node1") ?? expect.unreachable();
		expect(copy).toMatchObject({ source_url: "ollama:tiny", place: "adopted" });
		const view = c.node("node1").role.storage.pathOf(copy);
		expect(readdirSync(view).sort()).toEqual(["ollama-config.json", "params.json", "tiny.gguf"]);
		expect(readFileSync(join(view, "tiny.gguf"), "utf8")).toBe(weights);
		const manifestBytes = statSync(small).size;
		const { result } = await remove(c, { delete_files: "true", force: "true" });
		expect(result).toMatchObject({ freed_bytes: manifestBytes + 7, files_kept: 2 });
		expect([existsSync(small), existsSync(other)]).toEqual([false, true]);
		expect(readdirSync(join(store, "blobs")).length).toBe(3);
	},
	LIMIT_MS,
);

describe("files that somebody else changes", () => {
	test(
		"take the copy out of use at the next use, and back by themselves when they are right",
		async () => {
			using dir = tempDir();
			const model = join(dir.path, "m");
			mkdirSync(model);
			for (const [path, bytes] of Object.entries(modelFiles(300_000)))
				writeFileSync(join(model, path), bytes);
			await using c = await localCluster({ importDirectories: [dir.path], nodes: ["node1"] });
			await c.done(adopt(c, MODEL, model));
			const weights = join(model, "model.safetensors");
			utimesSync(weights, new Date(), new Date(Date.UTC(2020, 1, 1)));
			const { storage } = c.node("node1").role;
			const copy = copyOf(c, "node1") ?? expect.unreachable();
			expect(() => storage.pathOf(copy)).toThrow("has changed since it was read");
			expect(copyOf(c, "node1")?.status).toBe("unavailable");
			// It is read again by itself, and is right.
			await until("it is taken back", () => copyOf(c, "node1")?.status === "ready");
			expect(storage.pathOf(copy)).toContain("adopted");
			await until("the host knows", async () => (await c.ready(MODEL)).length === 1);
			const verify = () =>
				c.host.client.call("verifyModel", { params: { model_name: MODEL }, body: { device: "node1:disk" } });

			await c.done(c.copy(MODEL, "node1:disk", "node1:disk1"));
			const bytes = readFileSync(weights);
			bytes[1000] = (bytes[1000] ?? 0) ^ 1;
			writeFileSync(weights, bytes);
			const broken = await c.ended((await verify()).task_id);
			expect(broken.error).toMatchObject({
				details: { reason: "checksum_mismatch", copies: [{ repaired_from: null }] },
			});
			// They are not ours to mend, whoever else has them right.
			expect(readFileSync(weights).equals(bytes)).toBe(true);
			expect(copyOf(c, "node1")?.status).toBe("unavailable");
			// As it is now it is another content, which takes the place of what was adopted from there before.
			await c.done(adopt(c, MODEL, model));
			const onDisk = storage.copies().filter((it) => it.tier === "disk");
			expect(onDisk.map((it) => [it.status, it.revision === copy.revision])).toEqual([["ready", false]]);
		},
		LIMIT_MS,
	);

	test(
		"while the agent is away are found at its start, and a view that is gone is made again",
		async () => {
			using dir = tempDir();
			const { a, b } = twoSnapshots(dir.path);
			await using c = await localCluster({ importDirectories: [dir.path], nodes: ["node1"] });
			await c.done(adopt(c, MODEL, a));
			await c.done(adopt(c, MODEL, b));
			const root = c.node("node1").role.storage.tier("disk").root;
			await c.node("node1").stop();
			rmSync(join(root, "adopted"), { recursive: true });
			renameSync(join(b, "../../blobs"), join(dir.path, "elsewhere"));
			await c.node("node1").start();
			expect(
				c
					.node("node1")
					.role.storage.copies()
					.map((it) => it.status),
			).toEqual(["unavailable", "unavailable"]);
			await c.node("node1").stop();
			renameSync(join(dir.path, "elsewhere"), join(b, "../../blobs"));
			await c.node("node1").start();
			const { storage } = c.node("node1").role;
			await until("both are taken back", () => storage.copies().every((it) => it.status === "ready"));
			for (const copy of storage.copies()) expect(readdirSync(storage.pathOf(copy)).length).toBe(3);
		},
		LIMIT_MS,
	);
});

test(
	"a path without a node is refused where there are several, in words that fit the command",
	async () => {
		using dir = tempDir();
		await using c = await localCluster({ importDirectories: [dir.path] });
		const refused = await c.host.client
			.call("findAdoptable", { body: { path: dir.path } })
			.catch((error: unknown) => asGswarmError(error));
		expect(refused).toMatchObject({
			reason: "ambiguous_node",
			hint: expect.stringContaining("--node node1"),
		});
	},
	LIMIT_MS,
);

test(
	"what is refused: a path elsewhere, memory, several models, a blob that is not what its name says",
	async () => {
		using dir = tempDir();
		const cache = join(dir.path, "cache");
		const { a } = twoSnapshots(cache);
		await using c = await localCluster({ importDirectories: [dir.path], nodes: ["node1"] });
		expect(await reasonOf(adopt(c, MODEL, "/etc"))).toBe("400 scheme_not_allowed");
		expect(await reasonOf(adopt(c, MODEL, cache))).toBe("400 several_models");
		symlinkSync(a, join(dir.path, "link"));
		expect(await reasonOf(adopt(c, MODEL, join(dir.path, "link")))).toBe("400 symlink_in_path");
		const memory = { path: a, device: "node1:dram" };
		expect(
			await reasonOf(c.host.client.call("adoptModel", { params: { model_name: MODEL }, body: memory })),
		).toBe("400 bad_device");
		appendFileSync(join(a, "model.safetensors"), "x");
		const { error } = await c.ended((await adopt(c, MODEL, a)).task_id);
		expect(error).toMatchObject({ details: { reason: "checksum_mismatch" } });
		expect(c.node("node1").role.storage.copies()).toEqual([]);
	},
	LIMIT_MS,
);

test(
	"with links it becomes the store's own without a copy, and outlives what it came from",
	async () => {
		using dir = tempDir();
		const { b } = twoSnapshots(dir.path);
		await using c = await localCluster({ importDirectories: [dir.path], nodes: ["node1"] });
		const weights = realpathSync(join(b, "model.safetensors"));
		chmodSync(weights, 0o644);
		const body = { path: b, device: "node1:disk", link: true };
		await c.done(c.host.client.call("adoptModel", { params: { model_name: MODEL }, body }));
		const { storage } = c.node("node1").role;
		const copy = copyOf(c, "node1") ?? expect.unreachable();
		expect(copy).toMatchObject({ revision: REV_B, status: "ready", source_url: `hf:${MODEL}@${REV_B}` });
		expect(copy.place).toBeUndefined();
		const own = statSync(join(storage.pathOf(copy), "model.safetensors"));
		const before = statSync(weights);
		// One inode on filesystems without reflinks; what belongs to somebody keeps its mode.
		expect(own.ino === before.ino ? own.mode & 0o777 : 0o644).toBe(0o644);
		expect(storage.usage("disk").used).toBe(1_203_002);
		rmSync(dir.path, { recursive: true });
		mkdirSync(dir.path);
		const verify = await storage.verify(copy, { sha256: true }, new AbortController().signal);
		expect(verify.damaged).toEqual([]);
		const { result } = await remove(c, { force: "true" });
		expect(result).toMatchObject({ freed_bytes: 1_203_002 });
	},
	LIMIT_MS,
);

test(
	"what is on another filesystem is not linked, and nothing of the try is left",
	async () => {
		if (!existsSync("/dev/shm")) return;
		using dir = tempDir("/dev/shm");
		const model = join(dir.path, "m");
		mkdirSync(model);
		for (const [path, bytes] of Object.entries(modelFiles(100_000))) writeFileSync(join(model, path), bytes);
		await using c = await localCluster({ importDirectories: [dir.path], nodes: ["node1"] });
		const body = { path: model, device: "node1:disk", link: true };
		const { task_id } = await c.host.client.call("adoptModel", { params: { model_name: MODEL }, body });
		const { error } = await c.ended(task_id);
		expect(error).toMatchObject({ details: { reason: "cannot_link" } });
		const { storage } = c.node("node1").role;
		await until("its staging is gone", () => storage.staged().length === 0);
		expect([storage.copies(), c.node("node1").files("disk")]).toEqual([[], []]);
	},
	LIMIT_MS,
);

test.skipIf(process.getuid?.() !== 0)(
	"of another user's file no hard link is made",
	async () => {
		using dir = tempDir();
		const path = join(dir.path, "tiny.gguf");
		writeFileSync(path, "GGUF".repeat(1000));
		chownSync(path, 12345, 12345);
		await using c = await localCluster({ importDirectories: [dir.path], nodes: ["node1"] });
		const body = { path, device: "node1:disk", link: true };
		const { task_id } = await c.host.client.call("adoptModel", { params: { model_name: MODEL }, body });
		const { status, error } = await c.ended(task_id);
		// Where the filesystem makes reflinks there is no need of one.
		if (status === "failed") expect(error).toMatchObject({ details: { reason: "cannot_link" } });
		expect(statSync(path).nlink).toBe(1);
	},
	LIMIT_MS,
);
