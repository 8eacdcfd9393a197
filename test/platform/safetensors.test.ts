import { expect, test } from "bun:test";
import { parseSafetensors, safetensorsHeaderBytes } from "../../src/platform/safetensors.ts";
import { asGswarmError } from "../../src/schema/errors.ts";

const TENSOR = { dtype: "BF16", shape: [2, 3], data_offsets: [0, 12] };

function headerOf(json: unknown): Uint8Array {
	const text = Buffer.from(typeof json === "string" ? json : JSON.stringify(json));
	const prefix = Buffer.alloc(8);
	prefix.writeBigUInt64LE(BigInt(text.length));
	return Buffer.concat([prefix, text]);
}
const read = (json: unknown, dataBytes = 100) => {
	const header = headerOf(json);
	return parseSafetensors(header, "x.safetensors", header.length + dataBytes);
};
const reasonOf = (work: () => unknown): string | undefined => {
	try {
		work();
		return "nothing was refused";
	} catch (error) {
		return asGswarmError(error).reason;
	}
};

test("a header tells its tensors and their elements by type; the metadata is no tensor", () => {
	const found = read({
		__metadata__: { format: "pt" },
		a: TENSOR,
		b: { dtype: "F32", shape: [], data_offsets: [12, 16] },
		c: { dtype: "NEWTYPE7", shape: [5], data_offsets: [16, 17] },
	});
	expect(found).toMatchObject({ tensorCount: 3, parameterCount: 12 });
	expect([...found.parametersByType]).toEqual([
		["BF16", 6],
		["F32", 1],
		["NEWTYPE7", 5],
	]);
});

test.each<[string, unknown]>([
	["a tensor without a type", { a: { shape: [1], data_offsets: [0, 2] } }],
	["a tensor that is null", { a: null }],
	["a negative dimension", { a: { ...TENSOR, shape: [-2, 3] } }],
	["a fraction as a dimension", { a: { ...TENSOR, shape: [1.5] } }],
	["dimensions whose product is no number", { a: { ...TENSOR, shape: [2 ** 40, 2 ** 40] } }],
	["a tensor shorter than its shape", { a: { ...TENSOR, data_offsets: [0, 11] } }],
	["offsets the wrong way round", { a: { ...TENSOR, data_offsets: [12, 0] } }],
	["three offsets", { a: { ...TENSOR, data_offsets: [0, 12, 24] } }],
	["seventeen dimensions", { a: { ...TENSOR, shape: Array.from({ length: 17 }, () => 1) } }],
	["a list", []],
	["no JSON", "{]"],
	["a key twice", '{"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},"a":{}}'],
	["a key of the prototype", '{"__proto__":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}}'],
	["a number that is rounded", '{"a":{"dtype":"U8","shape":[9007199254740993],"data_offsets":[0,1]}}'],
	["brackets in brackets", `{"a":${"[".repeat(50)}${"]".repeat(50)}}`],
])("%s is corrupt", (_what, json) => {
	expect(reasonOf(() => read(json))).toBe("corrupt_safetensors");
});

test("a tensor beyond the end of the file means a cut file", () => {
	expect(reasonOf(() => read({ a: TENSOR }, 11))).toBe("truncated_safetensors");
});

test.each<[string, bigint, number, string]>([
	["more than is read of any header", 33_554_433n, 1e12, "corrupt_safetensors"],
	["more than a number holds", 2n ** 64n - 1n, 1e12, "corrupt_safetensors"],
	["nothing", 0n, 1e12, "corrupt_safetensors"],
	["more than the file has", 100n, 107, "truncated_safetensors"],
])("a length field that claims %s is refused before anything is read", (_what, length, sizeBytes, reason) => {
	const prefix = Buffer.alloc(8);
	prefix.writeBigUInt64LE(length);
	expect(reasonOf(() => safetensorsHeaderBytes(prefix, "x", sizeBytes))).toBe(reason);
});

test("a file of a few bytes has no header", () => {
	expect(reasonOf(() => safetensorsHeaderBytes(new Uint8Array(3), "x", 3))).toBe("truncated_safetensors");
});
