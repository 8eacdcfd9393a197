/** A source that is asked only for what of a damaged copy is wrong; the rest is read from the copy itself. */
import { joinSafe } from "../../platform/safe-path.ts";
import type { ByteRange, Source, SourceFile } from "../source/source.ts";

export interface Remains {
	/** Where the damaged copy's files are. */
	directory: string;
	/** Of the files that are damaged: the parts, undefined for all of them. A file that is not named is right. */
	damaged: ReadonlyMap<string, readonly number[] | undefined>;
}

/**
 * Only for a source whose description has the digests of parts: what is read from the damaged copy is compared with
 * them like the rest. A part of it that turns out wrong after all comes from the source when it is asked for again.
 */
export function mendingSource(source: Source, { directory, damaged }: Remains): Source {
	const tried = new Set<string>();
	const isRight = (file: SourceFile, part: number): boolean => {
		if (damaged.has(file.path) && damaged.get(file.path)?.includes(part) !== false) return false;
		const key = `${part} ${file.path}`;
		if (tried.has(key)) return false;
		tried.add(key);
		return true;
	};
	return {
		// A directory would be copied from as it is, damage and all.
		describe: (signal) => source.describe(signal),
		async read(file, range, signal) {
			if (range === undefined || file.parts === undefined) return source.read(file, range, signal);
			const pieces = piecesOf(range, file.parts.partSizeBytes, (part) => isRight(file, part));
			const open = ({ here, ...piece }: Piece): Promise<ReadableStream<Uint8Array>> => {
				if (!here) return source.read(file, piece, signal);
				return Promise.resolve(
					Bun.file(joinSafe(directory, file.path)).slice(piece.start, piece.end).stream(),
				);
			};
			const [first, ...rest] = pieces;
			if (first === undefined) return new Blob([]).stream();
			return joined(await open(first), rest, open);
		},
	};
}

interface Piece extends ByteRange {
	here: boolean;
}

/** The range as runs of parts that are to be had at one place. */
function piecesOf(range: ByteRange, partSize: number, isHere: (part: number) => boolean): Piece[] {
	const pieces: Piece[] = [];
	for (let start = range.start; start < range.end; ) {
		const part = Math.floor(start / partSize);
		const end = Math.min((part + 1) * partSize, range.end);
		const here = isHere(part);
		const last = pieces.at(-1);
		if (last?.here === here) last.end = end;
		else pieces.push({ start, end, here });
		start = end;
	}
	return pieces;
}

function joined(
	first: ReadableStream<Uint8Array>,
	rest: readonly Piece[],
	open: (piece: Piece) => Promise<ReadableStream<Uint8Array>>,
): ReadableStream<Uint8Array> {
	if (rest.length === 0) return first;
	const waiting = [...rest];
	let reader = first.getReader();
	return new ReadableStream<Uint8Array>({
		async pull(controller) {
			for (;;) {
				const { done, value } = await reader.read();
				if (!done) {
					controller.enqueue(value);
					return;
				}
				const next = waiting.shift();
				if (next === undefined) {
					controller.close();
					return;
				}
				reader = (await open(next)).getReader();
			}
		},
		cancel: () => reader.cancel(),
	});
}
