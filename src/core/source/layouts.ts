/**
 * What other programs have put into an import folder, as models that can be registered where they lie: the cache of
 * Hugging Face's libraries, Ollama's store, a folder of somebody's, a single file. Links are followed where a layout
 * is made of them (a snapshot's relative links to the blobs of its own repository) and refused everywhere else.
 * Only names and sizes are looked at here, and small manifests; nothing is hashed, nothing is changed.
 */
import { lstat, readdir, realpath } from "node:fs/promises";
import { basename, join, relative } from "node:path";
import { isInside } from "../../platform/beneath.ts";
import { pathProblem, parseSafePath } from "../../platform/safe-path.ts";
import { GswarmError, invalid } from "../../schema/errors.ts";
import { fileSetProblem, MAX_FILES } from "./description.ts";
import { importFolderOf } from "./file.ts";
import { type FoundFile, type FoundModel, type LayoutKind, inOrder, problemOf, refused } from "./layout.ts";
import { findInHub, HUB_REPOSITORY, isSnapshot } from "./layout-hub.ts";
import { findInOllama, ollamaStoreOf } from "./layout-ollama.ts";
import { formatSourceUri, suggestedName } from "./source-uri.ts";

export interface LayoutOptions {
	/** Absolute paths. */
	importDirectories: readonly string[];
}

const MAX_DEPTH = 32;

/**
 * Every model at `path`. A whole cache or store has many; what cannot be adopted is there too, with its problem.
 * @throws INVALID_REQUEST scheme_not_allowed, symlink_in_path; NOT_FOUND file_not_found; FORBIDDEN outside_import_folder
 */
export async function findModels(
	path: string,
	{ importDirectories }: LayoutOptions,
	signal: AbortSignal,
): Promise<FoundModel[]> {
	const { folder, target } = await locate(path, importDirectories);
	const place = { folder, target };
	const info = await lstat(target);
	const store = await ollamaStoreOf(folder, target, info.isDirectory());
	if (store !== undefined) return findInOllama({ folder, ...store }, signal);
	if (!info.isDirectory()) return [await oneFile(place)];
	const names = (await readdir(target, { withFileTypes: true })).filter((entry) => entry.isDirectory());
	if (HUB_REPOSITORY.test(basename(target)) || isSnapshot(target)) return findInHub(place, signal);
	const caches = names.some(({ name }) => HUB_REPOSITORY.test(name)) ? [target] : [];
	// HF_HOME has its cache in `hub`.
	const hub = join(target, "hub");
	if (caches.length === 0 && names.some(({ name }) => name === "hub") && (await hasRepositories(hub)))
		caches.push(hub);
	const [cache] = caches;
	if (cache !== undefined) return findInHub({ folder, target: cache }, signal);
	return [await oneFolder(place, signal)];
}

/**
 * The one model at `path`.
 * @throws as findModels; INVALID_REQUEST several_models, not_adoptable
 */
export async function findModel(
	path: string,
	options: LayoutOptions,
	signal: AbortSignal,
): Promise<FoundModel> {
	const found = await findModels(path, options, signal);
	const [only] = found;
	if (only === undefined || found.length !== 1) {
		throw invalid(
			"several_models",
			`There are ${found.length} models at ${path}; one is adopted at a time.`,
			{ path, found: found.length },
			`\`gswarm model adopt ${path}\` lists them and adopts each.`,
		);
	}
	if (only.problem === undefined) return only;
	throw invalid("not_adoptable", `${path} cannot be adopted: ${only.problem}.`, { path });
}

