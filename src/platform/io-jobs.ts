/** What a thread of the io pool does: synchronous loops over files. Each stops between two blocks when it was told to. */
import { closeSync, constants, openSync, readSync, writeSync } from "node:fs";
import { createPartTag, type StreamingXxh64, sha256Hex, xxh64Hex } from "./hash.ts";
import { syncFilesystem } from "./sync-filesystem.ts";
import { readWeightsHeader, type WeightsFormat, type WeightsHeader } from "./weights-header.ts";

export type IoJob =
	| {
			kind: "hash-file";
			path: string;
			partSizeBytes: number;
			gitSha1: boolean;
			sizeBytes: number;
			tagKey?: string | undefined;
	  }
	| { kind: "hash-parts"; path: string; partSizeBytes: number; parts: readonly number[] }
	| TagPartsJob
	| HashOnJob
	| { kind: "hash-end"; session: number }
	| ({ kind: "read-files" } & FileList)
	| ({ kind: "write-files"; bytes: Uint8Array<ArrayBuffer>; sha256: boolean } & FileList)
	| { kind: "sync-filesystem"; path: string }
	| { kind: "read-header"; path: string; format: WeightsFormat }
	| { kind: "copy-range"; from: string; to: string; start: number; end: number; partSizeBytes: number };

export interface FileEntry {
	/** Absolute. */
	path: string;
	sizeBytes: number;
}

/** Thousands of files as one message: to hand over an object for each costs more than to write it. */
export interface FileList {
	/** Paths, each with a zero byte at its end. */
	paths: string;
	sizes: Float64Array<ArrayBuffer>;
}

export function fileList(files: readonly FileEntry[]): FileList {
	return {
		paths: files.map(({ path }) => `${path}\0`).join(""),
		sizes: Float64Array.from(files, ({ sizeBytes }) => sizeBytes),
	};
}

function filesOf({ paths, sizes }: FileList): FileEntry[] {
	const names = paths.split("\0");
	if (names.length !== sizes.length + 1) throw new Error("a path has a zero byte");
	return Array.from(sizes, (sizeBytes, at) => ({ path: names[at] ?? "", sizeBytes }));
}

/** Of a small file that was written. */
export interface SmallFileDigests {
	xxh64: string;
	/** Undefined: not asked for. */
	sha256: string | undefined;
}

/** Tags of parts, under the key of their file. */
export interface TagPartsJob {
	kind: "tag-parts";
	path: string;
	partSizeBytes: number;
	parts: readonly number[];
	/** XXH64 of each of them: other bytes are not tagged. */
	wanted: readonly string[];
	key: string;
}

/** What a job answers, by its kind. */
export type IoResult = FileDigests | string | string[] | Uint8Array<ArrayBuffer> | WeightsHeader | boolean;

/** The next bytes of a file that is read as it grows; the hashes so far are kept under `session`. */
export interface HashOnJob {
	kind: "hash-on";
	session: number;
	path: string;
	start: number;
	end: number;
	/** Size that the whole file is meant to have, when sha1 of the git blob is asked for. */
	gitSha1Of: number | undefined;
	/** Undefined: no XXH64 of parts. */
	partSizeBytes: number | undefined;
	/** Undefined: no tags of parts. */
	tagging?: Tagging | undefined;
}

export interface Tagging {
	/** Of the file. */
	key: string;
	partSizeBytes: number;
}

export interface FileDigests {
	sizeBytes: number;
	sha256: string;
	/** sha1 of the git blob; only when asked. */
	gitSha1: string | undefined;
	/** XXH64 per part. */
	xxh64: string[];
	/** Tags per part; only when asked. */
	tags?: string[] | undefined;
}

export interface IoTools {
	newXxh64: () => StreamingXxh64;
	/** Working memory; its length is the block size. */
	buffer: Uint8Array;
	/** Called between blocks with the bytes done so far; throws to stop. */
	step: (bytesDone: number) => void;
	/** Hashes of files that are read as they grow; of this thread alone. */
	sessions: Map<number, HashSession>;
}

/** Where the hashes of a growing file stand. */
export interface HashSession {
	position: number;
	sha256: Bun.CryptoHasher;
	blob: Bun.CryptoHasher | undefined;
	parts: ReturnType<typeof partHasher> | undefined;
	tags: ReturnType<typeof partHasher> | undefined;
}

const { O_RDONLY, O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW, O_NONBLOCK } = constants;

