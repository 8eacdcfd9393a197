/**
 * Reads the header of a safetensors file: which tensors it has, of which types, and how many bytes the file must have.
 *
 * Pure over the header's bytes and trusts nothing: the length is bounded before anything is read, every tensor must lie
 * in the file and be as long as its shape says. It fails only with a GswarmError whose reason is `truncated_safetensors`
 * or `corrupt_safetensors`. It reads no weights.
 *
 * Format: https://github.com/huggingface/safetensors#format (8 bytes little-endian length, JSON, data).
 */
import { GswarmError } from "../schema/errors.ts";
import { scanJson } from "./json-scan.ts";
import { FORBIDDEN_KEYS } from "./safe-json.ts";

export interface SafetensorsHeader {
	tensorCount: number;
	/** Elements of all tensors of this file; the files of a split model add up. */
	parameterCount: number;
	/** Elements by type, e.g. `BF16`. */
	parametersByType: ReadonlyMap<string, number>;
	/** Of all tensors. */
	tensorBytes: number;
	/** Length field and JSON. */
	headerBytes: number;
}

/** The length field before the JSON. */
export const SAFETENSORS_PREFIX_BYTES = 8;
/** The format allows 100 MB; the largest real ones, of thousands of experts, have a few MB. */
const MAX_HEADER_BYTES = 16 * 1024 * 1024;
const MAX_TENSORS = 131_072;
const MAX_DIMENSIONS = 16;
/** Of `__metadata__`; a tensor has three. */
const MAX_METADATA_KEYS = 16_384;
const METADATA = "__metadata__";

/** Bits of an element; a type that is newer than this table is counted but not measured. */
const TYPE_BITS: ReadonlyMap<string, number> = new Map([
	["BOOL", 8],
	["F4", 4],
	["F6_E2M3", 6],
	["F6_E3M2", 6],
	["U8", 8],
	["I8", 8],
	["F8_E5M2", 8],
	["F8_E4M3", 8],
	["F8_E8M0", 8],
	["U16", 16],
	["I16", 16],
	["F16", 16],
	["BF16", 16],
	["U32", 32],
	["I32", 32],
	["F32", 32],
	["U64", 64],
	["I64", 64],
	["F64", 64],
	["C64", 64],
]);

/**
 * How many bytes the header takes, length field included, from the file's first 8 bytes.
 * @throws truncated_safetensors, corrupt_safetensors
 */
export function safetensorsHeaderBytes(prefix: Uint8Array, name: string, sizeBytes: number): number {
	if (prefix.length < SAFETENSORS_PREFIX_BYTES || sizeBytes < SAFETENSORS_PREFIX_BYTES)
		throw refuse(name, "truncated", `it has ${sizeBytes} bytes`);
	const length = new DataView(prefix.buffer, prefix.byteOffset, prefix.byteLength).getBigUint64(0, true);
	if (length > BigInt(MAX_HEADER_BYTES) || length < 2n)
		throw refuse(name, "corrupt", `its header claims ${length} bytes; at most ${MAX_HEADER_BYTES} are read`);
	const headerBytes = SAFETENSORS_PREFIX_BYTES + Number(length);
	if (headerBytes > sizeBytes)
		throw refuse(name, "truncated", `its header needs ${headerBytes} bytes, the file has ${sizeBytes}`);
	return headerBytes;
}

/**
 * The header, from exactly the bytes that `safetensorsHeaderBytes` tells, checked against the file's size.
 * @throws truncated_safetensors, corrupt_safetensors
 */
export function parseSafetensors(header: Uint8Array, name: string, sizeBytes: number): SafetensorsHeader {
	const headerBytes = safetensorsHeaderBytes(header, name, sizeBytes);
	if (header.length !== headerBytes)
		throw refuse(name, "truncated", `its header has ${headerBytes} bytes, ${header.length} came`);
	const entries = Object.entries(readObject(header.subarray(SAFETENSORS_PREFIX_BYTES), name)).filter(
		([key]) => key !== METADATA,
	);
	const dataBytes = sizeBytes - headerBytes;
	const parametersByType = new Map<string, number>();
	let parameterCount = 0;
	let tensorBytes = 0;
	for (const [key, value] of entries) {
		const { type, elements, bytes } = readTensor(key, value, { name, dataBytes });
		parameterCount += elements;
		tensorBytes += bytes;
		parametersByType.set(type, (parametersByType.get(type) ?? 0) + elements);
	}
	if (!Number.isSafeInteger(parameterCount))
		throw refuse(name, "corrupt", "its tensors have no possible size");
	return { tensorCount: entries.length, parameterCount, parametersByType, tensorBytes, headerBytes };
}

