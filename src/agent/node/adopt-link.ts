/**
 * What was found becomes a copy of the store's own without its bytes being copied: a reflink, whose bytes part from the
 * original's when either is written, or else a hard link, which is possible for files of the agent's own user alone and
 * has the same bytes for ever.
 */
import { constants, lstatSync } from "node:fs";
import { copyFile, link, mkdir, rm } from "node:fs/promises";
import { dirname } from "node:path";
import type { AdoptedFile } from "../../core/storage/storage.ts";
import { fileError } from "../../platform/durable-file.ts";
import { joinSafe, parseSafePath } from "../../platform/safe-path.ts";
import { GswarmError } from "../../schema/errors.ts";

/** @throws CONFLICT cannot_link, source_changed; nothing is left of a file that could not be linked */
export async function linkFiles(files: readonly AdoptedFile[], staging: string): Promise<void> {
	for (const { path, realPath, identity } of files) {
		const to = joinSafe(staging, parseSafePath(path));
		try {
			await mkdir(dirname(to), { recursive: true, mode: 0o700 });
			// Of an attempt before this one.
			await rm(to, { force: true });
			if (!(await cloned(realPath, to))) await linked(realPath, to);
		} catch (error) {
			throw fileError(error, `Linking ${path}`);
		}
		// A link changes when the inode was changed last, and nothing else of it.
		if (contentsOf(realPath) !== identity.split(" ").slice(0, 4).join(" ")) throw changed(path);
	}
}

const NO_CLONE: readonly (string | undefined)[] = [
	"ENOTSUP",
	"EOPNOTSUPP",
	"EXDEV",
	"EINVAL",
	"ENOTTY",
	"ENOSYS",
];

async function cloned(from: string, to: string): Promise<boolean> {
	try {
		await copyFile(from, to, constants.COPYFILE_FICLONE_FORCE | constants.COPYFILE_EXCL);
		return true;
	} catch (error) {
		if (!NO_CLONE.includes((error as NodeJS.ErrnoException).code)) throw error;
		await rm(to, { force: true });
		return false;
	}
}

async function linked(from: string, to: string): Promise<void> {
	const { uid } = lstatSync(from);
	if (uid !== process.getuid?.()) throw cannotLink(from, "it belongs to another user, who may change it");
	try {
		await link(from, to);
	} catch (error) {
		const { code } = error as NodeJS.ErrnoException;
		if (code === "EXDEV") throw cannotLink(from, "it is on another filesystem than the device");
		if (code === "EPERM" || code === "EOPNOTSUPP") throw cannotLink(from, "its filesystem has no links");
		if (code === "EMLINK") throw cannotLink(from, "it has as many names as its filesystem allows");
		throw error;
	}
}

/** Device, inode, size, and when the contents changed last. */
function contentsOf(path: string): string {
	const { dev, ino, size, mtimeNs } = lstatSync(path, { bigint: true });
	return `${dev} ${ino} ${size} ${mtimeNs}`;
}

function cannotLink(path: string, why: string): GswarmError {
	return new GswarmError("CONFLICT", `${path} cannot be linked into the store: ${why}.`, {
		reason: "cannot_link",
		details: { path },
		hint: "Adopt it without --link, where it lies, or copy it: `gswarm model download NAME --source file:///…`.",
	});
}

function changed(path: string): GswarmError {
	return new GswarmError("CONFLICT", `${path} changed while it was read.`, {
		reason: "source_changed",
		details: { file: path },
		hint: "Adopt it again when nobody writes to it.",
	});
}
