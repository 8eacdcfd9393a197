/** What is found out about files on this machine, in the words of the API. */
import type { IoPool } from "../../platform/io-pool.ts";
import { parseSafePath, type SafePath } from "../../platform/safe-path.ts";
import { DETECTOR_VERSION, type Detected } from "../../schema/detected.ts";
import type { ManifestFile } from "../../schema/manifest.ts";
import { inspectLocalFiles, type ModelFacts } from "./inspect.ts";

/** What the files of a manifest are, which lie where `placeOf` says; read by threads of the pool. */
export async function detectModel(
	io: Pick<IoPool, "readFiles" | "readHeader">,
	placeOf: (path: SafePath) => string,
	files: readonly Pick<ManifestFile, "path" | "size_bytes">[],
	signal: AbortSignal,
): Promise<Detected> {
	const local = files.map(({ path, size_bytes: sizeBytes }) => ({
		path,
		place: placeOf(parseSafePath(path)),
		sizeBytes,
	}));
	return toDetected(await inspectLocalFiles(io, local, signal));
}

function toDetected(facts: ModelFacts): Detected {
	return {
		detector: DETECTOR_VERSION,
		format: facts.format,
		model_type: facts.modelType,
		architecture: facts.architecture ?? null,
		parameters: facts.parameterCount ?? null,
		precision: facts.precision ?? null,
		context_length: facts.contextLength ?? null,
		license: facts.license ?? null,
		weights_bytes: facts.weightsBytes ?? null,
		kv_cache_bytes_per_token: facts.kvCacheBytesPerToken ?? null,
		memory_bytes: memoryBytes(facts) ?? null,
	};
}

/** Of the weights and the cache of one full context. */
export function memoryBytes({
	weightsBytes,
	kvCacheBytesPerToken = 0,
	contextLength = 0,
}: ModelFacts): number | undefined {
	if (weightsBytes === undefined) return undefined;
	const total = weightsBytes + kvCacheBytesPerToken * contextLength;
	return Number.isSafeInteger(total) ? total : undefined;
}
