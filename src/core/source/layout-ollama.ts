/**
 * Ollama's store (https://github.com/ollama/ollama, `OLLAMA_MODELS`): `manifests/HOST/NAMESPACE/NAME/TAG` are manifests
 * as a registry has them, `blobs/sha256-HEX` their layers.
 */
import { lstat, readdir, readFile } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import { openBeneath } from "../../platform/beneath.ts";
import { isModelName, parseModelName, parseRevision } from "../../schema/names.ts";
import { type FoundFile, type FoundModel, problemOf, refused } from "./layout.ts";
import { readManifest } from "./registry-manifest.ts";
import { formatRegistryUri, nameOfArtifact, parseRegistryName, type RegistryUri } from "./registry-uri.ts";

const OLLAMA_HOST = "registry.ollama.ai";
const MAX_MANIFEST_BYTES = 4 * 1024 * 1024;
const MAX_MODELS = 10_000;
/** Host, namespace, name, tag. */
const LEVELS = 4;

export interface OllamaStore {
	/** The directory with `manifests` and `blobs`. */
	store: string;
	/** One manifest of it; undefined: all. */
	manifest: string | undefined;
}

/** The store that a path is, is the home of, or is a manifest of; undefined where it is none. */
export async function ollamaStoreOf(
	folder: string,
	target: string,
	isDirectory: boolean,
): Promise<OllamaStore | undefined> {
	if (isDirectory) {
		for (const store of [target, join(target, "models")])
			if (await isStore(store)) return { store, manifest: undefined };
		return undefined;
	}
	const segments = target.split(sep);
	if (segments[segments.length - LEVELS - 1] !== "manifests") return undefined;
	const store = storeOfManifest(target);
	return store.startsWith(folder) && (await isStore(store)) ? { store, manifest: target } : undefined;
}

export async function findInOllama(
	{ folder, store, manifest }: OllamaStore & { folder: string },
	signal: AbortSignal,
): Promise<FoundModel[]> {
	const paths = manifest === undefined ? await listManifests(store) : [manifest];
	const found: FoundModel[] = [];
	for (const path of paths) {
		signal.throwIfAborted();
		found.push(await modelOf(folder, store, path));
	}
	return found;
}

/** The store that a manifest is in. */
export function storeOfManifest(path: string): string {
	return path
		.split(sep)
		.slice(0, -LEVELS - 1)
		.join(sep);
}

/** Every manifest of a store. */
export async function listManifests(store: string): Promise<string[]> {
	const root = join(store, "manifests");
	const paths: string[] = [];
	const walk = async (directory: string, depth: number): Promise<void> => {
		for (const entry of await readdir(directory, { withFileTypes: true })) {
			const path = join(directory, entry.name);
			if (entry.name.startsWith(".") || paths.length >= MAX_MODELS) continue;
			if (entry.isDirectory() && depth < LEVELS) await walk(path, depth + 1);
			if (entry.isFile() && depth === LEVELS) paths.push(path);
		}
	};
	await walk(root, 1);
	return paths.sort();
}

/** The blobs that a manifest names, as they are called in the store. */
export async function blobsOf(folder: string, store: string, path: string): Promise<string[]> {
	const { files } = readManifest(await readBytes(folder, path), uriOf(store, path), null);
	return files.map(({ digest }) => blobPath(store, digest));
}

async function modelOf(folder: string, store: string, path: string): Promise<FoundModel> {
	const files: FoundFile[] = [];
	let uri: RegistryUri | undefined;
	let revision: string | undefined;
	const read = async (): Promise<void> => {
		uri = uriOf(store, path);
		const manifest = readManifest(await readBytes(folder, path), uri, null);
		if (manifest.next !== undefined) throw refused("it is a list of manifests");
		revision = manifest.digest.replace(":", "-");
		for (const { path: name, sizeBytes, digest } of manifest.files) {
			const realPath = blobPath(store, digest);
			const info = await lstat(realPath).catch(() => undefined);
			if (info?.isFile() !== true) throw refused(`the blob of ${name} is missing, or no regular file`);
			if (info.size !== sizeBytes)
				throw refused(`the blob of ${name} has ${info.size} bytes, wanted ${sizeBytes}`);
			const hex = digest.slice("sha256:".length);
			files.push({ path: name, realPath, sizeBytes, digest: { algorithm: "sha256", hex } });
		}
		if (files.length === 0) throw refused("it has no layers");
	};
	const problem = await read().then(() => undefined, manifestProblem);
	const name = uri === undefined ? undefined : nameOfArtifact(uri);
	return {
		kind: "ollama",
		folder,
		path,
		modelName: name !== undefined && isModelName(name) ? parseModelName(name) : undefined,
		revision: revision === undefined ? undefined : parseRevision(revision),
		sourceUrl: uri === undefined ? "" : formatRegistryUri(uri),
		refs: [],
		files: problem === undefined ? files : [],
		problem,
	};
}

/** A manifest that is no model's is a problem of that one alone. */
function manifestProblem(error: unknown): string {
	const { reason, message } = error as { reason?: string; message: string };
	if (reason === "unsupported_layer" || reason === "bad_answer") return message;
	return problemOf(error);
}

/** `manifests/registry.ollama.ai/library/llama3/8b` is `ollama:llama3:8b`. */
function uriOf(store: string, path: string): RegistryUri {
	const [host = "", namespace = "", name = "", tag = ""] = relative(join(store, "manifests"), path).split(
		sep,
	);
	// `latest` is what is meant without a tag.
	const end = tag === "latest" ? "" : `:${tag}`;
	const uri =
		host === OLLAMA_HOST
			? parseRegistryName("ollama", `${namespace}/${name}${end}`)
			: parseRegistryName("oci", `${host}/${namespace}/${name}${end}`);
	if (uri === undefined) throw refused(`${JSON.stringify(relative(store, path))} is no name of a model`);
	return uri;
}

function blobPath(store: string, digest: string): string {
	return join(store, "blobs", digest.replace(":", "-"));
}

async function isStore(path: string): Promise<boolean> {
	const areThere = ["manifests", "blobs"].map(async (name) => {
		const info = await lstat(join(path, name)).catch(() => undefined);
		return info?.isDirectory() === true;
	});
	return (await Promise.all(areThere)).every(Boolean);
}

async function readBytes(folder: string, path: string): Promise<Uint8Array> {
	const handle = await openBeneath(folder, path);
	try {
		const { size } = await handle.stat();
		if (size > MAX_MANIFEST_BYTES) throw refused(`its manifest has ${size} bytes`);
		return await readFile(handle);
	} finally {
		await handle.close();
	}
}
