import { describe, expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pack } from "tar-stream";
import { openSource, readBundleHeader } from "../../src/core/source/source.ts";
import { exportCopy } from "../../src/core/transfer/transfer.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { silentLog } from "../../src/platform/log.ts";
import { createOutbound } from "../../src/platform/outbound.ts";
import { sha256Hex } from "../../src/platform/hash.ts";
import type { Bundle } from "../../src/schema/bundle.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { canonicalManifest } from "../../src/schema/manifest.ts";
import type { ModelCopy } from "../../src/schema/model.ts";
import { parseRevision } from "../../src/schema/names.ts";
import { writeFiller } from "../support/known-answer-model.ts";
import { tempDir } from "../support/temp-dir.ts";
import { standTransfers, type TransferStand } from "../support/transfer-stand.ts";

const PART = 8 * 1024 * 1024;
const LONG = `${"long folder name ".repeat(8)}x/é.txt`;

interface World {
	stand: TransferStand;
	copy: ModelCopy;
	/** An import folder. */
	folder: string;
	source(file: string): ReturnType<typeof openSource>;
}

async function inWorld(work: (world: World) => Promise<void>): Promise<void> {
	using dir = tempDir();
	const [folder, tiny] = [join(dir.path, "import"), join(dir.path, "import/tiny")];
	for (const path of [tiny, join(dir.path, "tiers"), join(tiny, LONG.split("/")[0] ?? "")])
		mkdirSync(path, { recursive: true });
	writeFiller(join(tiny, "model.bin"), PART + 1000);
	writeFileSync(join(tiny, "empty.txt"), "");
	writeFileSync(join(tiny, LONG), "hello");
	await using stand = await standTransfers(join(dir.path, "tiers"));
	const outbound = createOutbound({ clock: systemClock, log: silentLog }, { allow: [] });
	const source = (file: string) =>
		openSource(`file://${file}`, { outbound, clock: systemClock, importDirectories: [folder] });
	const copy = await stand.run({ source: source(tiny) });
	await work({ stand, copy, folder, source });
}
const failure = (work: Promise<unknown>): Promise<Record<string, unknown>> =>
	work.then(
		() => ({ reason: "nothing failed" }),
		(error: unknown) => asGswarmError(error) as unknown as Record<string, unknown>,
	);
async function exported({ stand, copy, folder }: World): Promise<string> {
	const file = join(folder, "tiny.tar");
	await Bun.write(file, await new Response(await exportCopy(stand.stand.storage, copy)).arrayBuffer());
	return file;
}
const header = async ({ source }: World, file: string): Promise<Bundle> => {
	const from = source(file);
	const signal = AbortSignal.timeout(10_000);
	return await readBundleHeader(from, await from.describe(signal), signal);
};
async function imported(world: World, file: string): Promise<ModelCopy> {
	const { revision, content_id: contentId } = await header(world, file);
	const source = world.source(file);
	return await world.stand.run({
		source,
		transferId: "import-1",
		tier: "dram",
		revision: parseRevision(revision),
		contentId,
	});
}
/** A bundle as somebody else might make it. */
async function bundleOf(folder: string, bundle: unknown, files: Record<string, string>): Promise<string> {
	const tar = pack();
	tar.entry({ name: "gswarm-bundle.json" }, JSON.stringify(bundle));
	for (const [name, text] of Object.entries(files)) tar.entry({ name }, text);
	tar.finalize();
	const blocks: Uint8Array[] = [];
	for await (const block of tar as unknown as AsyncIterable<Uint8Array>) blocks.push(block);
	const file = join(folder, "made.tar");
	writeFileSync(file, Buffer.concat(blocks));
	return file;
}
const madeBundle = (files: Record<string, string>, more: Partial<Bundle> = {}): Bundle => {
	const manifest = {
		files: Object.entries(files).map(([path, text]) => ({
			path,
			size_bytes: text.length,
			sha256: sha256Hex(text),
			part_size_bytes: PART,
			xxh64: ["0".repeat(16)],
		})),
		total_bytes: Object.values(files).join("").length,
	};
	return {
		gswarm_bundle: 1,
		model_name: "acme/tiny",
		revision: "r1",
		model_type: "llm",
		format: "gguf",
		source_url: null,
		content_id: sha256Hex(canonicalManifest(manifest)),
		manifest,
		...more,
	};
};