/** The path without links, and the import folder that it is in. */
async function locate(path: string, folders: readonly string[]): Promise<{ folder: string; target: string }> {
	const clean = path.length > 1 ? path.replace(/\/+$/, "") : path;
	const named = importFolderOf({ kind: "file", path: clean }, folders, ADOPT_WORDS);
	let folder: string;
	let target: string;
	try {
		[folder, target] = [await realpath(named), await realpath(clean)];
	} catch (cause) {
		throw new GswarmError("NOT_FOUND", `${clean} cannot be read on this node.`, {
			reason: "file_not_found",
			details: { path: clean },
			cause,
		});
	}
	if (!isInside(folder, target)) {
		throw new GswarmError("FORBIDDEN", `${clean} leads out of its import folder.`, {
			reason: "outside_import_folder",
		});
	}
	if (join(folder, relative(named, clean)) === target) return { folder, target };
	throw invalid(
		"symlink_in_path",
		`${clean} goes through a symbolic link; what is adopted is named without.`,
		{ path: clean },
		`Name ${target}.`,
	);
}

/**
 * A directory of this node that a caller names: in an import folder, and named without links.
 * @throws as findModels; INVALID_REQUEST not_a_directory
 */
export async function insideImportFolder(path: string, folders: readonly string[]): Promise<string> {
	const { target } = await locate(path, folders);
	if ((await lstat(target)).isDirectory()) return target;
	throw invalid("not_a_directory", `${path} is not a directory.`, { path });
}

const ADOPT_WORDS = "Paths of a node can be named only";

async function hasRepositories(path: string): Promise<boolean> {
	return (await readdir(path)).some((name) => HUB_REPOSITORY.test(name));
}

interface Place {
	folder: string;
	target: string;
}

async function oneFile({ folder, target }: Place): Promise<FoundModel> {
	const info = await lstat(target);
	const path = basename(target);
	const problem = !info.isFile()
		? "it is no regular file"
		: /\.(gguf|safetensors)$/i.test(path)
			? pathProblem(path)
			: "a single file has to be a .gguf or .safetensors file";
	const files =
		problem === undefined
			? [{ path: parseSafePath(path), realPath: target, sizeBytes: info.size, digest: undefined }]
			: [];
	return { ...common({ folder, target }, "file"), files, problem };
}

/** Hidden files are what tools keep beside a model, and no part of it. */
async function oneFolder(place: Place, signal: AbortSignal): Promise<FoundModel> {
	const { target } = place;
	const files: FoundFile[] = [];
	const walk = async (directory: string, depth: number): Promise<void> => {
		signal.throwIfAborted();
		for (const entry of await readdir(directory, { withFileTypes: true })) {
			if (entry.name.startsWith(".")) continue;
			const path = join(directory, entry.name);
			const name = relative(target, path);
			if (entry.isDirectory()) {
				if (depth >= MAX_DEPTH) throw refused(`it is deeper than ${MAX_DEPTH} folders`);
				await walk(path, depth + 1);
			} else if (!entry.isFile()) throw refused(`${JSON.stringify(name)} is a link or no regular file`);
			else {
				const problem = pathProblem(name);
				if (problem !== undefined) throw refused(`of the name ${JSON.stringify(name)}, ${problem}`);
				const { size } = await lstat(path);
				files.push({ path: parseSafePath(name), realPath: path, sizeBytes: size, digest: undefined });
			}
			if (files.length > MAX_FILES) throw refused(`it has more than ${MAX_FILES} files`);
		}
	};
	const problem = await walk(target, 1).then(
		() => (files.length === 0 ? "it has no files" : fileSetProblem(files.map(({ path }) => path))),
		problemOf,
	);
	return { ...common(place, "folder"), files: problem === undefined ? inOrder(files) : [], problem };
}

function common(
	{ folder, target }: Place,
	kind: LayoutKind,
): Pick<FoundModel, "kind" | "folder" | "path" | "modelName" | "revision" | "sourceUrl" | "refs"> {
	const uri = { kind: "file" as const, path: target };
	return {
		kind,
		folder,
		path: target,
		modelName: suggestedName(uri),
		revision: undefined,
		sourceUrl: formatSourceUri(uri),
		refs: [],
	};
}
