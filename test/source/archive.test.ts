import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pack } from "tar-stream";
import { type ArchiveInput, extractArchive, type UnpackedArchive } from "../../src/core/source/source.ts";
import { type TempDir, tempDir } from "../support/temp-dir.ts";

type Header = Parameters<ReturnType<typeof pack>["entry"]>[0];
type Member = Header & { body?: string | Buffer };

const BLOCK = 512;
let dir: TempDir;
beforeEach(() => {
	dir = tempDir();
	writeFileSync(join(dir.path, "sentinel"), "untouched");
});
afterEach(() => {
	dir[Symbol.dispose]();
});

async function tar(...members: Member[]): Promise<Buffer> {
	const packing = pack();
	for (const { body = "", ...header } of members) packing.entry(header, body);
	packing.finalize();
	const blocks: Uint8Array[] = [];
	for await (const block of packing as AsyncIterable<Uint8Array>) blocks.push(block);
	return Buffer.concat(blocks);
}
/** Writes bytes into the header of the first member and makes its checksum right again. */
function patched(archive: Buffer, offset: number, bytes: string | Buffer): Buffer {
	const copy = Buffer.from(archive);
	Buffer.from(bytes).copy(copy, offset);
	copy.fill(" ", 148, 156);
	const sum = copy.subarray(0, BLOCK).reduce((total, byte) => total + byte, 0);
	copy.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
	return copy;
}
/** A header block of any type, with a right checksum. */
async function headerBlock(name: string, typeflag: string, sizeBytes = 0): Promise<Buffer> {
	const block = (await tar({ name, size: 0 })).subarray(0, BLOCK);
	const sized = patched(block, 124, `${sizeBytes.toString(8).padStart(11, "0")}\0`);
	return patched(sized, 156, typeflag);
}
const padded = (body: string): Buffer => {
	const bytes = Buffer.alloc(Math.ceil(Buffer.byteLength(body) / BLOCK) * BLOCK);
	bytes.write(body);
	return bytes;
};
const END = Buffer.alloc(2 * BLOCK);

function unpack(archive: Buffer, more: Partial<ArchiveInput> = {}): Promise<UnpackedArchive> {
	const path = join(dir.path, "archive");
	writeFileSync(path, archive);
	return extractArchive({
		path,
		kind: "tar",
		targetDirectory: join(dir.path, "out"),
		limits: { maxFiles: 100, maxBytes: 1_000_000 },
		signal: AbortSignal.timeout(20_000),
		...more,
	});
}
/** Expects the refusal, and that nothing of the archive is left anywhere. */
async function refused(
	archive: Buffer,
	reason: string,
	more: Partial<ArchiveInput> = {},
): Promise<Record<string, unknown>> {
	const error = await unpack(archive, more).then(
		(): Record<string, unknown> => ({ reason: "nothing failed" }),
		(thrown: unknown) => thrown as Record<string, unknown>,
	);
	expect(error).toMatchObject({ reason, ...(reason === "too_large" ? { status: 507 } : { status: 400 }) });
	expect(readdirSync(dir.path).sort()).toEqual(["archive", "sentinel"]);
	expect(readFileSync(join(dir.path, "sentinel"), "utf8")).toBe("untouched");
	return error;
}

describe("a good archive", () => {
	const MEMBERS: Member[] = [
		{ name: "config.json", body: "{}" },
		{ name: "sub/", type: "directory" },
		{ name: "sub/deep/weights.bin", body: Buffer.alloc(5000, 7) },
		{ name: "empty", body: "" },
		{ name: `${"long/".repeat(30)}name.txt`, body: "long name" },
	];

	test.each(["tar", "tar.gz"] as const)("as %s is unpacked with private modes", async (kind) => {
		const archive = await tar(...MEMBERS);
		const unpacked = await unpack(
			kind === "tar" ? archive : Buffer.from(Bun.gzipSync(new Uint8Array(archive))),
			{ kind },
		);
		expect(unpacked.files.map(({ path, sizeBytes }) => [path as string, sizeBytes])).toEqual([
			["config.json", 2],
			["sub/deep/weights.bin", 5000],
			["empty", 0],
			[`${"long/".repeat(30)}name.txt`, 9],
		]);
		expect(unpacked.totalBytes).toBe(5011);
		const out = join(dir.path, "out");
		expect(readFileSync(join(out, "sub/deep/weights.bin")).equals(Buffer.alloc(5000, 7))).toBe(true);
		expect(statSync(join(out, "config.json")).mode & 0o777).toBe(0o600);
		for (const folder of ["", "sub", "sub/deep"])
			expect(statSync(join(out, folder)).mode & 0o777).toBe(0o700);
	});

	test("whose files lie in one folder comes without that folder", async () => {
		const unpacked = await unpack(
			await tar(
				{ name: "tiny/", type: "directory" },
				{ name: "tiny/a", body: "1" },
				{ name: "tiny/b/c", body: "2" },
			),
		);
		expect(unpacked.files.map(({ path }) => path as string)).toEqual(["a", "b/c"]);
		expect(readdirSync(dir.path).sort()).toEqual(["archive", "out", "sentinel"]);
		expect(readFileSync(join(dir.path, "out/b/c"), "utf8")).toBe("2");
	});

	test("that was packed as `tar -C folder .` is fine", async () => {
		const unpacked = await unpack(await tar({ name: "./", type: "directory" }, { name: "./a", body: "1" }));
		expect(unpacked.files.map(({ path }) => path as string)).toEqual(["a"]);
	});

	test("by the system's tar, of any format, is fine", async () => {
		await Bun.$`mkdir -p ${dir.path}/m/sub && echo hello > ${dir.path}/m/sub/a && head -c 70000 /dev/zero > ${dir.path}/m/zeros`.quiet();
		for (const format of ["gnu", "pax", "ustar"]) {
			await Bun.$`tar --format=${format} -C ${dir.path} -cf ${dir.path}/sys.tar m`.quiet();
			const targetDirectory = join(dir.path, format);
			const unpacked = await unpack(readFileSync(join(dir.path, "sys.tar")), { targetDirectory });
			expect(unpacked.files.map(({ path }) => path as string).sort()).toEqual(["sub/a", "zeros"]);
			expect(statSync(join(targetDirectory, "zeros")).size).toBe(70_000);
		}
	});

	test("is not unpacked into a directory that is there already, which stays as it is", async () => {
		await Bun.$`mkdir ${dir.path}/out && echo mine > ${dir.path}/out/file`.quiet();
		const error = await unpack(await tar({ name: "a", body: "1" })).catch((thrown: unknown) => thrown);
		expect(error).toMatchObject({ code: "EEXIST" });
		await Bun.$`test -f ${dir.path}/out/file`.quiet();
	});
});

