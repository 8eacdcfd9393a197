/**
 * The one validator of file paths that come from outside (repositories, archives, manifests).
 * POSIX and Windows rules on every system: a model that one node accepts must be storable on all.
 */
import { join } from "node:path";
import { GswarmError } from "../schema/errors.ts";

declare const brand: unique symbol;
/** A checked relative POSIX path, safe to join below a directory. */
export type SafePath = string & { readonly [brand]: "SafePath" };

const MAX_PATH_BYTES = 1024;
const MAX_SEGMENT_BYTES = 255;
const MAX_DEPTH = 32;
/** Windows looks for its devices before the first dot, spaces there left out. */
const WINDOWS_DEVICE = /^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$) *(\..*)?$/i;
/** Separators of other systems, and what Windows refuses in a name. */
const FORBIDDEN = /[<>:"|?*\\]/;
/** Control characters, line ends of Unicode, and marks that show a name in another order than it has. */
const INVISIBLE = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/u;
/** What filesystems that fold case leave out when they compare names (zero-width joiners and the like). */
const IGNORED = /\p{Default_Ignorable_Code_Point}/gu;

/** What is wrong with the path, or undefined when it is safe. */
export function pathProblem(text: string): string | undefined {
	if (text === "") return "it is empty";
	if (Buffer.byteLength(text) > MAX_PATH_BYTES) return `it is longer than ${MAX_PATH_BYTES} bytes`;
	if (text.startsWith("/")) return "it is absolute";
	// Written as UTF-8, every half of a surrogate pair becomes the same replacement character.
	if (!text.isWellFormed()) return "it is not well-formed Unicode";
	if (FORBIDDEN.test(text) || INVISIBLE.test(text))
		return "it has a character that is not allowed in a file name";
	if (text.normalize("NFC") !== text) return "it is not in Unicode normal form C";
	const segments = text.split("/");
	if (segments.length > MAX_DEPTH) return `it is deeper than ${MAX_DEPTH} folders`;
	for (const segment of segments) {
		const folded = foldPath(segment);
		if (["", ".", ".."].includes(folded)) return `it has the segment ${JSON.stringify(segment)}`;
		if (Buffer.byteLength(segment) > MAX_SEGMENT_BYTES)
			return `a segment is longer than ${MAX_SEGMENT_BYTES} bytes`;
		if (segment.endsWith(".") || segment.endsWith(" ")) return "a segment ends with a dot or a space";
		if (WINDOWS_DEVICE.test(segment)) return `"${segment}" is a device name on Windows`;
		if (folded.startsWith(".GSWARM")) return 'names that start with ".gswarm" are ours';
	}
	return undefined;
}

/**
 * A path from outside as a checked relative path.
 * @throws INVALID_REQUEST unsafe_filename
 */
export function parseSafePath(text: string): SafePath {
	const problem = pathProblem(text);
	if (problem !== undefined) {
		throw new GswarmError(
			"INVALID_REQUEST",
			`The file name ${JSON.stringify(text.slice(0, 200))} is not safe: ${problem}.`,
			{
				reason: "unsafe_filename",
				details: { path: text.slice(0, 200) },
			},
		);
	}
	return text as SafePath;
}

/**
 * One spelling for all paths that a filesystem without case may take for the same (NTFS, APFS, HFS+, ext4's casefold):
 * capitals, so that `ß` and `ss`, `ς` and `σ`, a ligature and its letters meet too. A key to compare with, not a name.
 */
export function foldPath(path: string): string {
	return path.replace(IGNORED, "").toUpperCase().normalize("NFC");
}

/** The path below a directory of ours. */
export function joinSafe(directory: string, path: SafePath): string {
	return join(directory, path);
}
