/**
 * What a model is, told from the first bytes of its files before anything is downloaded: headers of weights, its
 * config.json, the front matter of its README. Everything read is bounded, and what cannot be read is said in a note
 * instead of failing the rest; only the network and the caller end it.
 */
import { parseGguf, type GgufHeader } from "../../platform/gguf.ts";
import { inLanes } from "../../platform/lanes.ts";
import { parseJson } from "../../platform/safe-json.ts";
import { parseYaml } from "../../platform/safe-yaml.ts";
import {
	parseSafetensors,
	SAFETENSORS_PREFIX_BYTES,
	safetensorsHeaderBytes,
} from "../../platform/safetensors.ts";
import { GswarmError } from "../../schema/errors.ts";
import type { ByteRange, Source, SourceDescription, SourceFile } from "./contract.ts";
import { readRange } from "./read-range.ts";
import { detectFormat, guessModelType, type ModelFormat } from "./detect.ts";

export interface ModelFacts {
	format: ModelFormat;
	modelType: string;
	/** e.g. `LlamaForCausalLM` or, of a GGUF file, `llama`. */
	architecture: string | undefined;
	/** Elements of all tensors; undefined when not every header could be read. */
	parameterCount: number | undefined;
	/** e.g. `BF16`, `Q4_K_M`, `gptq 4-bit`. */
	precision: string | undefined;
	license: string | undefined;
	/** Tokens. */
	contextLength: number | undefined;
	/** What could not be told, and why; sentences. */
	notes: readonly string[];
}

/** Files whose headers are read; a model of more is told without its number of parameters. */
const MAX_HEADERS = 256;
const HEADERS_AT_ONCE = 8;
/** Of headers that are in memory at once, over all files of one model. */
const FIRST_READ_BYTES = 64 * 1024;
const GGUF_WINDOW_BYTES = 4 * 1024 * 1024;
const MAX_GGUF_READ_BYTES = 48 * 1024 * 1024;
const MAX_CONFIG_BYTES = 1024 * 1024;
const MAX_README_BYTES = 64 * 1024;
const MAX_TEXT = 120;

export async function inspectFiles(
	source: Source,
	{ files, archive }: SourceDescription,
	signal: AbortSignal,
): Promise<ModelFacts> {
	const notes: string[] = [];
	const paths = files.map(({ path }) => path);
	if (archive !== undefined)
		notes.push(`It is a ${archive} archive; what is in it is seen once it is downloaded.`);
	const read = async <T>(what: string, work: () => Promise<T>): Promise<T | undefined> => {
		try {
			return await work();
		} catch (error) {
			signal.throwIfAborted();
			if (!(error instanceof GswarmError) || error.code !== "INVALID_REQUEST") throw error;
			notes.push(`${what} could not be read (${error.reason ?? error.code}): ${error.message}`.slice(0, 400));
			return undefined;
		}
	};
	const small = async (path: string, mostBytes: number): Promise<Uint8Array | undefined> => {
		const file = files.find((each) => each.path === path);
		if (file === undefined || (file.sizeBytes ?? 0) === 0) return undefined;
		const end = Math.min(file.sizeBytes ?? 0, mostBytes);
		return await readRange(source, file, { start: 0, end }, signal);
	};

	const config = await read("config.json", async () => {
		const bytes = await small("config.json", MAX_CONFIG_BYTES);
		return bytes === undefined ? undefined : readConfig(parseJson(bytes, { isPassedOn: true }));
	});
	const weights = await readWeights({ source, files, notes, read, signal });
	const readme = await small("README.md", MAX_README_BYTES);
	const licenseFile = files.find(({ path }) => /^LICEN[CS]E(\.(txt|md))?$/i.test(path))?.path;
	const license =
		(readme === undefined ? undefined : licenseOfReadme(readme)) ??
		weights.license ??
		(licenseFile === undefined ? undefined : firstLine(await small(licenseFile, MAX_README_BYTES)));
	return {
		format: detectFormat(paths),
		modelType: guessModelType(paths, config?.json),
		architecture: config?.architecture ?? weights.architecture,
		parameterCount: weights.parameterCount,
		precision: config?.quantisation ?? weights.precision ?? config?.precision,
		license,
		contextLength: config?.contextLength ?? weights.contextLength,
		notes,
	};
}

