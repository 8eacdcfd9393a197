/**
 * Reads the header of a GGUF model file: what the model is, and how many bytes the file must have.
 *
 * The parser is pure over a `ByteReader` and trusts nothing: every count and length is checked against the
 * file's size before memory is spent on it, and the only way it fails is a GswarmError whose reason is one of
 * `not_gguf`, `truncated_gguf`, `unsupported_gguf`, `corrupt_gguf`. It reads no weights; a flipped weight is
 * found by hashes, not here.
 *
 * Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little-endian).
 */
import { closeSync, openSync } from "node:fs";
import { basename } from "node:path";
import { GswarmError } from "../schema/errors.ts";
import { fdReader } from "./fd-reader.ts";
import { type ByteReader, Cursor, refuse, SCALAR_BYTES } from "./gguf-cursor.ts";
import { fileTypeName, TENSOR_TYPES } from "./gguf-types.ts";

/** A metadata value; of an array only the element type and the length are kept, and the sum of a short one of numbers. */
export type GgufValue =
	| string
	| number
	| boolean
	| { arrayOf: number; length: number; sum?: number | undefined };

export interface GgufTensor {
	name: string;
	/** Fastest-changing dimension first, as ggml writes it. */
	dimensions: number[];
	type: number;
	/** From the start of the data section. */
	offsetBytes: number;
	/** `undefined` for a tensor type newer than this table. */
	sizeBytes: number | undefined;
}

export interface GgufHeader {
	version: number;
	metadata: ReadonlyMap<string, GgufValue>;
	tensors: readonly GgufTensor[];
	/** Where the data section starts. */
	dataOffsetBytes: number;
	/** The size that the header says the file must have at least. */
	requiredBytes: number;
	/** e.g. "llama"; `undefined` where the file does not say. */
	architecture: string | undefined;
	/** Elements of all tensors of this file; of a split model the shards add up. */
	parameterCount: number;
	/** Of the tensors whose type is known. */
	tensorBytes: number;
	/** The context length it was trained with, in tokens. */
	contextLength: number | undefined;
	/** e.g. "Q4_K_M". */
	fileType: string | undefined;
	/** Number of files of a split model; 1 otherwise. */
	splitCount: number;
}

/** A file's header, checked against the file's size. Throws GswarmError naming the file and the reason. */
export function readGgufFile(path: string): GgufHeader {
	let fd: number;
	try {
		fd = openSync(path, "r");
	} catch (cause) {
		throw new GswarmError("NOT_FOUND", `${path} cannot be opened: ${(cause as Error).message}.`, {
			reason: "unreadable_gguf",
			cause,
		});
	}
	try {
		return parseGguf(fdReader(fd, basename(path)));
	} finally {
		closeSync(fd);
	}
}

/** Parses and checks a header; see the head of this file. */
export function parseGguf(reader: ByteReader): GgufHeader {
	const cursor = new Cursor(reader);
	if (reader.sizeBytes === 0) throw refuse(reader, "truncated", "is empty");
	if (cursor.u32() !== MAGIC) throw refuse(reader, "not", "is not a GGUF file: it does not start with GGUF");
	const version = cursor.u32();
	if (version !== 2 && version !== 3) {
		const swapped = [2, 3].some((known) => known << 24 === version);
		throw refuse(
			reader,
			"unsupported",
			swapped ? "is a big-endian GGUF file" : `has GGUF version ${version}; versions 2 and 3 are known`,
		);
	}
	const tensorCount = cursor.count("tensor count", MIN_TENSOR_BYTES, MAX_TENSORS);
	const metadataCount = cursor.count("metadata count", MIN_METADATA_BYTES, MAX_METADATA);
	const metadata = readMetadata(cursor, metadataCount);
	const tensors = readTensors(cursor, tensorCount);
	const alignment = alignmentOf(reader, metadata);
	const dataOffsetBytes = Math.ceil(cursor.offset / alignment) * alignment;
	const requiredBytes = requiredSize(reader, tensors, alignment, dataOffsetBytes);
	if (requiredBytes > reader.sizeBytes)
		throw refuse(
			reader,
			"truncated",
			`is truncated: header needs ${requiredBytes} bytes, file has ${reader.sizeBytes}`,
			{ required: requiredBytes, actual: reader.sizeBytes },
		);
	return { version, metadata, tensors, dataOffsetBytes, requiredBytes, ...describe(metadata, tensors) };
}

const MAGIC = 0x46554747;
/** A model of 60 layers with 256 experts, each in tensors of its own, has some 50,000. */
const MAX_TENSORS = 131_072;
const MAX_METADATA = 16_384;
/** Elements of arrays that are walked one by one, of a whole file; the largest vocabularies with their merges have 0.8 million. */
const MAX_WALKED = 1_000_000;
/** Numbers per layer, of which a model has some hundred. */
const MAX_SUMMED = 1024;
const MAX_DIMENSIONS = 4;
const MAX_NESTING = 4;
/** length 8 + dimension count 4 + type 4 + offset 8. */
const MIN_TENSOR_BYTES = 24;
/** length 8 + type 4 + value 1. */
const MIN_METADATA_BYTES = 13;
const DEFAULT_ALIGNMENT = 32;
const MAX_ALIGNMENT = 1 << 20;

const STRING = 8;
const ARRAY = 9;
function readMetadata(cursor: Cursor, count: number): Map<string, GgufValue> {
	const metadata = new Map<string, GgufValue>();
	const walk = { left: MAX_WALKED };
	for (let index = 0; index < count; index++) {
		const key = cursor.string();
		if (metadata.has(key))
			throw refuse(
				cursor.reader,
				"corrupt",
				`is corrupt: key ${JSON.stringify(key.slice(0, 80))} occurs twice`,
			);
		metadata.set(key, readValue(cursor, cursor.u32(), 0, walk));
	}
	return metadata;
}

