/**
 * A copy as one tar stream, a bundle. Every part is compared with its digest on its way out; a copy that turns out to
 * be damaged breaks the stream off before the end marker, so that nobody takes it for a whole one.
 */
import { type FileHandle, open } from "node:fs/promises";
import { type Pack, pack } from "tar-stream";
import { fileError } from "../../platform/durable-file.ts";
import { createXxh64Factory, type StreamingXxh64 } from "../../platform/hash.ts";
import { parseSafePath } from "../../platform/safe-path.ts";
import { BUNDLE_ENTRY, BUNDLE_FOLDER } from "../../schema/bundle-form.ts";
import { type Bundle } from "../../schema/bundle.ts";
import { GswarmError, modelNotFound } from "../../schema/errors.ts";
import { canonicalManifest, type Manifest, type ManifestFile } from "../../schema/manifest.ts";
import type { ModelCopy } from "../../schema/model.ts";
import { parseModelName, parseRevision } from "../../schema/names.ts";
import type { Storage } from "../storage/storage.ts";

const BLOCK_BYTES = 1024 * 1024;
/** The same model makes the same bundle, byte for byte. */
const EPOCH = new Date(0);

/** The copy is held until the stream has ended, or nobody reads it any more. @throws 404 model_not_found */
export async function exportCopy(storage: Storage, copy: ModelCopy): Promise<ReadableStream<Uint8Array>> {
	const manifest = storage.manifest(copy.content_id);
	if (manifest === undefined) throw modelNotFound(copy.model_name, copy.tier);
	const newXxh64 = await createXxh64Factory();
	const canonical = JSON.parse(canonicalManifest(manifest)) as Manifest;
	const hold = storage.hold(
		parseModelName(copy.model_name),
		parseRevision(copy.revision),
		copy.tier,
		"being exported",
		"read",
	);
	const tar = pack();
	const failures: unknown[] = [];
	// It complains of its own destruction, too.
	tar.on("error", (error: unknown) => void failures.push(error));
	const fill = async (): Promise<void> => {
		await entry(tar, BUNDLE_ENTRY, bundleText(copy, canonical));
		for (const file of canonical.files) {
			const path = storage.fileOf(copy, parseSafePath(file.path));
			await entry(tar, `${BUNDLE_FOLDER}/${file.path}`, checkedBytes(path, file, newXxh64), file.size_bytes);
		}
		tar.finalize();
	};
	const filling = fill().catch((error: unknown) => {
		failures.unshift(error);
		tar.destroy();
	});
	const blocks = (tar as unknown as AsyncIterable<Uint8Array>)[Symbol.asyncIterator]();
	const end = (): void => hold[Symbol.dispose]();
	return new ReadableStream<Uint8Array>(
		{
			async pull(controller) {
				const next = await blocks.next().catch((error: unknown) => ({ failed: error }));
				const failure = failures[0] ?? ("failed" in next ? next.failed : undefined);
				if (failure !== undefined) {
					await filling;
					end();
					controller.error(failure);
					return;
				}
				if ("failed" in next) return;
				if (next.done !== true) return controller.enqueue(next.value);
				end();
				controller.close();
			},
			async cancel() {
				tar.destroy();
				await filling;
				end();
			},
		},
		{ highWaterMark: 0 },
	);
}

function bundleText(copy: ModelCopy, manifest: Manifest): Uint8Array {
	const { model_name, revision, model_type, format, source_url, content_id } = copy;
	const bundle: Bundle = {
		gswarm_bundle: 1,
		model_name,
		revision,
		model_type,
		format,
		source_url,
		content_id,
		manifest,
	};
	return new TextEncoder().encode(`${JSON.stringify(bundle)}\n`);
}

/** One entry of the archive; waits for its reader. */
async function entry(
	tar: Pack,
	name: string,
	contents: Uint8Array | AsyncIterable<Uint8Array>,
	size = contents instanceof Uint8Array ? contents.length : 0,
): Promise<void> {
	const { promise: done, resolve, reject } = Promise.withResolvers<void>();
	const header = { name, size, mode: 0o644, mtime: EPOCH, type: "file" as const };
	const sink = tar.entry(header, (error) => (error == null ? resolve() : reject(error)));
	const blocks = contents instanceof Uint8Array ? [contents] : contents;
	try {
		for await (const block of blocks) {
			if (sink.write(block)) continue;
			// Whoever goes away while we wait ends the wait, too.
			await Promise.race([done, new Promise<void>((drained) => sink.once("drain", () => drained()))]);
		}
	} catch (error) {
		done.catch(() => undefined);
		throw error;
	}
	sink.end(undefined);
	await done;
}

/** @throws TASK_FAILED copy_damaged before the bytes of a damaged part are whole */
async function* checkedBytes(
	path: string,
	file: ManifestFile,
	newXxh64: () => StreamingXxh64,
): AsyncGenerator<Uint8Array> {
	let handle: FileHandle;
	try {
		handle = await open(path, "r");
	} catch (error) {
		throw fileError(error, "Reading the copy");
	}
	try {
		for (const [part, wanted] of file.xxh64.entries()) {
			const hash = newXxh64();
			const end = Math.min(file.size_bytes, (part + 1) * file.part_size_bytes);
			for (let at = part * file.part_size_bytes; at < end; ) {
				const block = new Uint8Array(Math.min(BLOCK_BYTES, end - at));
				const { bytesRead } = await handle.read(block, 0, block.length, at);
				if (bytesRead === 0) throw damaged(file.path, part);
				const bytes = block.subarray(0, bytesRead);
				hash.update(bytes);
				at += bytesRead;
				// The last bytes of a part go only when the whole of it is right.
				if (at === end && hash.digestHex() !== wanted) throw damaged(file.path, part);
				yield bytes;
			}
		}
	} finally {
		await handle.close();
	}
}

function damaged(path: string, part: number): GswarmError {
	return new GswarmError(
		"TASK_FAILED",
		`Part ${part} of ${path} is damaged on this node; the export was broken off.`,
		{
			reason: "copy_damaged",
			details: { file: path, part },
			hint: "`gswarm model verify` repairs the copy where there is another one.",
		},
	);
}
