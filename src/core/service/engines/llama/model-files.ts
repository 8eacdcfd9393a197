/** From the path that the agent gives to the GGUF files of one model, each checked before llama.cpp sees it. */
import { readdirSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { type GgufHeader, readGgufFile } from "../../../../platform/gguf.ts";
import { GswarmError } from "../../../../schema/errors.ts";

export interface ModelFiles {
	/** The file to open; of a split model its first shard. */
	entryPath: string;
	/** Every file of the model, in shard order. */
	paths: string[];
	/** The header of the first file. */
	header: GgufHeader;
	/** Of all files together. */
	parameterCount: number;
	sizeBytes: number;
}

/**
 * Finds and checks the files of the model at `path` (a .gguf file or a directory that holds exactly one model).
 * Throws GswarmError naming the file and what is wrong with it.
 */
export function findModelFiles(path: string): ModelFiles {
	const entryPath = entryOf(path);
	const paths = shardsOf(entryPath);
	const headers = paths.map((shard) => readGgufFile(shard));
	const [header] = headers;
	if (header === undefined) throw new Error("a model has at least one file");
	if (header.splitCount !== paths.length)
		throw cannot(
			`${basename(entryPath)} is one of ${header.splitCount} files by its header, ${paths.length} by its name`,
			"bad_split",
		);
	if (header.architecture === undefined)
		throw cannot(`${basename(entryPath)} names no architecture (general.architecture)`, "no_architecture");
	return {
		entryPath,
		paths,
		header,
		parameterCount: headers.reduce((sum, each) => sum + each.parameterCount, 0),
		sizeBytes: paths.reduce((sum, each) => sum + statSync(each).size, 0),
	};
}

/** The shards that the name of a first shard promises, or the file alone. */
export function shardNames(name: string): string[] {
	const match = SHARD.exec(name);
	const total = Number(match?.[3] ?? 0);
	if (match === null || total < 2) return [name];
	return Array.from(
		{ length: total },
		(_, index) => `${match[1]}-${String(index + 1).padStart(5, "0")}-of-${match[3]}.gguf`,
	);
}

const SHARD = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/i;
/** Model directories hold a handful of files; the limits keep a wrong path (such as /) from being walked. */
const MAX_DEPTH = 4;
const MAX_ENTRIES = 20_000;

function entryOf(path: string): string {
	const stat = statSync(path, { throwIfNoEntry: false });
	if (stat === undefined) throw cannot(`there is nothing at ${path}`, "model_path_missing");
	if (!stat.isDirectory()) {
		const shard = SHARD.exec(basename(path));
		if (shard !== null && Number(shard[2]) !== 1)
			throw cannot(`${basename(path)} is not the first file of its model`, "not_first_shard");
		return path;
	}
	const candidates = listGguf(path).filter((file) => Number(SHARD.exec(basename(file))?.[2] ?? 1) === 1);
	const [only, ...others] = candidates;
	if (only === undefined)
		throw new GswarmError("INVALID_REQUEST", `Cannot load the model: ${path} holds no .gguf file.`, {
			reason: "no_gguf",
			hint: "The embedded engine serves GGUF models; other formats need another engine.",
		});
	if (others.length > 0)
		throw new GswarmError(
			"INVALID_REQUEST",
			`Cannot load the model: ${path} holds ${candidates.length} GGUF models: ${candidates
				.slice(0, 8)
				.map((file) => basename(file))
				.join(", ")}.`,
			{ reason: "several_gguf", hint: "Name one of the files." },
		);
	return only;
}

function shardsOf(entryPath: string): string[] {
	const paths = shardNames(basename(entryPath)).map((name) => join(dirname(entryPath), name));
	const missing = paths.filter((path) => statSync(path, { throwIfNoEntry: false }) === undefined);
	if (missing.length > 0)
		throw cannot(
			`${missing
				.map((path) => basename(path))
				.slice(0, 8)
				.join(", ")} of its ${paths.length} files ${missing.length === 1 ? "is" : "are"} missing`,
			"shard_missing",
		);
	return paths;
}

/** GGUF files below a directory; projectors (mmproj-*.gguf) belong to a model and are not one. */
function listGguf(root: string): string[] {
	const found: string[] = [];
	let seen = 0;
	const walk = (directory: string, depth: number): void => {
		for (const entry of readdirSync(directory, { withFileTypes: true })) {
			if (++seen > MAX_ENTRIES)
				throw cannot(`${root} holds more than ${MAX_ENTRIES} entries`, "not_a_model_directory");
			const path = join(directory, entry.name);
			if (entry.isDirectory()) {
				if (depth < MAX_DEPTH) walk(path, depth + 1);
			} else if (/\.gguf$/i.test(entry.name) && !/^mmproj/i.test(entry.name)) found.push(path);
		}
	};
	walk(root, 1);
	return found.sort();
}

function cannot(what: string, reason: string): GswarmError {
	return new GswarmError("INVALID_REQUEST", `Cannot load the model: ${what}.`, { reason });
}
