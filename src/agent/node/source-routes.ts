/** The node's route about sources: what a source has, asked before anything is downloaded. */
import {
	inspectFiles,
	memoryBytes,
	type ModelFacts,
	openSource,
	type Source,
	type SourceDescription,
	type SourceOptions,
} from "../../core/source/source.ts";
import { GswarmError, invalid } from "../../schema/errors.ts";
import { type ModelName, parseModelName } from "../../schema/names.ts";
import { type DownloadPlan, MAX_LISTED_FILES, type SourceInfo } from "../../schema/source-info.ts";
import { isTerminal } from "../../schema/task.ts";
import { downloadSource } from "../download-source.ts";
import type { Handlers } from "../http/app.ts";
import type { NodeRequests, NodeRouteDependencies } from "./node-requests.ts";

/** Whoever asks waits for the answer; the API's clients wait 30 s. */
const LIMIT_MS = 25_000;
/** Each may hold a header of some MB. */
const MAX_AT_ONCE = 4;
/** An archive lies beside its contents until it is unpacked. */
const ARCHIVE_ROOM = 2;

export function sourceRoutes(
	d: NodeRouteDependencies,
	{ tierHere }: Pick<NodeRequests, "tierHere">,
): Pick<Handlers<"node">, "inspectSource"> {
	let running = 0;
	const plan = (model: ModelName, tier: string, found: SourceDescription): DownloadPlan => {
		const { revision, totalBytes, archive } = found;
		const same = d.storage
			.copies()
			.filter((c) => c.model_name === model && c.revision === revision && c.status === "ready");
		const alreadyThere = same.some((c) => c.tier === tier);
		const bytes = alreadyThere ? 0 : totalBytes;
		const required = archive === undefined ? bytes : bytes * ARCHIVE_ROOM;
		const available = d.storage.roomForAll(tier);
		const device = `${d.nodeName}:${tier}`;
		const bringing = d.queue
			.list({ model })
			.find(({ status, request }) => !isTerminal(status) && request["target_device"] === device);
		return {
			model_name: model,
			device,
			already_there: alreadyThere,
			other_locations: same.filter((c) => c.tier !== tier).map((c) => `${d.nodeName}:${c.tier}`),
			bytes_to_fetch: bytes,
			required,
			available,
			fits: required <= available + d.eviction.evictableBytes(tier),
			task_id: bringing?.task_id ?? null,
		};
	};
	return {
		async inspectSource({ body, request }) {
			const model = body.model_name === undefined ? undefined : parseModelName(body.model_name);
			if (model === undefined && body.source_url === undefined)
				throw invalid("bad_field", "Give `source_url`, `model_name` or both.", { field: "source_url" });
			const known = d.storage.copies().find((c) => c.model_name === model)?.source_url;
			const url =
				model === undefined
					? (body.source_url ?? "")
					: downloadSource(model, body.source_url, known ?? undefined);
			const tier = model === undefined ? undefined : tierHere(body.target_device ?? "disk");
			const options = { include: body.include, exclude: body.exclude, allFiles: body.all_files };
			if (running >= MAX_AT_ONCE) throw tooMany();
			running++;
			try {
				const limit = AbortSignal.timeout(LIMIT_MS);
				const signal = AbortSignal.any([request.signal, limit]);
				const open = (more: SourceOptions): Source => openSource(url, { ...d.sources, ...options, ...more });
				try {
					const found = await describe(open, model === undefined, signal);
					const facts = await factsOf(d, found, signal);
					return {
						...infoOf(found.description, facts),
						quantisations: found.quantisations,
						plan: model === undefined || tier === undefined ? null : plan(model, tier, found.description),
					};
				} catch (error) {
					throw asAnswer(limit.aborted ? tooSlow(error) : error);
				}
			} finally {
				running--;
			}
		},
	};
}

/**
 * What a source has by these names and digests it has for ever: the headers need not be read again. One that claims no
 * digests may have changed.
 */
function factsOf(
	{ inspections }: Pick<NodeRouteDependencies, "inspections">,
	{ source, description }: Described,
	signal: AbortSignal,
): Promise<ModelFacts> {
	const read = (): Promise<ModelFacts> => inspectFiles(source, description, signal);
	const isPinned = description.files.every(({ digest }) => digest !== undefined);
	return isPinned ? inspections.getLater(`${description.uri} ${description.sourceId}`, read) : read();
}

interface Described {
	source: Source;
	description: SourceDescription;
	quantisations: Record<string, number> | null;
}

/** Who only looks sees every quantisation; a download has to name one of them. */
async function describe(
	open: (more: SourceOptions) => Source,
	onlyLooks: boolean,
	signal: AbortSignal,
): Promise<Described> {
	const source = open({});
	try {
		return { source, description: await source.describe(signal), quantisations: null };
	} catch (error) {
		if (!(error instanceof GswarmError) || error.reason !== "ambiguous_quantisation" || !onlyLooks)
			throw error;
		const all = open({ allFiles: true });
		const quantisations = error.details["quantisations"] as Record<string, number>;
		return { source: all, description: await all.describe(signal), quantisations };
	}
}

function infoOf(
	{ uri, suggestedName, revision, archive, totalBytes, files }: SourceDescription,
	facts: ModelFacts,
): Omit<SourceInfo, "plan" | "quantisations"> {
	return {
		source_url: uri,
		suggested_name: suggestedName,
		revision,
		model_type: facts.modelType,
		format: facts.format,
		architecture: facts.architecture ?? null,
		parameters: facts.parameterCount ?? null,
		precision: facts.precision ?? null,
		license: facts.license ?? null,
		context_length: facts.contextLength ?? null,
		weights_bytes: facts.weightsBytes ?? null,
		kv_cache_bytes_per_token: facts.kvCacheBytesPerToken ?? null,
		memory_bytes: memoryBytes(facts) ?? null,
		archive: archive ?? null,
		total_size: totalBytes,
		file_count: files.length,
		files: files.slice(0, MAX_LISTED_FILES).map(({ path, sizeBytes, digest }) => ({
			path,
			size_bytes: sizeBytes ?? null,
			digest: digest === undefined ? null : `${digest.algorithm}:${digest.hex}`,
		})),
		notes: [...facts.notes],
	};
}

/** What fails a task is, for whoever waits, an answer of the source: not there, not allowed, or not understood. */
function asAnswer(error: unknown): unknown {
	if (!(error instanceof GswarmError) || error.code !== "TASK_FAILED") return error;
	const { reason, message, details, hint } = error;
	const code =
		reason === "not_found" || reason === "revision_not_found"
			? "NOT_FOUND"
			: reason === "gated" || reason === "auth"
				? "FORBIDDEN"
				: "NETWORK_ERROR";
	return new GswarmError(code, message, {
		...(reason === undefined ? {} : { reason }),
		details,
		...(hint === undefined ? {} : { hint }),
		cause: error,
	});
}

function tooSlow(cause: unknown): GswarmError {
	return new GswarmError(
		"NETWORK_ERROR",
		`The source did not tell what it has within ${LIMIT_MS / 1000} s.`,
		{
			reason: "timeout",
			status: 504,
			retryable: true,
			hint: "A download takes as long as it needs; or try again.",
			cause,
		},
	);
}

function tooMany(): GswarmError {
	return new GswarmError("RESOURCE_UNAVAILABLE", `${MAX_AT_ONCE} sources are being looked at already.`, {
		reason: "too_many_inspections",
		retryable: true,
		retryAfterS: 1,
		hint: "Try again in a moment.",
	});
}
