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
const WINDOWS_DEVICE = /^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?$/i;
/** Control characters, the separators of other systems, and what Windows refuses in a name. */
// oxlint-disable-next-line no-control-regex -- control characters are what is refused
const FORBIDDEN = /[\u0000-\u001f\u007f<>:"|?*\\]/;

/** What is wrong with the path, or undefined when it is safe. */
export function pathProblem(text: string): string | undefined {
	if (text === "") return "it is empty";
	if (Buffer.byteLength(text) > MAX_PATH_BYTES) return `it is longer than ${MAX_PATH_BYTES} bytes`;
	if (text.startsWith("/")) return "it is absolute";
	if (FORBIDDEN.test(text)) return "it has a character that is not allowed in a file name";
	if (text.normalize("NFC") !== text) return "it is not in Unicode normal form C";
	const segments = text.split("/");
	if (segments.length > MAX_DEPTH) return `it is deeper than ${MAX_DEPTH} folders`;
	for (const segment of segments) {
		if (segment === "") return "it has an empty segment";
		if (segment === "." || segment === "..") return `it has the segment "${segment}"`;
		if (Buffer.byteLength(segment) > MAX_SEGMENT_BYTES)
			return `a segment is longer than ${MAX_SEGMENT_BYTES} bytes`;
		if (segment.endsWith(".") || segment.endsWith(" ")) return "a segment ends with a dot or a space";
		if (WINDOWS_DEVICE.test(segment)) return `"${segment}" is a device name on Windows`;
		if (segment.startsWith(".gswarm")) return 'names that start with ".gswarm" are ours';
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

/** The path below a directory of ours. */
export function joinSafe(directory: string, path: SafePath): string {
	return join(directory, path);
}
