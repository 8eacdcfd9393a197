/**
 * What a model is, told from the first bytes of its files: headers of weights, its config.json, the front matter of its
 * README. The same for a source that is only looked at and for files that are here. Everything read is bounded, and
 * what cannot be read is said in a note instead of failing the rest; only the network and the caller end it.
 */
import type { IoPool } from "../../platform/io-pool.ts";
import { inLanes } from "../../platform/lanes.ts";
import { parseJson } from "../../platform/safe-json.ts";
import { parseYaml } from "../../platform/safe-yaml.ts";
import type { WeightsFormat, WeightsHeader } from "../../platform/weights-header.ts";
import { GswarmError } from "../../schema/errors.ts";
import type { Source, SourceDescription } from "./contract.ts";
import { detectFormat, guessModelType, type ModelFormat } from "./detect.ts";
import { type HeadReader, localHeads, type LocalFile, sourceHeads } from "./heads.ts";
import { readConfig } from "./model-config.ts";
import { recordOf, shownText } from "./shown-text.ts";

export interface ModelFacts {
	/** `unknown` where the headers are not those of the format that the names promise. */
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
	/** What the weights take in memory: the bytes of all tensors; undefined when not every header could be read. */
	weightsBytes: number | undefined;
	/** What the cache of keys and values takes besides, per token of context; undefined of what keeps none. */
	kvCacheBytesPerToken: number | undefined;
	/** What could not be told, and why; sentences. */
	notes: readonly string[];
}

/** Files whose headers are read; a model of more is told without its number of parameters. */
const MAX_HEADERS = 256;
const HEADERS_AT_ONCE = 8;
const MAX_CONFIG_BYTES = 1024 * 1024;
const MAX_README_BYTES = 64 * 1024;
/** Engines keep keys and values in 16 bits, whatever the weights are in, unless they are told otherwise. */
const KV_ELEMENT_BYTES = 2;

/** What a source has, before anything is downloaded. */
export function inspectFiles(
	source: Source,
	{ files, archive }: SourceDescription,
	signal: AbortSignal,
): Promise<ModelFacts> {
	const notes =
		archive === undefined ? [] : [`It is a ${archive} archive; what is in it is seen once it is downloaded.`];
	return inspectHeads(sourceHeads(source, files), { notes, signal });
}

/** What files on this machine are; threads of the pool read and parse them. */
export function inspectLocalFiles(
	io: Pick<IoPool, "readFiles" | "readHeader">,
	files: readonly LocalFile[],
	signal: AbortSignal,
): Promise<ModelFacts> {
	return inspectHeads(localHeads(io, files), { notes: [], signal });
}

/** `notes`: those that come before what is found. */
async function inspectHeads(
	heads: HeadReader,
	{ notes: before, signal }: { notes: readonly string[]; signal: AbortSignal },
): Promise<ModelFacts> {
	const notes = [...before];
	const { paths } = heads;
	const read: Attempt = async (what, work) => {
		try {
			return await work();
		} catch (error) {
			signal.throwIfAborted();
			if (!(error instanceof GswarmError) || error.code !== "INVALID_REQUEST") throw error;
			notes.push(`${what} could not be read (${error.reason ?? error.code}): ${error.message}`.slice(0, 400));
			return error;
		}
	};
	const text = async <T>(
		path: string,
		mostBytes: number,
		take: (bytes: Uint8Array) => T,
	): Promise<T | undefined> => {
		const answer = await read(path, async () => {
			const bytes = await heads.text(path, mostBytes, signal);
			return bytes === undefined ? undefined : take(bytes);
		});
		return answer instanceof GswarmError ? undefined : answer;
	};
	const config = await text("config.json", MAX_CONFIG_BYTES, (bytes) =>
		readConfig(parseJson(bytes, { isPassedOn: true })),
	);
	const weights = await readWeights({ heads, notes, read, signal });
	const licenseFile = paths.find((path) => /^LICEN[CS]E(\.(txt|md))?$/i.test(path));
	const license =
		(await text("README.md", MAX_README_BYTES, licenseOfReadme)) ??
		weights.license ??
		(licenseFile === undefined ? undefined : await text(licenseFile, MAX_README_BYTES, firstLine));
	const modelType = guessModelType(paths, config?.json, weights.architecture);
	const kvElements = config?.kvElementsPerToken ?? weights.kvElementsPerToken;
	const keepsKeys = (modelType === "llm" || modelType === "multimodal") && weights.isEncoder !== true;
	return {
		format: weights.isForeign ? "unknown" : detectFormat(paths),
		modelType,
		architecture: config?.architecture ?? shownText(weights.architecture),
		parameterCount: weights.parameterCount,
		precision: config?.quantisation ?? weights.precision ?? config?.precision,
		license,
		contextLength: config?.contextLength ?? weights.contextLength,
		weightsBytes: weights.weightsBytes,
		kvCacheBytesPerToken: keepsKeys && kvElements !== undefined ? kvElements * KV_ELEMENT_BYTES : undefined,
		notes,
	};
}

