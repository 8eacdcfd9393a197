/** A source in memory that can do what real ones do to us: cut, flip, stall, lie, change. It counts what it sent. */
import type { Source, SourceDescription, SourceFile } from "../../src/core/source/source.ts";
import { sha256Hex, xxh64Hex } from "../../src/platform/hash.ts";
import type { SafePath } from "../../src/platform/safe-path.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import { partSizeBytes } from "../../src/schema/manifest.ts";
import { parseModelName, parseRevision } from "../../src/schema/names.ts";

export interface Faults {
	/** Each connection breaks after so many bytes. */
	cutAfterBytes?: number;
	/** Breaks cleanly, as if the answer were complete. */
	cutsLookComplete?: boolean;
	/** Only so many connections break; then all is well. */
	cuts?: number;
	/** Flips a bit of this byte the first `times` times it is sent. */
	flip?: { path: string; at: number; times: number };
	/** The first `times` connections that come to this byte send nothing more and ignore the abort. */
	stall?: { path: string; at: number; times: number };
	/** The description claims this size. */
	claimSize?: { path: string; size: number };
	/** The description claims this digest. */
	claimDigest?: { path: string; hex: string };
	/** Sends this many bytes more than was asked. */
	tooMany?: number;
	/** A range is answered with `range_ignored`, as the HTTP sources do when the whole file comes. */
	ignoresRanges?: boolean;
	/** From the n-th read on the files are these, and reads say so once per description. */
	changesAt?: { read: number; files: Record<string, Uint8Array> };
	/** Asks for a pause this many times. */
	limited?: { times: number; retryAfterS: number };
	/** Every read is refused. */
	refused?: GswarmError;
}

export interface FaultyOptions extends Faults {
	digests?: "sha256" | "git-sha1" | "parts" | "none";
	rangeable?: boolean;
	sizeless?: boolean;
	blockBytes?: number;
	archive?: "tar" | "tar.gz";
	/** Called before each block that is sent. */
	onBlock?: (path: string, position: number) => Promise<void> | void;
}

export interface FaultySource extends Source {
	reads: { path: string; start: number; end: number; sent: number }[];
	bytesSent(): number;
	descriptions: number;
}

/** Deterministic bytes without a pattern that a hash of parts would not notice. */
export function someBytes(size: number, seed: number): Uint8Array {
	const words = new Uint32Array(Math.ceil(size / 4));
	let state = seed >>> 0 || 1;
	for (let at = 0; at < words.length; at++) {
		state ^= state << 13;
		state ^= state >>> 17;
		state ^= state << 5;
		words[at] = state;
	}
	return new Uint8Array(words.buffer, 0, size);
}

export function faultySource(
	original: Record<string, Uint8Array>,
	options: FaultyOptions = {},
): FaultySource {
	const { digests = "sha256", rangeable = true, sizeless = false, blockBytes = 64 * 1024 } = options;
	let files = original;
	let flips = 0;
	let stalls = 0;
	let cuts = 0;
	let limited = 0;
	let described: Record<string, Uint8Array> = files;
	const reads: FaultySource["reads"] = [];

	const describeFile = (path: string, bytes: Uint8Array): SourceFile => {
		const size = options.claimSize?.path === path ? options.claimSize.size : bytes.byteLength;
		const claimed = options.claimDigest?.path === path ? options.claimDigest.hex : undefined;
		const part = partSizeBytes(size);
		const xxh64: string[] = [];
		for (let at = 0; at < bytes.byteLength; at += part) xxh64.push(xxh64Hex(bytes.subarray(at, at + part)));
		const blob = new Bun.CryptoHasher("sha1").update(`blob ${bytes.byteLength}\0`).update(bytes);
		const digest =
			digests === "none"
				? undefined
				: digests === "git-sha1"
					? { algorithm: "git-sha1" as const, hex: claimed ?? blob.digest("hex") }
					: { algorithm: "sha256" as const, hex: claimed ?? sha256Hex(bytes) };
		return {
			// Not parsed here: a source that lies does not parse either.
			path: path as SafePath,
			sizeBytes: sizeless ? undefined : size,
			digest,
			rangeable,
			parts: digests === "parts" ? { partSizeBytes: part, xxh64 } : undefined,
		};
	};
	const source: FaultySource = {
		reads,
		descriptions: 0,
		bytesSent: () => reads.reduce((sum, read) => sum + read.sent, 0),
		describe() {
			source.descriptions++;
			described = files;
			const list = Object.entries(files).map(([path, bytes]) => describeFile(path, bytes));
			const id = sha256Hex(JSON.stringify(list));
			const description: SourceDescription = {
				uri: "test:acme/tiny",
				revision: parseRevision(id.slice(0, 12)),
				sourceId: id,
				suggestedName: parseModelName("acme/tiny"),
				files: list,
				totalBytes: list.reduce((sum, file) => sum + (file.sizeBytes ?? 0), 0),
				archive: options.archive,
			};
			return Promise.resolve(description);
		},
		read(file, range, signal) {
			if (options.refused !== undefined) return Promise.reject(options.refused);
			if (options.limited !== undefined && limited < options.limited.times) {
				limited++;
				const { retryAfterS } = options.limited;
				const retry = { reason: "rate_limited", retryable: true, retryAfterS };
				return Promise.reject(new GswarmError("NETWORK_ERROR", "limited by the source", retry));
			}
			if (options.changesAt !== undefined && reads.length >= options.changesAt.read)
				files = options.changesAt.files;
			if (described !== files) {
				return Promise.reject(new GswarmError("CONFLICT", "it changed", { reason: "source_changed" }));
			}
			if (options.ignoresRanges === true && range !== undefined) {
				const ignored = { reason: "range_ignored", retryable: true };
				return Promise.reject(new GswarmError("NETWORK_ERROR", "the whole file came", ignored));
			}
			const bytes = files[file.path] ?? new Uint8Array();
			const start = range?.start ?? 0;
			const end = Math.min((range?.end ?? bytes.byteLength) + (options.tooMany ?? 0), bytes.byteLength);
			const record = { path: file.path, start, end: range?.end ?? bytes.byteLength, sent: 0 };
			reads.push(record);
			signal.throwIfAborted();
			const cutHere =
				options.cutAfterBytes !== undefined && cuts < (options.cuts ?? Number.POSITIVE_INFINITY);
			const cutAt = cutHere ? start + (options.cutAfterBytes ?? 0) : Number.POSITIVE_INFINITY;
			let at = start;
			const stream = new ReadableStream<Uint8Array>(
				{
					async pull(controller) {
						await options.onBlock?.(file.path, at);
						if (at >= cutAt) {
							cuts++;
							if (options.cutsLookComplete === true) controller.close();
							else controller.error(new Error("ECONNRESET"));
							return;
						}
						if (at >= end) {
							controller.close();
							return;
						}
						const to = Math.min(at + blockBytes, end, cutAt);
						const block = bytes.slice(at, to);
						const { stall, flip } = options;
						if (stall?.path === file.path && stall.at >= at && stall.at < to && stalls < stall.times) {
							stalls++;
							await new Promise(() => {});
						}
						if (flip?.path === file.path && flip.at >= at && flip.at < to && flips < flip.times) {
							flips++;
							block[flip.at - at] = (block[flip.at - at] ?? 0) ^ 1;
						}
						at = to;
						record.sent += block.byteLength;
						controller.enqueue(block);
					},
				},
				{ highWaterMark: 0 },
			);
			return Promise.resolve(stream);
		},
	};
	return source;
}