describe("a bundle", () => {
	test("brings a model to another place as the same content, and says beforehand what it is", () =>
		inWorld(async (world) => {
			const file = await exported(world);
			const { copy, stand } = world;
			expect(await header(world, file)).toMatchObject({
				model_name: copy.model_name,
				revision: copy.revision,
				content_id: copy.content_id,
			});
			const back = await imported(world, file);
			expect([back.content_id, back.revision, back.tier]).toEqual([copy.content_id, copy.revision, "dram"]);
			const path = stand.stand.storage.pathOf(back);
			expect(readdirSync(path).sort()).toEqual(["empty.txt", LONG.split("/")[0] ?? "", "model.bin"].sort());
			expect(readFileSync(join(path, LONG), "utf8")).toBe("hello");
		}));

	test("of the same copy is the same bytes; tar itself reads it", () =>
		inWorld(async (world) => {
			const file = await exported(world);
			const first = sha256Hex(readFileSync(file));
			expect(sha256Hex(readFileSync(await exported(world)))).toBe(first);
			const listed = await Bun.$`tar -tf ${file}`.text();
			expect(listed.split("\n").slice(0, 2)).toEqual(["gswarm-bundle.json", "files/empty.txt"]);
			expect(listed).toContain("files/model.bin");
		}));

	test("of a damaged copy breaks off, and what came of it cannot be imported", () =>
		inWorld(async (world) => {
			const path = join(world.stand.stand.storage.pathOf(world.copy), "model.bin");
			const bytes = new Uint8Array(readFileSync(path));
			bytes[PART + 5] = (bytes[PART + 5] ?? 0) ^ 1;
			writeFileSync(path, bytes);
			const blocks: Uint8Array[] = [];
			const broken = Promise.try(async () => {
				for await (const block of await exportCopy(world.stand.stand.storage, world.copy)) blocks.push(block);
			});
			expect(await failure(broken)).toMatchObject({ reason: "copy_damaged" });
			expect(world.stand.stand.storage.holders(world.copy)).toEqual([]);
			const file = join(world.folder, "broken.tar");
			writeFileSync(file, Buffer.concat(blocks));
			expect(await failure(imported(world, file))).toMatchObject({ reason: "bad_archive" });
			expect(world.stand.stand.storage.staged()).toEqual([]);
		}));

	test("whose reader goes away lets its copy go", () =>
		inWorld(async ({ stand, copy }) => {
			const reader = (await exportCopy(stand.stand.storage, copy)).getReader();
			await reader.read();
			expect(stand.stand.storage.holders(copy)).toEqual(["being exported"]);
			await reader.cancel();
			expect(stand.stand.storage.holders(copy)).toEqual([]);
		}));

	test.each<[string, Record<string, string>, Record<string, string>]>([
		["a file that is another", { "a.txt": "one" }, { "files/a.txt": "two" }],
		["a file that is not there", { "a.txt": "one", "b.txt": "b" }, { "files/a.txt": "one" }],
		["a file more", { "a.txt": "one" }, { "files/a.txt": "one", "files/b.txt": "b" }],
		["a file in another folder of as long a name", { "a.txt": "one" }, { "other/a.txt": "one" }],
		["a file beside the others", { "a.txt": "one" }, { "files/a.txt": "one", "b.txt": "b" }],
	])("with %s is refused, and nothing of it stays", (_what, told, packed) =>
		inWorld(async (world) => {
			const file = await bundleOf(world.folder, madeBundle(told), packed);
			expect(await failure(imported(world, file))).toMatchObject({
				code: "INVALID_REQUEST",
				reason: "bad_bundle",
			});
			expect(world.stand.stand.storage.staged()).toEqual([]);
			expect(world.stand.stand.storage.copies().length).toBe(1);
		}),
	);

	test.each<[string, unknown]>([
		[
			"a manifest that is not the one it names",
			madeBundle({ "a.txt": "one" }, { content_id: "0".repeat(64) }),
		],
		["a name that is a path", madeBundle({ "a.txt": "one" }, { model_name: "../x" })],
		["a revision that is a path", madeBundle({ "a.txt": "one" }, { revision: "../x" })],
		["another form", { gswarm_bundle: 2 }],
		["keys of the prototype", JSON.parse('{"__proto__":{"a":1}}')],
	])("with %s is refused before anything is unpacked", (_what, bundle) =>
		inWorld(async (world) => {
			const file = await bundleOf(world.folder, bundle, { "files/a.txt": "one" });
			expect(await failure(header(world, file))).toMatchObject({ status: 400, reason: "bad_bundle" });
		}),
	);

	test.each(["../x", "/abs", "files/../../x"])("with an entry named %p is refused by the extractor", (name) =>
		inWorld(async (world) => {
			const file = await bundleOf(world.folder, madeBundle({ "a.txt": "one" }), {
				"files/a.txt": "one",
				[name]: "x",
			});
			expect(await failure(imported(world, file))).toMatchObject({ reason: "unsafe_entry" });
			expect(world.stand.stand.storage.staged()).toEqual([]);
		}),
	);

	test("that is replaced by another one after it was looked at is not published", () =>
		inWorld(async (world) => {
			const looked = await header(
				world,
				await bundleOf(world.folder, madeBundle({ "a.txt": "one" }), { "files/a.txt": "one" }),
			);
			const file = await bundleOf(world.folder, madeBundle({ "a.txt": "two" }), { "files/a.txt": "two" });
			const run = world.stand.run({
				source: world.source(file),
				transferId: "import-2",
				revision: parseRevision(looked.revision),
				contentId: looked.content_id,
			});
			expect(await failure(run)).toMatchObject({ reason: "wrong_content" });
			expect(world.stand.stand.storage.copies().length).toBe(1);
		}));

	test.each(["tiny/model.bin", "tiny"])("is not what %s is", (path) =>
		inWorld(async (world) => {
			expect(await failure(header(world, join(world.folder, path)))).toMatchObject({
				reason: "not_a_bundle",
			});
		}),
	);

	test("is not every tar", () =>
		inWorld(async (world) => {
			await Bun.$`tar -cf ${join(world.folder, "plain.tar")} -C ${world.folder} tiny`.quiet();
			const file = join(world.folder, "plain.tar");
			expect(await failure(header(world, file))).toMatchObject({ reason: "not_a_bundle" });
		}));
});
