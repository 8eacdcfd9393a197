import { expect, test } from "bun:test";
import * as fc from "fast-check";
import { byteRange, type PlannedFile, planRequests, WEB_REQUESTS } from "../../src/core/transfer/plan.ts";
import { parseSafePath } from "../../src/platform/safe-path.ts";
import { partCount, partSizeBytes } from "../../src/schema/manifest.ts";

const GIB = 1024 ** 3;

function fileOf(sizeBytes: number, index: number): PlannedFile {
	const path = parseSafePath(`file-${index}`);
	return {
		index,
		path,
		source: { path, sizeBytes, digest: undefined, rangeable: true, parts: undefined },
		sizeBytes,
		partSizeBytes: partSizeBytes(sizeBytes),
		partCount: partCount(sizeBytes),
	};
}

test("requests cover exactly the missing parts, each once, each in its file, none too big", () => {
	const sizes = fc.array(fc.integer({ min: 0, max: 20 * GIB }), { maxLength: 6 });
	const limits = fc.record({
		streams: fc.integer({ min: 1, max: 16 }),
		smallestBytes: fc.constant(16 * 1024 ** 2),
		largestBytes: fc.integer({ min: 64 * 1024 ** 2, max: 256 * 1024 ** 2 }),
	});
	fc.assert(
		fc.property(sizes, limits, fc.integer({ min: 1, max: 7 }), (list, limit, every) => {
			const files = list.map(fileOf);
			const isThere = (file: PlannedFile, part: number): boolean => (part * 7 + file.index) % every === 1;
			const requests = planRequests(files, isThere, limit);
			const asked = new Set<string>();
			for (const { file, parts, bytes } of requests) {
				if (parts === undefined) throw new Error("every file here has parts");
				for (let part = parts.first; part < parts.end; part++) {
					const key = `${file.index} ${part}`;
					expect(asked.has(key) || isThere(file, part)).toBe(false);
					asked.add(key);
				}
				const { start, end } = byteRange(file, parts);
				expect(end - start).toBe(bytes as number);
				expect(end).toBeLessThanOrEqual(file.sizeBytes ?? 0);
				expect(bytes as number).toBeLessThanOrEqual(Math.max(limit.largestBytes, file.partSizeBytes));
			}
			const missing = files.flatMap((file) =>
				Array.from({ length: file.partCount }, (_, part) => part).filter((part) => !isThere(file, part)),
			);
			expect(asked.size).toBe(missing.length);
		}),
		{ numRuns: 60 },
	);
});

test("the largest file comes first, and a middling one is shared by all streams", () => {
	const requests = planRequests([fileOf(5000, 0), fileOf(256 * 1024 ** 2, 1)], () => false, WEB_REQUESTS);
	expect(requests.at(-1)?.file.index).toBe(0);
	expect(requests.filter(({ file }) => file.index === 1).length).toBeGreaterThanOrEqual(WEB_REQUESTS.streams);
});