interface Weights {
	architecture?: string | undefined;
	parameterCount?: number | undefined;
	precision?: string | undefined;
	contextLength?: number | undefined;
	license?: string | undefined;
}

interface WeightsInput {
	source: Source;
	files: readonly SourceFile[];
	notes: string[];
	read: <T>(what: string, work: () => Promise<T>) => Promise<T | undefined>;
	signal: AbortSignal;
}

async function readWeights({ source, files, notes, read, signal }: WeightsInput): Promise<Weights> {
	const format = detectFormat(files.map(({ path }) => path));
	const isWeights = format === "safetensors" ? /\.safetensors$/i : /\.gguf$/i;
	if (format !== "safetensors" && format !== "gguf") return {};
	// Companions of a GGUF model (projectors, importance matrices) are no part of its parameters.
	const weights = files.filter(
		({ path }) => isWeights.test(path) && !/^(mmproj|imatrix)/i.test(path.split("/").at(-1) ?? ""),
	);
	const quantisations = format === "gguf" ? splitSets(weights) : 1;
	const chosen = quantisations > 1 ? weights.slice(0, 1) : weights.slice(0, MAX_HEADERS);
	const headers = await inLanes(chosen.length, HEADERS_AT_ONCE, async (at) => {
		const file = chosen[at];
		if (file === undefined) return undefined;
		return format === "gguf"
			? await read(file.path, async () => ofGguf(await readGguf(source, file, signal)))
			: await read(file.path, async () => await readSafetensors(source, file, signal));
	});
	const known = headers.filter((header) => header !== undefined);
	const isWhole = known.length === weights.length;
	if (!isWhole && quantisations === 1)
		notes.push(`${known.length} of ${weights.length} headers were read, so parameters are not counted.`);
	const byType = new Map<string, number>();
	for (const { types } of known)
		for (const [type, count] of types) byType.set(type, (byType.get(type) ?? 0) + count);
	const parameters = [...byType.values()].reduce((sum, count) => sum + count, 0);
	const [first] = known;
	return {
		...first,
		precision: quantisations > 1 ? undefined : [...byType].sort(([, a], [, b]) => b - a)[0]?.[0],
		parameterCount: first !== undefined && (isWhole || quantisations > 1) ? parameters : undefined,
	};
}

/** What one file of weights adds. */
interface Header extends Weights {
	/** Elements by precision. */
	types: ReadonlyMap<string, number>;
}

async function readSafetensors(source: Source, file: SourceFile, signal: AbortSignal): Promise<Header> {
	const sizeBytes = knownSize(file);
	const start = await readRange(
		source,
		file,
		{ start: 0, end: Math.min(sizeBytes, FIRST_READ_BYTES) },
		signal,
	);
	const headerBytes = safetensorsHeaderBytes(
		start.subarray(0, SAFETENSORS_PREFIX_BYTES),
		file.path,
		sizeBytes,
	);
	const rest =
		headerBytes <= start.length
			? new Uint8Array()
			: await readRange(source, file, { start: start.length, end: headerBytes }, signal);
	const header = Buffer.concat([start.subarray(0, headerBytes), rest]);
	return { types: parseSafetensors(header, file.path, sizeBytes).parametersByType };
}

/** Thrown to the parser's caller: it wants bytes that are not here yet. */
class Wanted extends Error {
	readonly range: ByteRange;

	constructor(range: ByteRange) {
		super("bytes that are not here yet");
		this.range = range;
	}
}

/** The parser reads at once or not at all: what it misses is fetched, and it begins again. */
async function readGguf(source: Source, file: SourceFile, signal: AbortSignal): Promise<GgufHeader> {
	const sizeBytes = knownSize(file);
	const windows: { start: number; bytes: Uint8Array }[] = [];
	let totalBytes = 0;
	const reader = {
		name: file.path,
		sizeBytes,
		read(start: number, length: number): Uint8Array {
			const end = start + length;
			const window = windows.find((each) => each.start <= start && each.start + each.bytes.length >= end);
			if (window === undefined) throw new Wanted({ start, end });
			return window.bytes.subarray(start - window.start, end - window.start);
		},
	};
	for (;;) {
		try {
			return parseGguf(reader);
		} catch (error) {
			if (!(error instanceof Wanted)) throw error;
			const { start } = error.range;
			const end = Math.min(sizeBytes, Math.max(error.range.end, start + GGUF_WINDOW_BYTES));
			totalBytes += end - start;
			if (totalBytes > MAX_GGUF_READ_BYTES) throw tooLong(file.path);
			windows.push({ start, bytes: await readRange(source, file, { start, end }, signal) });
		}
	}
}

