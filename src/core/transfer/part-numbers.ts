/** The parts of all files of a transfer in one row of numbers, which every node that has the same files counts alike. */
import { type PlannedFile, byteRange } from "./plan.ts";

export interface PartNumbers {
	count: number;
	numberOf(fileIndex: number, part: number): number;
	/** Undefined beyond the end. */
	at(number: number): { file: PlannedFile; part: number; bytes: number } | undefined;
	/** The parts that a range of a file touches. */
	touched(fileIndex: number, range: { start: number; end: number }): { first: number; end: number };
}

export function numberParts(files: readonly PlannedFile[]): PartNumbers {
	const firsts: number[] = [];
	let count = 0;
	for (const { partCount } of files) {
		firsts.push(count);
		count += partCount;
	}
	const fileOf = (number: number): number => {
		let [low, high] = [0, files.length - 1];
		while (low < high) {
			const middle = Math.ceil((low + high) / 2);
			if ((firsts[middle] ?? 0) <= number) low = middle;
			else high = middle - 1;
		}
		return low;
	};
	const firstOf = (fileIndex: number): number => firsts[fileIndex] ?? count;
	return {
		count,
		numberOf: (fileIndex, part) => firstOf(fileIndex) + part,
		at(number) {
			if (number < 0 || number >= count) return undefined;
			const file = files[fileOf(number)];
			if (file === undefined) return undefined;
			const part = number - firstOf(file.index);
			const { start, end } = byteRange(file, { first: part, end: part + 1 });
			return { file, part, bytes: end - start };
		},
		touched(fileIndex, { start, end }) {
			const size = files[fileIndex]?.partSizeBytes ?? 0;
			const first = firstOf(fileIndex);
			if (size === 0) return { first, end: first };
			return { first: first + Math.floor(start / size), end: first + Math.ceil(end / size) };
		},
	};
}