describe("names", () => {
	test.each([
		"../x",
		"/x",
		"a/../../x",
		"a/./b",
		"a//b",
		"..",
		"con",
		"a\\b",
		"C:x",
		".gswarm-manifest.json",
		"x".repeat(256),
		`${"d/".repeat(40)}x`,
		"././a",
	])("%j is unsafe_entry", async (name) => {
		await refused(await tar({ name: "fine", body: "1" }, { name, body: "2" }), "unsafe_entry");
	});

	test("that are not UTF-8 are unsafe_entry", async () => {
		await refused(
			patched(await tar({ name: "abcd", body: "1" }), 0, Buffer.from([0x61, 0xff, 0xfe])),
			"unsafe_entry",
		);
	});

	test.each([
		["twice", ["a", "a"]],
		["twice but for capitals", ["Model.bin", "model.bin"]],
		["twice but for letters that have two forms", ["straße", "STRASSE"]],
		["twice but for a character that nobody sees", ["model.bin", "mod\u200cel.bin"]],
		["as file and as folder", ["a", "a/b"]],
		["as folder and as file", ["a/b", "a"]],
	])("%s are unsafe_entry", async (_name, names) => {
		await refused(await tar(...names.map((name) => ({ name, body: "1" }))), "unsafe_entry");
	});
});

describe("entries", () => {
	test.each([
		["symlink", { linkname: "/etc/passwd" }],
		["symlink", { linkname: "inside" }],
		["link", { linkname: "../../etc/passwd" }],
		["link", { linkname: "fine" }],
		["fifo", {}],
		["character-device", { devmajor: 1, devminor: 3 }],
		["block-device", { devmajor: 8, devminor: 0 }],
		["contiguous-file", {}],
	] as [NonNullable<Header["type"]>, object][])("a %s is unsupported_entry", async (type, more) => {
		await refused(
			await tar({ name: "fine", body: "1" }, { name: "bad", type, ...more }),
			"unsupported_entry",
		);
	});

	test("of unknown types, and sparse files of both kinds, are unsupported_entry", async () => {
		for (const typeflag of ["S", "V", "M", "D", "Z"]) {
			await refused(Buffer.concat([await headerBlock("x", typeflag), END]), "unsupported_entry");
		}
		const record = "22 GNU.sparse.major=1\n";
		const pax = Buffer.concat([await headerBlock("pax", "x", record.length), padded(record)]);
		await refused(Buffer.concat([pax, await tar({ name: "a", body: "1" })]), "unsupported_entry");
	});

	test("behind 2000 long names are unsupported_entry", async () => {
		const long = Buffer.concat([await headerBlock("././@LongLink", "L", 4), padded("abc")]);
		const archive = Buffer.concat([
			...Array.from({ length: 2000 }, () => long),
			await tar({ name: "a", body: "1" }),
		]);
		await refused(archive, "unsupported_entry", { limits: { maxFiles: 100_000, maxBytes: 1_000_000_000 } });
	});
});

