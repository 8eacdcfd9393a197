import { expect, test } from "bun:test";
import {
	chmodSync,
	existsSync,
	lstatSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	readlinkSync,
	renameSync,
	symlinkSync,
	writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { asGswarmError } from "../../src/schema/errors.ts";
import { parseModelName } from "../../src/schema/names.ts";
import { localCluster, type LocalCluster, modelFiles } from "../support/cluster.ts";
import { tempDir } from "../support/temp-dir.ts";

const MODEL = "acme/tiny";
const params = { model_name: MODEL };
const LIMIT_MS = 90_000;
const files = { [MODEL]: { ...modelFiles(300_000), "sub/tokenizer.json": "{}" } };

/**
 * As huggingface_hub finds a file of a cache without a network (`try_to_load_from_cache`): a revision that is no
 * snapshot is a ref, whose contents name one; the file has to be there, through whatever links.
 */
function tryToLoadFromCache(
	cacheDir: string,
	repository: string,
	path: string,
	revision = "main",
): string | undefined {
	const root = join(cacheDir, `models--${repository.replaceAll("/", "--")}`);
	const ref = join(root, "refs", revision);
	const commit = existsSync(ref) ? readFileSync(ref, "utf8") : revision;
	const file = join(root, "snapshots", commit, path);
	return existsSync(file) ? file : undefined;
}

async function reasonOf(run: Promise<unknown>): Promise<string> {
	try {
		await run;
	} catch (error) {
		const { status, reason } = asGswarmError(error);
		return `${status} ${reason}`;
	}
	return "accepted";
}

const present = (c: LocalCluster, body: object = {}) => c.host.client.call("presentModel", { params, body });

test(
	"a library that looks into the cache without a network finds the copy, and no bytes are taken for it",
	async () => {
		await using c = await localCluster({ files, nodes: ["node1"] });
		await c.download(MODEL, "node1:disk");
		const { storage } = c.node("node1").role;
		const shown = await present(c);
		expect(shown).toMatchObject({ node: "node1", device: "node1:disk", repository: MODEL, ref: "main" });
		const cache = shown.environment["HF_HUB_CACHE"] ?? "";
		expect(shown.environment["HF_HUB_OFFLINE"]).toBe("1");
		for (const [path, content] of Object.entries(files[MODEL])) {
			const found = tryToLoadFromCache(cache, MODEL, path) ?? "";
			expect(readFileSync(found).equals(Buffer.from(content))).toBe(true);
			expect(readlinkSync(found).startsWith("/")).toBe(false);
		}
		expect(shown.revision).toMatch(/^[0-9a-f]{40}$/);
		expect(tryToLoadFromCache(cache, MODEL, "config.json", shown.revision)).toBeString();
		expect(tryToLoadFromCache(cache, MODEL, "config.json", "v2")).toBeUndefined();
		expect(storage.usage("disk").used).toBe(300_004);

		await c.node("node1").stop();
		await c.node("node1").start();
		expect(tryToLoadFromCache(cache, MODEL, "config.json")).toBeString();
		const removed = await c.done(c.remove(MODEL, "node1:disk", { force: true }));
		expect(removed.result).toMatchObject({ freed_bytes: 300_004 });
		expect(readdirSync(cache)).toEqual([]);
	},
	LIMIT_MS,
);

test(
	"it can be taken back, and a copy that turns out to be damaged is shown no longer until it is whole again",
	async () => {
		await using c = await localCluster({ files, nodes: ["node1"] });
		await c.download(MODEL, "node1:disk");
		const cache = (await present(c)).cache_dir;
		const { storage } = c.node("node1").role;
		const copy = storage.copy(parseModelName(MODEL), "disk") ?? expect.unreachable();
		const weights = join(storage.pathOf(copy), "model.safetensors");
		renameSync(weights, `${weights}.away`);
		const verify = () => storage.verify(copy, {}, new AbortController().signal);
		await verify();
		expect(tryToLoadFromCache(cache, MODEL, "config.json")).toBeUndefined();
		renameSync(`${weights}.away`, weights);
		await verify();
		expect(tryToLoadFromCache(cache, MODEL, "model.safetensors")).toBeString();
		const withdraw = () => c.host.client.call("withdrawModel", { params, query: {} });
		expect(await withdraw()).toMatchObject({ withdrawn: 1 });
		expect(readdirSync(cache)).toEqual([]);
		expect(await withdraw()).toMatchObject({ withdrawn: 0 });
	},
	LIMIT_MS,
);

test(
	"another directory has to be in an import folder, the agent's alone, and without links in the way",
	async () => {
		using dir = tempDir();
		const open = join(dir.path, "open");
		mkdirSync(open);
		await using c = await localCluster({ files, nodes: ["node1"], importDirectories: [dir.path] });
		await c.download(MODEL, "node1:disk");
		const own = join(dir.path, "own");
		mkdirSync(own, { mode: 0o700 });
		const shown = await present(c, { cache_dir: own, repository: "other/name", ref: "v2" });
		expect(tryToLoadFromCache(own, "other/name", "sub/tokenizer.json", "v2")).toBe(
			join(shown.snapshot, "sub/tokenizer.json"),
		);
		chmodSync(open, 0o777);
		expect(await reasonOf(present(c, { cache_dir: open }))).toBe("400 unsafe_cache_dir");
		expect(await reasonOf(present(c, { cache_dir: "/etc" }))).toBe("400 scheme_not_allowed");
		expect(await reasonOf(present(c, { cache_dir: join(dir.path, "none") }))).toBe("404 file_not_found");
		expect(await reasonOf(present(c, { repository: "../../etc" }))).toBe("400 bad_repository");
		expect(await reasonOf(present(c, { ref: "../../x" }))).toBe("400 bad_field");
		// Whoever was there before us: nothing is written through a link.
		const trap = join(dir.path, "trap");
		mkdirSync(join(trap, "target"), { recursive: true, mode: 0o700 });
		symlinkSync(join(trap, "target"), join(trap, "models--acme--tiny"));
		expect(await reasonOf(present(c, { cache_dir: trap }))).toBe("409 cache_in_the_way");
		expect(readdirSync(join(trap, "target"))).toEqual([]);
		writeFileSync(join(dirname(trap), "file"), "");
		expect(await reasonOf(present(c, { cache_dir: join(dir.path, "file") }))).toBe("400 not_a_directory");
		expect(lstatSync(join(trap, "models--acme--tiny")).isSymbolicLink()).toBe(true);
	},
	LIMIT_MS,
);

test(
	"what a library has put into the cache stays as it is: its snapshot, its files, and its ref",
	async () => {
		using dir = tempDir();
		await using c = await localCluster({ files, nodes: ["node1"], importDirectories: [dir.path] });
		await c.download(MODEL, "node1:disk");
		const { revision } = await present(c);
		const other = "a".repeat(40);
		const cacheWith = (name: string, commit: string, asLink: boolean): string => {
			const cache = join(dir.path, name);
			const root = join(cache, "models--acme--tiny");
			const snapshot = join(root, "snapshots", commit);
			for (const path of [snapshot, join(root, "blobs"), join(root, "refs")])
				mkdirSync(path, { recursive: true, mode: 0o700 });
			const config = join(snapshot, "config.json");
			writeFileSync(asLink ? join(root, "blobs", "b10b") : config, "theirs");
			if (asLink) symlinkSync("../../blobs/b10b", config);
			writeFileSync(join(root, "refs", "main"), commit);
			return cache;
		};
		const theirs = (cache: string) =>
			readFileSync(tryToLoadFromCache(cache, MODEL, "config.json") ?? "", "utf8");
		for (const [name, commit, asLink] of [
			["links", revision, true],
			["files", revision, false],
			["ref", other, true],
		] as const) {
			const cache = cacheWith(name, commit, asLink);
			expect(await reasonOf(present(c, { cache_dir: cache }))).toBe("409 cache_in_the_way");
			expect(theirs(cache)).toBe("theirs");
		}
		// Beside them there is room.
		const beside = await present(c, { cache_dir: join(dir.path, "ref"), ref: "ours" });
		expect(existsSync(join(beside.snapshot, "config.json"))).toBe(true);
		await c.host.client.call("withdrawModel", { params, query: {} });
		expect(existsSync(beside.snapshot)).toBe(false);
		for (const name of ["links", "files", "ref"]) expect(theirs(join(dir.path, name))).toBe("theirs");
	},
	LIMIT_MS,
);
