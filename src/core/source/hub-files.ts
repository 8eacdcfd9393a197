/** Which files of a hub repository make the model: one format, one quantisation, what people asked for. */
import { GswarmError, invalid } from "../../schema/errors.ts";
import { matchesPattern } from "./fnmatch.ts";

export interface HubFile {
	path: string;
	sizeBytes: number;
}

export interface FileChoice {
	quantisation?: string | undefined;
	/** The one file with exactly this path. */
	path?: string | undefined;
	/** Patterns on the whole path. Naming any switches the defaults off: what is named comes. */
	include?: readonly string[] | undefined;
	exclude?: readonly string[] | undefined;
	allFiles?: boolean | undefined;
}

/** Left out where safetensors hold the same weights. */
const OTHER_WEIGHTS: readonly string[] = [
	"original/*",
	"*.pth",
	"*.bin",
	"*.h5",
	"*.msgpack",
	"*.onnx",
	"*.gguf",
];
const WEIGHTS = /\.(gguf|safetensors|pth|pt|bin|h5|msgpack|onnx)$/i;
const GGUF = /\.gguf$/i;
/** Companions of a GGUF model that no quantisation is chosen by. */
const GGUF_COMPANION = /^(mmproj|imatrix)/i;
const SPLIT = /-\d{5}-of-\d{5}$/;
const QUANTISATION =
	/(?:^|[-._])((?:UD-)?(?:I?Q\d(?:_[A-Z0-9]{1,3}){0,3}|TQ\d_\d|MXFP4(?:_MOE)?|BF16|FP?16|FP?32))(?=$|[-._])/gi;

/**
 * The files to download, in the order of the list.
 * @throws INVALID_REQUEST ambiguous_quantisation (listing them with sizes), unknown_quantisation, no_files_match;
 * TASK_FAILED not_found for a single file that is not there
 */
export function chooseFiles<F extends HubFile>(files: readonly F[], choice: FileChoice): F[] {
	if (choice.path !== undefined) return onlyFile(files, choice.path);
	const { include = [], exclude = [] } = choice;
	const matches = (path: string, patterns: readonly string[]): boolean =>
		patterns.some((pattern) => matchesPattern(path, pattern));
	const wanted = files
		.filter(({ path }) => include.length === 0 || matches(path, include))
		.filter(({ path }) => !matches(path, exclude));
	if (wanted.length === 0) {
		throw invalid("no_files_match", `None of the ${files.length} files matches include and exclude.`, {
			include,
			exclude,
		});
	}
	if (choice.quantisation !== undefined) return ofQuantisation(wanted, choice.quantisation);
	if (choice.allFiles === true || include.length > 0) return wanted;
	if (wanted.some(({ path }) => path.endsWith(".safetensors"))) {
		return wanted.filter(({ path }) => !matches(path, OTHER_WEIGHTS));
	}
	return onlyQuantisation(wanted);
}

/** The quantisation that the name of a GGUF file tells, in capitals; of `x-q4_k_m-00001-of-00002.gguf` it is `Q4_K_M`. */
export function quantisationOf(path: string): string | undefined {
	const [name = "", folder = ""] = path.split("/").reverse();
	const stem = name.replace(GGUF, "").replace(SPLIT, "");
	const found = [...stem.matchAll(QUANTISATION)].at(-1) ?? [...folder.matchAll(QUANTISATION)].at(-1);
	return found?.[1]?.toUpperCase();
}

function onlyFile<F extends HubFile>(files: readonly F[], path: string): F[] {
	const found = files.filter((file) => file.path === path);
	if (found.length > 0) return found;
	throw new GswarmError("TASK_FAILED", `The repository has no file ${JSON.stringify(path)}.`, {
		reason: "not_found",
		details: { path },
	});
}

/** GGUF files by quantisation; a split set is one, and a file whose name tells none is known by its name. */
function quantisations<F extends HubFile>(files: readonly F[]): Map<string, F[]> {
	const groups = Map.groupBy(
		files.filter(({ path }) => GGUF.test(path) && !GGUF_COMPANION.test(path.split("/").at(-1) ?? "")),
		({ path }) => quantisationOf(path) ?? path.replace(GGUF, "").replace(SPLIT, ""),
	);
	return new Map([...groups].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** The default for a repository without safetensors: everything, with its one quantisation if it is of GGUF. */
function onlyQuantisation<F extends HubFile>(files: readonly F[]): F[] {
	const groups = quantisations(files);
	if (groups.size <= 1) return files.filter(({ path }) => groups.size === 0 || !isCompanion(path));
	throw invalid(
		"ambiguous_quantisation",
		`The repository has ${groups.size} quantisations: ${listed(groups)}.`,
		{ quantisations: Object.fromEntries([...groups].map(([name, group]) => [name, totalBytes(group)])) },
		`Name one after a colon, e.g. hf:org/name:${groups.has("Q4_K_M") ? "Q4_K_M" : [...groups.keys()][0]}, or take all files.`,
	);
}

/** The files of one quantisation and all that are no weights. */
function ofQuantisation<F extends HubFile>(files: readonly F[], quantisation: string): F[] {
	const groups = quantisations(files);
	const chosen = groups.get(quantisation.toUpperCase()) ?? groups.get(quantisation);
	if (chosen === undefined) {
		throw invalid(
			"unknown_quantisation",
			groups.size === 0
				? `The repository has no GGUF files, so there is no quantisation ${quantisation}.`
				: `The repository has no quantisation ${quantisation}; it has ${listed(groups)}.`,
			{ quantisations: Object.fromEntries([...groups].map(([name, group]) => [name, totalBytes(group)])) },
		);
	}
	return files.filter((file) => chosen.includes(file) || !WEIGHTS.test(file.path));
}

function isCompanion(path: string): boolean {
	return GGUF.test(path) && GGUF_COMPANION.test(path.split("/").at(-1) ?? "");
}

function listed(groups: ReadonlyMap<string, readonly HubFile[]>): string {
	return [...groups].map(([name, files]) => `${name} (${gigabytes(totalBytes(files))})`).join(", ");
}

function totalBytes(files: readonly HubFile[]): number {
	return files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

function gigabytes(bytes: number): string {
	return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