/** What the work answers, or the failure that a note was made of; other failures are thrown. */
type Attempt = <T>(what: string, work: () => Promise<T>) => Promise<T | GswarmError>;

interface Weights extends Partial<Omit<WeightsHeader, "elements" | "tensorBytes">> {
	parameterCount?: number | undefined;
	precision?: string | undefined;
	weightsBytes?: number | undefined;
	/** No file of the weights is what its name says. */
	isForeign: boolean;
}

interface WeightsInput {
	heads: HeadReader;
	notes: string[];
	read: Attempt;
	signal: AbortSignal;
}

async function readWeights({ heads, notes, read, signal }: WeightsInput): Promise<Weights> {
	const format = detectFormat(heads.paths);
	if (format !== "safetensors" && format !== "gguf") return { isForeign: false };
	const isWeights = format === "safetensors" ? /\.safetensors$/i : /\.gguf$/i;
	// Companions of a GGUF model (projectors, importance matrices) are no part of its parameters.
	const weights = heads.paths.filter(
		(path) => isWeights.test(path) && !/^(mmproj|imatrix)/i.test(path.split("/").at(-1) ?? ""),
	);
	const quantisations = format === "gguf" ? splitSets(weights) : 1;
	const chosen = quantisations > 1 ? weights.slice(0, 1) : weights.slice(0, MAX_HEADERS);
	const answers = await inLanes(chosen.length, HEADERS_AT_ONCE, async (at) => {
		const path = chosen[at];
		return path === undefined ? undefined : await read(path, () => heads.header(path, format, signal));
	});
	const known = answers.filter((answer) => isHeader(answer));
	const isForeign = known.length === 0 && answers.some((answer) => isBadHeader(answer, format));
	const isWhole = known.length === weights.length;
	if (!isWhole && quantisations === 1)
		notes.push(`${known.length} of ${weights.length} headers were read, so parameters are not counted.`);
	const byPrecision = new Map<string, number>();
	for (const { elements } of known)
		for (const [name, count] of Object.entries(elements))
			byPrecision.set(name, (byPrecision.get(name) ?? 0) + count);
	const [first] = known;
	const isCounted = first !== undefined && (isWhole || quantisations > 1);
	return {
		...first,
		license: shownText(first?.license),
		precision: quantisations > 1 ? undefined : [...byPrecision].sort(([, a], [, b]) => b - a)[0]?.[0],
		parameterCount: isCounted ? sum([...byPrecision.values()]) : undefined,
		weightsBytes: isCounted ? sum(known.map(({ tensorBytes }) => tensorBytes)) : undefined,
		isForeign,
	};
}

function isHeader(answer: WeightsHeader | GswarmError | undefined): answer is WeightsHeader {
	return answer !== undefined && !(answer instanceof GswarmError);
}

/** A header that was read and is none, unlike one that could not be had. */
function isBadHeader(answer: unknown, format: WeightsFormat): boolean {
	return answer instanceof GswarmError && answer.reason?.endsWith(`_${format}`) === true;
}

function sum(numbers: readonly number[]): number | undefined {
	const total = numbers.reduce((before, number) => before + number, 0);
	return Number.isSafeInteger(total) ? total : undefined;
}

/** GGUF files that are not parts of one split model are alternatives. */
function splitSets(paths: readonly string[]): number {
	return new Set(paths.map((path) => path.replace(/-\d{5}-of-\d{5}\.gguf$/i, ""))).size;
}

/** `license:` of the YAML between the first two `---` of a README, as model cards have it. */
function licenseOfReadme(bytes: Uint8Array): string | undefined {
	const card = /^---\r?\n([\s\S]*?)\r?\n---\s*(?:\r?\n|$)/.exec(new TextDecoder().decode(bytes))?.[1];
	if (card === undefined) return undefined;
	try {
		const { license, license_name: name } = recordOf(parseYaml(new TextEncoder().encode(card)));
		const [given] = Array.isArray(license) ? license : [license];
		return given === "other" ? (shownText(name) ?? "other") : shownText(given);
	} catch (error) {
		if (error instanceof GswarmError) return undefined;
		throw error;
	}
}

function firstLine(bytes: Uint8Array): string | undefined {
	const lines = new TextDecoder().decode(bytes).split(/\r?\n/);
	return shownText(lines.map((line) => line.trim()).find((line) => line !== ""));
}