describe("a damaged archive", () => {
	test.each([
		["empty", () => Buffer.alloc(0)],
		["only an end", () => END],
		["no tar at all", () => Buffer.from("PK\x03\x04".padEnd(2000, "x"))],
	])("%s is bad_archive", async (_name, make) => {
		await refused(make(), "bad_archive");
	});

	test("cut anywhere is bad_archive, without an uncaught error", async () => {
		const whole = await tar({ name: "a", body: "x".repeat(700) }, { name: "b", body: "1" });
		for (const length of [100, 511, 512, 513, 1000, 1535, 1536, 2000, 2048, 2560, 3071, 3072, 3583]) {
			await refused(whole.subarray(0, length), "bad_archive");
		}
		await unpack(whole);
	});

	test("with a wrong checksum is bad_archive", async () => {
		const archive = await tar({ name: "a", body: "1" });
		archive[0] = 0x62;
		await refused(archive, "bad_archive");
	});

	test.each([
		["garbage", "99zz9999999\0"],
		["negative", Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe])],
		[
			"beyond what can be counted",
			Buffer.from([0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
		],
	])("with a size that is %s is bad_archive", async (_name, size) => {
		await refused(patched(await tar({ name: "a", body: "1" }), 124, size), "bad_archive");
	});

	test("with a folder that has contents is bad_archive", async () => {
		const folder = Buffer.concat([
			await headerBlock("folder/", "5", 1000),
			await tar({ name: "a", body: "1" }),
		]);
		expect((await refused(folder, "bad_archive")).message).toContain("claims 1000 bytes");
	});

	test("with something behind its end is bad_archive", async () => {
		const one = await tar({ name: "a", body: "1" });
		await refused(Buffer.concat([one, Buffer.alloc(BLOCK, "x")]), "bad_archive");
		await refused(Buffer.concat([one, Buffer.alloc(100, "x")]), "bad_archive");
		await refused(Buffer.concat([one, await tar({ name: "b", body: "1" })]), "bad_archive");
		await refused(
			Buffer.concat([one.subarray(0, 2 * BLOCK), END.subarray(BLOCK), await tar({ name: "b" })]),
			"bad_archive",
		);
		await unpack(Buffer.concat([one, Buffer.alloc(20 * BLOCK)]));
	});

	test("in damaged gzip is bad_archive", async () => {
		const gzip = Buffer.from(Bun.gzipSync(new Uint8Array(await tar({ name: "a", body: "1".repeat(3000) }))));
		const crc = Buffer.from(gzip);
		crc[gzip.length - 6] = (crc[gzip.length - 6] ?? 0) ^ 1;
		for (const bad of [
			gzip.subarray(0, 30),
			gzip.subarray(0, -4),
			crc,
			Buffer.concat([gzip, Buffer.from("junk")]),
		]) {
			await refused(bad, "bad_archive", { kind: "tar.gz" });
		}
		await refused(await tar({ name: "a", body: "1" }), "bad_archive", { kind: "tar.gz" });
		await refused(gzip, "bad_archive");
	});
});

describe("limits", () => {
	test("of contents and entries hold exactly", async () => {
		const archive = await tar({ name: "a", body: "x".repeat(600) }, { name: "b", body: "x".repeat(400) });
		await refused(archive, "too_large", { limits: { maxFiles: 2, maxBytes: 999 } });
		await refused(archive, "too_large", { limits: { maxFiles: 1, maxBytes: 1000 } });
		await unpack(archive, { limits: { maxFiles: 2, maxBytes: 1000 } });
	});

	test("refuse an entry by the size it claims, before anything of it is written", async () => {
		const claimed = patched(await tar({ name: "a", body: "1" }), 124, "77777777777\0");
		await refused(claimed, "too_large");
	});

	test.each([
		["extended headers", "g"],
		["an endless tail", "\0"],
	])("stop %s that unpack to far more than they are worth", async (_what, typeflag) => {
		const record = padded("12 path=abc\n");
		const header = Buffer.concat([await headerBlock("pax", typeflag, 12), record]);
		const block = typeflag === "g" ? header : END;
		const one = (await tar({ name: "a", body: "1" })).subarray(0, 2 * BLOCK);
		const many = Buffer.alloc(33 * 1024 * 1024, block);
		const archive = Buffer.from(Bun.gzipSync(new Uint8Array(Buffer.concat([one, many, END]))));
		const limits = { maxFiles: 100, maxBytes: 1_000_000_000_000 };
		const error = await refused(archive, "bad_archive", { kind: "tar.gz", limits });
		expect(error["message"]).toContain("belong to no entry");
	});

	test("stop a gzip bomb long before it is unpacked", async () => {
		const bomb = Buffer.from(Bun.gzipSync(new Uint8Array(200_000_000)));
		const gzip = Buffer.concat([
			Buffer.from(Bun.gzipSync(new Uint8Array((await tar({ name: "a", body: "1" })).subarray(0, 1024)))),
			bomb,
		]);
		await refused(gzip, "too_large", { kind: "tar.gz" });
	});
});

test("an abort throws its reason and removes what was unpacked", async () => {
	const stop = new AbortController();
	const archive = await tar(
		...Array.from({ length: 90 }, (_, index) => ({ name: `f${index}`, body: "x".repeat(9000) })),
	);
	const unpacking = unpack(archive, { signal: stop.signal }).catch((thrown: unknown) => thrown);
	const reason = new Error("enough");
	stop.abort(reason);
	expect(await unpacking).toBe(reason);
	expect(readdirSync(dir.path).sort()).toEqual(["archive", "sentinel"]);
});
