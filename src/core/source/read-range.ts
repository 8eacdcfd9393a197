/** A short range of a file of a source, whole or not at all. */
import { GswarmError } from "../../schema/errors.ts";
import type { ByteRange, Source, SourceFile } from "./contract.ts";

const TRIES = 2;

/** A range of a file, tried again once when the connection is cut in the middle. */
export async function readRange(
	source: Source,
	file: SourceFile,
	range: ByteRange,
	signal: AbortSignal,
): Promise<Uint8Array> {
	const wanted = range.end - range.start;
	if (wanted <= 0) return new Uint8Array();
	if (!file.rangeable && range.start > 0)
		throw new GswarmError("INVALID_REQUEST", "its source gives whole files only.", { reason: "no_ranges" });
	for (let tries = 1; ; tries++) {
		try {
			const bytes = await readStart(
				await source.read(file, file.rangeable ? range : undefined, signal),
				wanted,
			);
			if (bytes.length === wanted) return bytes;
			throw cutShort(file.path, bytes.length, wanted);
		} catch (error) {
			signal.throwIfAborted();
			const failure = error instanceof GswarmError ? error : cutShort(file.path, 0, wanted, error);
			if (!failure.retryable || failure.reason === "rate_limited" || tries >= TRIES) throw failure;
		}
	}
}

/** The first bytes of a stream, which is not read further. */
async function readStart(stream: ReadableStream<Uint8Array>, length: number): Promise<Uint8Array> {
	const blocks: Uint8Array[] = [];
	let got = 0;
	for await (const block of stream) {
		blocks.push(block);
		got += block.length;
		if (got >= length) break;
	}
	return Buffer.concat(blocks).subarray(0, length);
}

function cutShort(path: string, got: number, wanted: number, cause?: unknown): GswarmError {
	return new GswarmError("NETWORK_ERROR", `The source of ${path} sent ${got} of ${wanted} bytes.`, {
		reason: "connection_lost",
		retryable: true,
		cause,
	});
}
