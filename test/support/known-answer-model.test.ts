import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { writeFiller, writeGguf, writeSafetensorsRepository } from "./known-answer-model.ts";
import { tempDir } from "./temp-dir.ts";

interface StoredTensor {
	name: string;
	shape: number[];
	bytes: Uint8Array;
}

test("the same seed gives the same bytes and another seed gives others", () => {
	using dir = tempDir();
	const written = [{ seed: 7 }, { seed: 7 }, { seed: 8 }].map((options, at) => {
		const path = join(dir.path, `${at}.gguf`);
		writeGguf(path, options);
		return readFileSync(path);
	});
	expect(written[0]?.equals(written[1] ?? Buffer.alloc(0))).toBe(true);
	expect(written[0]?.equals(written[2] ?? Buffer.alloc(0))).toBe(false);
});

test("the GGUF file and the safetensors repository hold the same weights", () => {
	using dir = tempDir();
	const options = { sizeBytes: 8_000_000, shards: 4 };
	writeGguf(join(dir.path, "tiny.gguf"), options);
	const { files } = writeSafetensorsRepository(join(dir.path, "tiny"), options);
	const shards = files.filter((name) => name.endsWith(".safetensors"));
	expect(shards).toHaveLength(4);
	const index = JSON.parse(readFileSync(join(dir.path, "tiny/model.safetensors.index.json"), "utf8"));
	const inShards = shards.flatMap((name) =>
		safetensors(readFileSync(join(dir.path, "tiny", name))).map((tensor) => ({ ...tensor, file: name })),
	);
	const inGguf = gguf(readFileSync(join(dir.path, "tiny.gguf")));
	expect(inShards.map(({ shape }) => shape)).toEqual(inGguf.map(({ shape }) => shape));
	for (const [at, tensor] of inShards.entries()) {
		expect(Buffer.compare(tensor.bytes, inGguf[at]?.bytes ?? new Uint8Array())).toBe(0);
		expect(index.weight_map[tensor.name]).toBe(tensor.file);
	}
	const total = inShards.reduce((sum, tensor) => sum + tensor.bytes.length, 0);
	expect(index.metadata.total_size).toBe(total);
	expect(total).toBeGreaterThanOrEqual(options.sizeBytes);
	expect(total).toBeLessThan(options.sizeBytes * 1.05);
});

test("a sentence that repeats a word is refused", () => {
	expect(() => writeGguf("/nowhere/tiny.gguf", { say: "one two one" })).toThrow('"one" twice');
});

test("filler has exactly the size asked for and does not shrink under compression", () => {
	using dir = tempDir();
	const path = join(dir.path, "filler");
	writeFiller(path, 3_000_001);
	const bytes = readFileSync(path);
	expect(bytes.length).toBe(3_000_001);
	expect(Bun.zstdCompressSync(bytes).length).toBeGreaterThan(2_990_000);
});

function safetensors(file: Buffer): StoredTensor[] {
	const start = 8 + Number(file.readBigUInt64LE(0));
	const header: Record<string, { shape: number[]; data_offsets: [number, number] }> = JSON.parse(
		file.toString("utf8", 8, start),
	);
	return Object.entries(header)
		.filter(([name]) => name !== "__metadata__")
		.map(
			([
				name,
				{
					shape,
					data_offsets: [from, to],
				},
			]) => ({
				name,
				shape,
				bytes: file.subarray(start + from, start + to),
			}),
		);
}

/** Reads GGUF independently of the writer. */
function gguf(file: Buffer): StoredTensor[] {
	let at = 8;
	const u32 = () => file.readUInt32LE((at += 4) - 4);
	const u64 = () => Number(file.readBigUInt64LE((at += 8) - 8));
	const text = () => file.toString("utf8", at + 8, (at += 8 + Number(file.readBigUInt64LE(at))));
	const skip = (type: number): void => {
		if (type === 8) text();
		else if (type === 9) {
			const inner = u32();
			for (let left = u64(); left > 0; left--) skip(inner);
		} else at += type === 7 ? 1 : 4;
	};
	const [tensors, metadata] = [u64(), u64()];
	for (let left = metadata; left > 0; left--) {
		text();
		skip(u32());
	}
	const infos = Array.from({ length: tensors }, () => {
		const name = text();
		const dims = Array.from({ length: u32() }, u64);
		u32();
		return { name, shape: dims.reverse(), offset: u64() };
	});
	const data = Math.ceil(at / 32) * 32;
	return infos.map(({ name, shape, offset }) => {
		const sizeBytes = shape.reduce((product, length) => product * length, 4);
		return { name, shape, bytes: file.subarray(data + offset, data + offset + sizeBytes) };
	});
}
