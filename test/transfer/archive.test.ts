import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { pack } from "tar-stream";
import { GswarmError } from "../../src/schema/errors.ts";
import { faultySource } from "../support/faulty-source.ts";
import { tempDir } from "../support/temp-dir.ts";
import { standTransfers } from "../support/transfer-stand.ts";

setDefaultTimeout(60_000);

async function tarOf(entries: { name: string; text?: string; link?: string }[]): Promise<Uint8Array> {
	const archive = pack();
	for (const { name, text, link } of entries) {
		if (link === undefined) archive.entry({ name }, text ?? "");
		else archive.entry({ name, type: "symlink", linkname: link });
	}
	archive.finalize();
	const blocks: Uint8Array[] = [];
	for await (const block of archive) blocks.push(block as Uint8Array);
	return new Uint8Array(Buffer.concat(blocks));
}

test.each(["tar", "tar.gz"] as const)(
	"a %s becomes the model's files, and nothing of the archive is published",
	async (kind) => {
		using dir = tempDir();
		await using held = await standTransfers(dir.path);
		const tar = await tarOf([
			{ name: "config.json", text: "{}" },
			{ name: "weights/model.safetensors", text: "weights" },
		]);
		const bytes = kind === "tar" ? tar : new Uint8Array(gzipSync(tar));
		const copy = await held.run({ source: faultySource({ [`model.${kind}`]: bytes }, { archive: kind }) });
		const path = held.stand.storage.pathOf(copy);
		expect(readdirSync(path).sort()).toEqual(["config.json", "weights"]);
		expect(readFileSync(join(path, "weights/model.safetensors"), "utf8")).toBe("weights");
		// Seven letters are no header.
		expect(copy).toMatchObject({ format: "unknown", size_bytes: 9 });
		expect(readdirSync(join(dir.path, "disk/staging"))).toEqual([]);
	},
);

test("an archive with an entry that is not a file is refused, and nothing is left", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const tar = await tarOf([
		{ name: "config.json", text: "{}" },
		{ name: "passwd", link: "/etc/passwd" },
	]);
	const source = faultySource({ "model.tar": tar }, { archive: "tar" });
	const error = await held.run({ source }).catch((thrown: unknown) => thrown);
	expect(error).toBeInstanceOf(GswarmError);
	expect(held.stand.storage.copies()).toEqual([]);
	expect(readdirSync(join(dir.path, "disk/staging"))).toEqual([]);
	expect(existsSync(join(dir.path, "disk/models/acme%2Ftiny"))).toBe(false);
});

test("an archive that was damaged on the way is never unpacked", async () => {
	using dir = tempDir();
	await using held = await standTransfers(dir.path);
	const tar = await tarOf([{ name: "config.json", text: "{}" }]);
	const flip = { path: "model.tar", at: 520, times: 99 };
	const error = await held
		.run({ source: faultySource({ "model.tar": tar }, { archive: "tar", flip }) })
		.catch((thrown: unknown) => thrown);
	expect(error).toMatchObject({ reason: "checksum_mismatch" });
	expect(readdirSync(join(dir.path, "disk/staging"))).toEqual([]);
});