export function runIoJob(job: IoJob, tools: IoTools): IoResult {
	switch (job.kind) {
		case "hash-file":
			return hashFile(job, tools);
		case "hash-parts":
			return hashParts(job, tools);
		case "tag-parts":
			return tagParts(job, tools);
		case "hash-on":
			return hashOn(job, tools);
		case "hash-end":
			return hashEnd(job, tools);
		case "read-files":
			return readFiles(filesOf(job), tools);
		case "write-files":
			return writeFiles(job, tools);
		case "sync-filesystem":
			return syncFilesystem(job.path);
		case "read-header":
			return readWeightsHeader(job.format, job.path);
		case "copy-range":
			return copyRange(job, tools);
	}
}

function hashFile(job: Extract<IoJob, { kind: "hash-file" }>, tools: IoTools): FileDigests {
	const sha256 = new Bun.CryptoHasher("sha256");
	const blob = job.gitSha1 ? new Bun.CryptoHasher("sha1").update(`blob ${job.sizeBytes}\0`) : undefined;
	const parts = partHasher(job.partSizeBytes, tools.newXxh64);
	const { tagKey, partSizeBytes } = job;
	const tags = tagKey === undefined ? undefined : partTagger({ key: tagKey, partSizeBytes });
	// A fifo in its place must not hold up the thread.
	const fd = openSync(job.path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
	try {
		let position = 0;
		for (;;) {
			const count = readSync(fd, tools.buffer, 0, tools.buffer.byteLength, position);
			if (count === 0) break;
			const block = tools.buffer.subarray(0, count);
			sha256.update(block);
			blob?.update(block);
			parts.update(block);
			tags?.update(block);
			position += count;
			tools.step(position);
		}
		return {
			sizeBytes: position,
			sha256: sha256.digest("hex"),
			gitSha1: blob?.digest("hex"),
			xxh64: parts.end(),
			tags: tags?.end(),
		};
	} finally {
		closeSync(fd);
	}
}

function hashOn(job: HashOnJob, tools: IoTools): string[] {
	const { session, path, start, end } = job;
	const held = tools.sessions.get(session) ?? newSession(job, tools);
	if (held.position !== start) throw new Error(`the hash of ${path} is at ${held.position}, not at ${start}`);
	// Taken back at the end only: hashes that were stopped in the middle are of no use.
	tools.sessions.delete(session);
	const fd = openSync(path, O_RDONLY | O_NOFOLLOW);
	try {
		while (held.position < end) {
			const want = Math.min(tools.buffer.byteLength, end - held.position);
			const count = readSync(fd, tools.buffer, 0, want, held.position);
			if (count === 0) throw new ShortFile(held.position, end);
			const block = tools.buffer.subarray(0, count);
			held.sha256.update(block);
			held.blob?.update(block);
			held.parts?.update(block);
			held.tags?.update(block);
			held.position += count;
			tools.step(held.position - start);
		}
	} finally {
		closeSync(fd);
	}
	tools.sessions.set(session, held);
	return [];
}

function newSession({ gitSha1Of, partSizeBytes, tagging }: HashOnJob, tools: IoTools): HashSession {
	return {
		position: 0,
		sha256: new Bun.CryptoHasher("sha256"),
		blob: gitSha1Of === undefined ? undefined : new Bun.CryptoHasher("sha1").update(`blob ${gitSha1Of}\0`),
		parts: partSizeBytes === undefined ? undefined : partHasher(partSizeBytes, tools.newXxh64),
		tags: tagging && partTagger(tagging),
	};
}

function hashEnd({ session }: { session: number }, { sessions }: IoTools): FileDigests {
	const held = sessions.get(session);
	sessions.delete(session);
	if (held === undefined) throw new Error("there is no such hash");
	return {
		sizeBytes: held.position,
		sha256: held.sha256.digest("hex"),
		gitSha1: held.blob?.digest("hex"),
		xxh64: held.parts?.end() ?? [],
		tags: held.tags?.end(),
	};
}

function readFiles(files: readonly FileEntry[], { step }: IoTools): Uint8Array<ArrayBuffer> {
	const all = new Uint8Array(files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0));
	let at = 0;
	for (const { path, sizeBytes } of files) {
		// A pipe would wait for who writes to it.
		const fd = openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
		try {
			for (let position = 0; position < sizeBytes; ) {
				const count = readSync(fd, all, at, sizeBytes - position, position);
				if (count === 0) throw new ShortFile(position, sizeBytes);
				position += count;
				at += count;
			}
		} finally {
			closeSync(fd);
		}
		step(at);
	}
	return all;
}

function writeFiles(
	{ bytes, sha256, ...files }: Extract<IoJob, { kind: "write-files" }>,
	{ step }: IoTools,
): string {
	let at = 0;
	const digests = filesOf(files).map(({ path, sizeBytes }) => {
		const content = bytes.subarray(at, at + sizeBytes);
		at += sizeBytes;
		const fd = openSync(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0o600);
		try {
			writeAll(fd, content, 0);
		} finally {
			closeSync(fd);
		}
		step(at);
		return `${xxh64Hex(content)} ${sha256 ? sha256Hex(content) : ""}`;
	});
	return digests.join("\n");
}