function readObject(bytes: Uint8Array, name: string): object {
	if (!hasShape(bytes)) throw refuse(name, "corrupt", "its header is not built as the format says");
	let text: string;
	let value: unknown;
	try {
		text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
		value = JSON.parse(text);
	} catch (cause) {
		throw refuse(name, "corrupt", "its header is not JSON", cause);
	}
	const found = scanJson(text, {
		maxDepth: 4,
		maxKeys: MAX_TENSORS + 1,
		forbiddenKeys: FORBIDDEN_KEYS,
		exactNumbers: true,
	});
	if (found !== undefined) throw refuse(name, "corrupt", `its header has a problem (${found.problem})`);
	if (typeof value !== "object" || value === null || Array.isArray(value))
		throw refuse(name, "corrupt", "its header is no object");
	return value;
}

/**
 * Whether the text is nested as a header is: an object of flat objects whose lists are short. A pass over the bytes, so
 * that a header made to keep a JSON parser busy (millions of brackets, a list without end) is refused before that.
 */
function hasShape(bytes: Uint8Array): boolean {
	if (bytes[0] !== OPEN_OBJECT) return false;
	const mostCommas = [0, MAX_TENSORS, MAX_METADATA_KEYS, MAX_DIMENSIONS];
	const commas = [0, 0, 0, 0];
	let depth = 0;
	for (let at = 0; at < bytes.length; at++) {
		const byte = bytes[at] ?? 0;
		if (byte === QUOTE) {
			for (at++; at < bytes.length && bytes[at] !== QUOTE; at++) if (bytes[at] === BACKSLASH) at++;
		} else if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
			if (++depth >= commas.length) return false;
			commas[depth] = 0;
		} else if (byte === CLOSE_OBJECT || byte === CLOSE_ARRAY) {
			if (--depth < 0) return false;
		} else if (byte === COMMA) {
			const count = (commas[depth] ?? 0) + 1;
			if (count > (mostCommas[depth] ?? 0)) return false;
			commas[depth] = count;
		}
	}
	return depth === 0;
}

const QUOTE = 0x22;
const COMMA = 0x2c;
const BACKSLASH = 0x5c;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

function readTensor(
	key: string,
	value: unknown,
	{ name, dataBytes }: { name: string; dataBytes: number },
): { type: string; elements: number; bytes: number } {
	const shown = JSON.stringify(key.slice(0, 80));
	const { dtype, shape, data_offsets: offsets } = (value ?? {}) as Record<string, unknown>;
	if (
		typeof dtype !== "string" ||
		!/^[A-Z][A-Z0-9_]{0,15}$/.test(dtype) ||
		!isNaturals(shape) ||
		!isNaturals(offsets)
	)
		throw refuse(name, "corrupt", `the tensor ${shown} is not described as tensors are`);
	const [begin = 0, end = 0] = offsets;
	if (offsets.length !== 2 || begin > end || shape.length > MAX_DIMENSIONS)
		throw refuse(name, "corrupt", `the tensor ${shown} has impossible offsets or dimensions`);
	if (end > dataBytes)
		throw refuse(name, "truncated", `the tensor ${shown} ends at byte ${end} of ${dataBytes} bytes of data`);
	const elements = shape.reduce((product, dimension) => product * dimension, 1);
	const bits = TYPE_BITS.get(dtype);
	const fits = bits === undefined || Math.ceil((elements * bits) / 8) === end - begin;
	if (!Number.isSafeInteger(elements) || !fits)
		throw refuse(name, "corrupt", `the tensor ${shown} is not as long as its shape says`);
	return { type: dtype, elements, bytes: end - begin };
}

function isNaturals(value: unknown): value is number[] {
	return Array.isArray(value) && value.every((each) => Number.isSafeInteger(each) && (each as number) >= 0);
}

function refuse(name: string, fault: "truncated" | "corrupt", what: string, cause?: unknown): GswarmError {
	return new GswarmError("INVALID_REQUEST", `${name} is ${fault}: ${what}.`, {
		reason: `${fault}_safetensors`,
		details: { file: name },
		cause,
	});
}
