/**
 * The header of one file of weights, whatever its format: what it adds to what is told of a model. Reads through a
 * `ByteReader`, at once, so that the same code serves a file on this machine and one whose bytes are fetched; plain
 * data comes back, which a thread can hand over.
 */
import { closeSync, constants, fstatSync, openSync } from "node:fs";
import { basename } from "node:path";
import { GswarmError } from "../schema/errors.ts";
import { fdReader } from "./fd-reader.ts";
import type { ByteReader } from "./gguf-cursor.ts";
import { type GgufHeader, parseGguf } from "./gguf.ts";
import { kvElementsPerToken } from "./kv-cache.ts";
import { parseSafetensors, SAFETENSORS_PREFIX_BYTES, safetensorsHeaderBytes } from "./safetensors.ts";

export type WeightsFormat = "gguf" | "safetensors";

export interface WeightsHeader {
	/** Of a GGUF file, e.g. `llama`; a safetensors file says nothing of it, nor of what follows. */
	architecture?: string | undefined;
	/** Tokens. */
	contextLength?: number | undefined;
	license?: string | undefined;
	/** Elements that a token takes in the cache of keys and values, over all layers. */
	kvElementsPerToken?: number | undefined;
	/** It answers with one vector for a text, so that it keeps no such cache. */
	isEncoder?: boolean;
	/** Elements by precision. */
	elements: Readonly<Record<string, number>>;
	/** Of all tensors. */
	tensorBytes: number;
}

/** @throws INVALID_REQUEST {not,truncated,unsupported,corrupt}_{gguf,safetensors} */
export function parseWeightsHeader(format: WeightsFormat, reader: ByteReader): WeightsHeader {
	return format === "gguf" ? ofGguf(parseGguf(reader)) : ofSafetensors(reader);
}

/**
 * The header of a file on this machine; a symbolic link, a directory or a pipe is none.
 * @throws as parseWeightsHeader, and errors of node:fs
 */
export function readWeightsHeader(format: WeightsFormat, path: string): WeightsHeader {
	// A pipe would wait for who writes to it.
	const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
	try {
		const name = basename(path);
		if (!fstatSync(fd).isFile())
			throw new GswarmError("INVALID_REQUEST", `${name} is no regular file.`, {
				reason: `not_${format}`,
				details: { file: name },
			});
		return parseWeightsHeader(format, fdReader(fd, name));
	} finally {
		closeSync(fd);
	}
}

function ofSafetensors(reader: ByteReader): WeightsHeader {
	const { name, sizeBytes } = reader;
	const prefix = reader.read(0, Math.min(SAFETENSORS_PREFIX_BYTES, sizeBytes));
	const headerBytes = safetensorsHeaderBytes(prefix, name, sizeBytes);
	const { parametersByType, tensorBytes } = parseSafetensors(reader.read(0, headerBytes), name, sizeBytes);
	return { elements: Object.fromEntries(parametersByType), tensorBytes };
}

function ofGguf(header: GgufHeader): WeightsHeader {
	const { architecture, parameterCount, contextLength, fileType, metadata, tensorBytes } = header;
	const license = metadata.get("general.license");
	return {
		architecture,
		contextLength,
		license: typeof license === "string" ? license : undefined,
		kvElementsPerToken: ggufKvElements(header),
		isEncoder: metadata.get(`${architecture}.attention.causal`) === false,
		elements: { [fileType ?? "unknown"]: parameterCount },
		tensorBytes,
	};
}

/** From the keys of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#llm; heads of keys may be told per layer. */
function ggufKvElements({ architecture, metadata }: GgufHeader): number | undefined {
	const value = (key: string): { each?: number; sum?: number } => {
		const found = metadata.get(`${architecture}.${key}`);
		if (typeof found === "number") return { each: found };
		return typeof found === "object" && found.sum !== undefined ? { sum: found.sum } : {};
	};
	const heads = value("attention.head_count").each;
	const kvHeads = value("attention.head_count_kv");
	const layers = value("block_count").each;
	return kvElementsPerToken({
		layers,
		heads,
		kvHeads:
			kvHeads.each ?? (kvHeads.sum === undefined || layers === undefined ? heads : kvHeads.sum / layers),
		hiddenSize: value("embedding_length").each,
		keyLength: value("attention.key_length").each,
		valueLength: value("attention.value_length").each,
		latentRank: value("attention.kv_lora_rank").each,
		ropeLength: value("rope.dimension_count").each,
	});
}