/** What came back as one text, as files were handed over. */
export function smallFileDigests(text: string): SmallFileDigests[] {
	return text.split("\n").map((line) => {
		const [xxh64 = "", sha256 = ""] = line.split(" ");
		return { xxh64, sha256: sha256 === "" ? undefined : sha256 };
	});
}

function hashParts(job: Extract<IoJob, { kind: "hash-parts" }>, tools: IoTools): string[] {
	return digestParts(job, tools, tools.newXxh64);
}

/** Tags of damaged bytes beside those of the right ones, which another node tells, would give the key away. */
function tagParts({ key, wanted, ...job }: TagPartsJob, tools: IoTools): string[] {
	const both = digestParts(job, tools, (part) => {
		const [tag, hash] = [createPartTag(key, part), tools.newXxh64()];
		return {
			update(bytes) {
				tag.update(bytes);
				hash.update(bytes);
			},
			digestHex: () => `${hash.digestHex()} ${tag.digestHex()}`,
		};
	});
	return both.map((digests, at) => {
		const [xxh64, tag = ""] = digests.split(" ");
		if (xxh64 === wanted[at]) return tag;
		throw new Error(`part ${job.parts[at]} of ${job.path} is damaged`);
	});
}

function digestParts(
	job: { path: string; partSizeBytes: number; parts: readonly number[] },
	tools: IoTools,
	digestOf: (part: number) => Pick<StreamingXxh64, "update" | "digestHex">,
): string[] {
	const fd = openSync(job.path, O_RDONLY | O_NOFOLLOW);
	try {
		let done = 0;
		return job.parts.map((part) => {
			const hash = digestOf(part);
			const end = (part + 1) * job.partSizeBytes;
			let position = part * job.partSizeBytes;
			while (position < end) {
				const count = readSync(
					fd,
					tools.buffer,
					0,
					Math.min(tools.buffer.byteLength, end - position),
					position,
				);
				if (count === 0) break;
				hash.update(tools.buffer.subarray(0, count));
				position += count;
				done += count;
				tools.step(done);
			}
			return hash.digestHex();
		});
	} finally {
		closeSync(fd);
	}
}

function copyRange(job: Extract<IoJob, { kind: "copy-range" }>, tools: IoTools): string[] {
	const parts = partHasher(job.partSizeBytes, tools.newXxh64);
	const from = openSync(job.from, O_RDONLY | O_NOFOLLOW);
	try {
		const to = openSync(job.to, O_WRONLY | O_NOFOLLOW);
		try {
			let position = job.start;
			while (position < job.end) {
				const want = Math.min(tools.buffer.byteLength, job.end - position);
				const count = readSync(from, tools.buffer, 0, want, position);
				if (count === 0) throw new ShortFile(position, job.end);
				const block = tools.buffer.subarray(0, count);
				parts.update(block);
				writeAll(to, block, position);
				position += count;
				tools.step(position - job.start);
			}
			return parts.end();
		} finally {
			closeSync(to);
		}
	} finally {
		closeSync(from);
	}
}

/** The file ended before the bytes that were asked for. */
export class ShortFile extends Error {
	readonly code = "SHORT_FILE";
	constructor(endsAt: number, wanted: number) {
		super(`the file ends at byte ${endsAt}, wanted ${wanted}`);
	}
}

function writeAll(fd: number, bytes: Uint8Array, position: number): void {
	let written = 0;
	while (written < bytes.byteLength) {
		const count = writeSync(fd, bytes, written, bytes.byteLength - written, position + written);
		if (count === 0) throw new Error(`writing ${bytes.byteLength - written} bytes wrote none`);
		written += count;
	}
}

function partTagger({ key, partSizeBytes }: Tagging) {
	return partHasher(partSizeBytes, (part) => createPartTag(key, part));
}

/** A digest per part of bytes that come in blocks of any size, from a part's start. */
function partHasher(
	partSizeBytes: number,
	digestOf: (part: number) => Pick<StreamingXxh64, "update" | "digestHex">,
) {
	const digests: string[] = [];
	let hash = digestOf(0);
	let filled = 0;
	return {
		update(block: Uint8Array): void {
			let at = 0;
			while (at < block.byteLength) {
				const count = Math.min(partSizeBytes - filled, block.byteLength - at);
				hash.update(block.subarray(at, at + count));
				at += count;
				filled += count;
				if (filled === partSizeBytes) {
					digests.push(hash.digestHex());
					hash = digestOf(digests.length);
					filled = 0;
				}
			}
		},
		end(): string[] {
			if (filled > 0) digests.push(hash.digestHex());
			return digests;
		},
	};
}
