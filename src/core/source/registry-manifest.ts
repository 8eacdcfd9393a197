/**
 * Manifests of registries (https://github.com/opencontainers/image-spec, Docker's v2, and what Ollama makes of it) and
 * the files that their layers are. A model is what its layers say by title or by media type; the layers of a container
 * image are no model and are refused.
 */
import { z } from "zod";
import { sha256Hex } from "../../platform/hash.ts";
import { parseSafePath, type SafePath } from "../../platform/safe-path.ts";
import { GswarmError } from "../../schema/errors.ts";
import { badAnswer } from "./answer.ts";
import { MAX_FILES } from "./description.ts";
import { baseName, type RegistryUri } from "./registry-uri.ts";

/** What is asked for, in this order. */
export const MANIFEST_TYPES =
	"application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json";

export interface LayerFile {
	path: SafePath;
	sizeBytes: number;
	/** `sha256:…`, the name of its blob. */
	digest: string;
}

const DIGEST = /^sha256:[0-9a-f]{64}$/;
const blobSchema = z.object({
	mediaType: z.string().max(200).default(""),
	digest: z.string().max(200),
	size: z.number().int().nonnegative(),
	annotations: z.record(z.string(), z.string()).nullish(),
});
type Blob = z.infer<typeof blobSchema>;
const manifestSchema = z.object({
	config: blobSchema.optional(),
	layers: z.array(blobSchema).max(MAX_FILES),
});
const indexSchema = z.object({ manifests: z.array(blobSchema).max(1000) });

/** A manifest whose bytes were checked. */
export interface ReadManifest {
	/** `sha256:…` of its bytes. */
	digest: string;
	/** The one manifest that an index names instead. */
	next: string | undefined;
	files: readonly LayerFile[];
}

/**
 * @throws NETWORK_ERROR bad_answer, wrong_digest; INVALID_REQUEST unsafe_filename;
 * TASK_FAILED unsupported_layer, several_platforms
 */
export function readManifest(bytes: Uint8Array, uri: RegistryUri, told: string | null): ReadManifest {
	const digest = `sha256:${sha256Hex(bytes)}`;
	for (const wanted of [told, uri.reference?.startsWith("sha256:") === true ? uri.reference : null])
		if (wanted?.startsWith("sha256:") === true && wanted !== digest) throw wrongDigest(uri, wanted, digest);
	let json: unknown;
	try {
		json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
	} catch (cause) {
		throw badAnswer(`The manifest of ${uri.repository} is not JSON`, cause);
	}
	const index = indexSchema.safeParse(json);
	if (index.success) return { digest, next: onlyManifest(index.data.manifests, uri), files: [] };
	const manifest = manifestSchema.safeParse(json);
	if (!manifest.success)
		throw badAnswer(`The manifest of ${uri.repository} has an unknown form`, manifest.error);
	return { digest, next: undefined, files: filesOf(manifest.data, uri) };
}

function onlyManifest(manifests: readonly Blob[], uri: RegistryUri): string {
	const [only, ...others] = manifests.filter(({ digest }) => DIGEST.test(digest));
	if (only !== undefined && others.length === 0) return only.digest;
	throw new GswarmError(
		"TASK_FAILED",
		`${uri.repository} has ${manifests.length} manifests for different platforms; a model has one.`,
		{
			reason: "several_platforms",
			details: { digests: manifests.slice(0, 16).map(({ digest }) => digest.slice(0, 80)) },
			hint: "Name one by its digest: …@sha256:…",
		},
	);
}

