/** How the threads of a holder share out the parts of a model: four words of memory, and a list that all of them have. */

/** A file as a thread needs it. */
export interface PlacedFile {
	path: string;
	/** On the device. */
	address: number;
	sizeBytes: number;
	partSizeBytes: number;
	xxh64: readonly string[];
}

const CANCELLED = 0;
const NEXT = 1;
const WORDS = 2;

export function newShare(): SharedArrayBuffer {
	return new SharedArrayBuffer(WORDS * 4);
}

export function cancelShare(memory: SharedArrayBuffer): void {
	Atomics.store(new Int32Array(memory), CANCELLED, 1);
}

export interface Share {
	isCancelled(): boolean;
	/** A part that no other thread has taken; undefined when all are. */
	next(): { file: number; part: number } | undefined;
}

export function shareOf(memory: SharedArrayBuffer, files: readonly PlacedFile[]): Share {
	const words = new Int32Array(memory);
	const firsts: number[] = [];
	let total = 0;
	for (const { xxh64 } of files) {
		firsts.push(total);
		total += xxh64.length;
	}
	return {
		isCancelled: () => Atomics.load(words, CANCELLED) !== 0,
		next() {
			const number = Atomics.add(words, NEXT, 1);
			if (number >= total) return undefined;
			// The last file that begins at or before it; files without parts begin where the next one does.
			let [low, high] = [0, firsts.length - 1];
			while (low < high) {
				const middle = Math.ceil((low + high) / 2);
				if ((firsts[middle] ?? 0) <= number) low = middle;
				else high = middle - 1;
			}
			return { file: low, part: number - (firsts[low] ?? 0) };
		},
	};
}