/** Elements that may still be walked. */
interface Walk {
	left: number;
}

function readValue(cursor: Cursor, type: number, depth: number, walk: Walk): GgufValue {
	if (type === STRING) return cursor.string();
	if (type === ARRAY) return skipArray(cursor, depth, walk);
	return cursor.scalar(type);
}

/** Walks over an array; a vocabulary of 150,000 strings is not worth keeping for anybody who asks what a model is. */
function skipArray(cursor: Cursor, depth: number, walk: Walk): GgufValue {
	if (depth === MAX_NESTING)
		throw refuse(cursor.reader, "corrupt", `is corrupt: arrays are nested deeper than ${MAX_NESTING}`);
	const arrayOf = cursor.u32();
	const fixed = SCALAR_BYTES[arrayOf];
	const length = cursor.count("array length", fixed ?? 8, fixed === undefined ? walk.left : undefined);
	if (fixed !== undefined && length <= MAX_SUMMED) {
		let sum = 0;
		for (let index = 0; index < length; index++) sum += Number(cursor.scalar(arrayOf));
		return { arrayOf, length, sum };
	}
	if (fixed === undefined) walk.left -= length;
	if (fixed !== undefined) cursor.skip(length * fixed);
	else if (arrayOf === STRING) cursor.skipStrings(length);
	else for (let index = 0; index < length; index++) readValue(cursor, arrayOf, depth + 1, walk);
	return { arrayOf, length };
}

function readTensors(cursor: Cursor, count: number): GgufTensor[] {
	const tensors: GgufTensor[] = [];
	const names = new Set<string>();
	for (let index = 0; index < count; index++) {
		const name = cursor.string();
		if (names.has(name))
			throw refuse(
				cursor.reader,
				"corrupt",
				`is corrupt: tensor ${JSON.stringify(name.slice(0, 80))} occurs twice`,
			);
		names.add(name);
		const dimensionCount = cursor.u32();
		if (dimensionCount > MAX_DIMENSIONS)
			throw refuse(cursor.reader, "corrupt", `is corrupt: tensor ${index} has ${dimensionCount} dimensions`);
		const dimensions = Array.from({ length: dimensionCount }, () => cursor.u64("dimension"));
		const type = cursor.u32();
		const offsetBytes = cursor.u64("tensor offset");
		tensors.push({
			name,
			dimensions,
			type,
			offsetBytes,
			sizeBytes: tensorSize(cursor.reader, dimensions, type, index),
		});
	}
	return tensors;
}

function tensorSize(
	reader: ByteReader,
	dimensions: number[],
	type: number,
	index: number,
): number | undefined {
	const elements = elementCount(dimensions);
	const block = TENSOR_TYPES.get(type);
	if (block === undefined && Number.isSafeInteger(elements)) return undefined;
	const [blockElements, blockBytes] = block ?? [1, 1];
	const size = (elements / blockElements) * blockBytes;
	if (
		!Number.isSafeInteger(elements) ||
		!Number.isSafeInteger(size) ||
		(dimensions[0] ?? 1) % blockElements !== 0
	)
		throw refuse(
			reader,
			"corrupt",
			`is corrupt: tensor ${index} has the impossible shape ${dimensions.join("×")}`,
		);
	return size;
}

/** May exceed what a double holds exactly; `tensorSize` refuses those. */
function elementCount(dimensions: readonly number[]): number {
	return dimensions.reduce((product, dimension) => product * dimension, 1);
}

function alignmentOf(reader: ByteReader, metadata: ReadonlyMap<string, GgufValue>): number {
	const value = metadata.get("general.alignment") ?? DEFAULT_ALIGNMENT;
	if (typeof value !== "number" || value < 1 || value > MAX_ALIGNMENT || (value & (value - 1)) !== 0)
		throw refuse(reader, "corrupt", `is corrupt: general.alignment is ${JSON.stringify(value)}`);
	return value;
}

function requiredSize(
	reader: ByteReader,
	tensors: readonly GgufTensor[],
	alignment: number,
	dataOffsetBytes: number,
): number {
	let end = tensors.length === 0 ? 0 : dataOffsetBytes;
	for (const tensor of tensors) {
		if (tensor.offsetBytes % alignment !== 0)
			throw refuse(
				reader,
				"corrupt",
				`is corrupt: tensor ${JSON.stringify(tensor.name.slice(0, 80))} is not aligned`,
			);
		// A tensor of an unknown type occupies at least its first byte.
		end = Math.max(end, dataOffsetBytes + tensor.offsetBytes + (tensor.sizeBytes ?? 1));
	}
	if (!Number.isSafeInteger(end))
		throw refuse(reader, "corrupt", "is corrupt: a tensor lies beyond any file");
	return end;
}

function describe(metadata: ReadonlyMap<string, GgufValue>, tensors: readonly GgufTensor[]) {
	const text = (key: string) => {
		const value = metadata.get(key);
		return typeof value === "string" ? value : undefined;
	};
	const number = (key: string) => {
		const value = metadata.get(key);
		return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
	};
	const architecture = text("general.architecture");
	const fileType = number("general.file_type");
	return {
		architecture,
		parameterCount: tensors.reduce((sum, tensor) => sum + elementCount(tensor.dimensions), 0),
		tensorBytes: tensors.reduce((sum, { sizeBytes = 0 }) => sum + sizeBytes, 0),
		contextLength: architecture === undefined ? undefined : number(`${architecture}.context_length`),
		fileType: fileType === undefined ? undefined : fileTypeName(fileType),
		splitCount: Math.max(1, number("split.count") ?? 1),
	};
}