function ofGguf({ architecture, parameterCount, contextLength, fileType, metadata }: GgufHeader): Header {
	return {
		architecture: shownText(architecture),
		contextLength,
		license: shownText(metadata.get("general.license")),
		types: new Map([[fileType ?? "unknown", parameterCount]]),
	};
}

/** GGUF files that are not parts of one split model are alternatives. */
function splitSets(files: readonly SourceFile[]): number {
	return new Set(files.map(({ path }) => path.replace(/-\d{5}-of-\d{5}\.gguf$/i, ""))).size;
}

interface Config {
	json: unknown;
	architecture: string | undefined;
	contextLength: number | undefined;
	precision: string | undefined;
	quantisation: string | undefined;
}

/** config.json of transformers; composite models keep the words of their language part one level down. */
function readConfig(json: unknown): Config {
	const top = asRecord(json);
	const text = asRecord(top["text_config"]);
	const quantisation = asRecord(top["quantization_config"]);
	const first = <T>(keys: readonly string[], take: (value: unknown) => T | undefined): T | undefined =>
		keys.map((key) => take(top[key]) ?? take(text[key])).find((value) => value !== undefined);
	const { architectures } = top;
	const method = shownText(quantisation["quant_method"]);
	const bits = naturalOf(quantisation["bits"]);
	return {
		json,
		architecture:
			shownText(Array.isArray(architectures) ? architectures[0] : undefined) ?? shownText(top["model_type"]),
		contextLength: first(
			["max_position_embeddings", "n_positions", "max_sequence_length", "seq_length"],
			naturalOf,
		),
		precision: first(["dtype", "torch_dtype"], shownText),
		quantisation: method === undefined ? undefined : `${method}${bits === undefined ? "" : ` ${bits}-bit`}`,
	};
}

/** `license:` of the YAML between the first two `---` of a README, as model cards have it. */
function licenseOfReadme(bytes: Uint8Array): string | undefined {
	const card = /^---\r?\n([\s\S]*?)\r?\n---\s*(?:\r?\n|$)/.exec(new TextDecoder().decode(bytes))?.[1];
	if (card === undefined) return undefined;
	try {
		const { license, license_name: name } = asRecord(parseYaml(new TextEncoder().encode(card)));
		const [given] = Array.isArray(license) ? license : [license];
		return given === "other" ? (shownText(name) ?? "other") : shownText(given);
	} catch (error) {
		if (error instanceof GswarmError) return undefined;
		throw error;
	}
}

function firstLine(bytes: Uint8Array | undefined): string | undefined {
	const lines = new TextDecoder().decode(bytes ?? new Uint8Array()).split(/\r?\n/);
	return shownText(lines.map((line) => line.trim()).find((line) => line !== ""));
}

function knownSize({ path, sizeBytes }: SourceFile): number {
	if (sizeBytes !== undefined) return sizeBytes;
	throw new GswarmError("INVALID_REQUEST", `the length of ${path} is not known.`, {
		reason: "unknown_length",
	});
}

function asRecord(value: unknown): Record<string, unknown> {
	return typeof value === "object" && value !== null && !Array.isArray(value)
		? (value as Record<string, unknown>)
		: {};
}

function naturalOf(value: unknown): number | undefined {
	return typeof value === "number" && Number.isSafeInteger(value) && value > 0 ? value : undefined;
}

/** A short text from outside, for people; control characters make it no answer. */
function shownText(value: unknown): string | undefined {
	if (typeof value !== "string" || value === "" || /\p{Cc}/u.test(value)) return undefined;
	return value.length > MAX_TEXT ? `${value.slice(0, MAX_TEXT - 1)}…` : value;
}

function tooLong(path: string): GswarmError {
	return new GswarmError(
		"INVALID_REQUEST",
		`the header of ${path} is longer than ${MAX_GGUF_READ_BYTES} bytes.`,
		{ reason: "header_too_long" },
	);
}
