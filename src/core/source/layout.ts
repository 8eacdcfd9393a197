/** What a layout of another program's is read as, and how one model among others is refused. */
import { dirname } from "node:path";
import type { SafePath } from "../../platform/safe-path.ts";
import { type GswarmError, asGswarmError, invalid } from "../../schema/errors.ts";
import type { ModelName, Revision } from "../../schema/names.ts";
import type { SourceDigest } from "./contract.ts";

export type LayoutKind = "hub" | "ollama" | "folder" | "file";

export interface FoundFile {
	/** In the model. */
	path: SafePath;
	/** Absolute: where the bytes are. */
	realPath: string;
	sizeBytes: number;
	/** What its name in the layout promises. */
	digest: SourceDigest | undefined;
}

export interface FoundModel {
	kind: LayoutKind;
	/** The import folder, resolved. */
	folder: string;
	/** What to ask for to have just this one: a snapshot, a manifest, a folder, a file. */
	path: string;
	/** Undefined where its name cannot be one of ours. */
	modelName: ModelName | undefined;
	/** What the layout says; undefined: its contents tell. */
	revision: Revision | undefined;
	sourceUrl: string;
	/** Branches and tags that lead to it. */
	refs: readonly string[];
	files: readonly FoundFile[];
	/** Why it cannot be adopted as it is. */
	problem: string | undefined;
}

/** Of one model among others: its problem is told, and the others are found. */
export function refused(problem: string): GswarmError {
	return invalid("not_adoptable", problem);
}

/** @throws what is not about the model but about the machine */
export function problemOf(error: unknown): string {
	const { code } = error as NodeJS.ErrnoException;
	if (code === "EACCES")
		return `the agent may not read ${dirname((error as NodeJS.ErrnoException).path ?? "")}`;
	const known = asGswarmError(error);
	if (known.code !== "INVALID_REQUEST") throw error;
	return known.message;
}

/** By path, whatever the order of the directory. */
export function inOrder(files: readonly FoundFile[]): FoundFile[] {
	return [...files].sort((a, b) => (a.path < b.path ? -1 : 1));
}