/** Annotations with the path of a file: of ORAS and of the ModelPack specification. */
const TITLES = ["org.opencontainers.image.title", "org.cncf.model.filepath"];
/** Layers of Ollama and of Docker's model runner by the end of their media type; `{n}` counts equal names. */
const NAMED_LAYERS: readonly (readonly [RegExp, (base: string) => string])[] = [
	[/^application\/vnd\.ollama\.image\.model$/, (base) => `${base}.gguf`],
	[/^application\/vnd\.ollama\.image\.projector$/, (base) => `mmproj-${base}.gguf`],
	[/^application\/vnd\.ollama\.image\.adapter$/, (base) => `adapter-${base}.gguf`],
	[/^application\/vnd\.ollama\.image\.template$/, () => "template"],
	[/^application\/vnd\.ollama\.image\.system$/, () => "system"],
	[/^application\/vnd\.ollama\.image\.prompt$/, () => "prompt"],
	[/^application\/vnd\.ollama\.image\.params$/, () => "params.json"],
	[/^application\/vnd\.ollama\.image\.messages$/, () => "messages.json"],
	[/^application\/vnd\.ollama\.image\.license$/, () => "LICENSE"],
	[/^application\/vnd\.docker\.ai\.gguf\.v\d+$/, (base) => `${base}.gguf`],
	[/^application\/vnd\.docker\.ai\.mmproj$/, (base) => `mmproj-${base}.gguf`],
	[/^application\/vnd\.docker\.ai\.license$/, () => "LICENSE"],
	[/^application\/vnd\.docker\.ai\.chat\.template\.file$/, () => "template"],
];

function filesOf({ config, layers }: z.infer<typeof manifestSchema>, uri: RegistryUri): LayerFile[] {
	const base = baseName(uri.repository);
	const counts = new Map<string, number>();
	const files = layers.map((layer) => {
		const title = TITLES.map((key) => layer.annotations?.[key]).find((text) => text !== undefined);
		const named = NAMED_LAYERS.find(([type]) => type.test(layer.mediaType))?.[1](base);
		const name = title ?? named;
		const isFolder = layer.annotations?.["io.deis.oras.content.unpack"] === "true";
		if (name === undefined || isFolder || /\+(gzip|zstd)$|\.tar(\.gzip)?$/.test(layer.mediaType))
			throw unsupportedLayer(uri, layer);
		const count = (counts.get(name) ?? 0) + 1;
		counts.set(name, count);
		// Several licences are usual; two titles that are the same are found by the set of files.
		return toFile(title === undefined && count > 1 ? numbered(name, count) : name, layer, uri);
	});
	const isEmpty =
		config === undefined || config.size <= 2 || config.mediaType === "application/vnd.oci.empty.v1+json";
	const isOllama = layers.some(({ mediaType }) => mediaType.startsWith("application/vnd.ollama."));
	return isEmpty
		? files
		: [...files, toFile(isOllama ? "ollama-config.json" : "oci-config.json", config, uri)];
}

function numbered(name: string, count: number): string {
	const dot = name.lastIndexOf(".");
	return dot > 0 ? `${name.slice(0, dot)}-${count}${name.slice(dot)}` : `${name}-${count}`;
}

function toFile(name: string, { digest, size }: Blob, uri: RegistryUri): LayerFile {
	if (!DIGEST.test(digest))
		throw badAnswer(
			`A layer of ${uri.repository} has a digest that is no sha256: ${JSON.stringify(digest.slice(0, 40))}`,
		);
	return { path: parseSafePath(name), sizeBytes: size, digest };
}

function unsupportedLayer(uri: RegistryUri, { mediaType }: Blob): GswarmError {
	const type = mediaType.slice(0, 100);
	return new GswarmError(
		"TASK_FAILED",
		`${uri.repository} has a layer of the type ${JSON.stringify(type)}, which is no file of a model.`,
		{
			reason: "unsupported_layer",
			details: { media_type: type },
			hint: "Models are read from Ollama's registry, Docker's model runner, and artifacts whose layers have titles (oras push).",
		},
	);
}

/** The registry, or somebody on the way, answered with other bytes than were named. */
function wrongDigest(uri: RegistryUri, wanted: string, got: string): GswarmError {
	return new GswarmError(
		"NETWORK_ERROR",
		`The manifest of ${uri.repository} is not the one that was named: wanted ${wanted.slice(0, 80)}, got ${got}.`,
		{ reason: "wrong_digest", details: { wanted: wanted.slice(0, 80), got } },
	);
}
