/** A directory of this user alone: made when it is not there, refused when others could reach into it. */
import { accessSync, constants, mkdirSync, statSync } from "node:fs";
import { GswarmError } from "../schema/errors.ts";

const CHOOSE = "Choose another directory with `--data-dir DIR`.";

/**
 * Makes the directory with its parents, or checks the one that is there.
 * @throws INVALID_REQUEST unsafe_data_dir, not_a_directory, unusable_data_dir
 */
export function ensurePrivateDirectory(path: string): void {
	const stat = explained(path, () => statSync(path, { throwIfNoEntry: false }));
	if (stat === undefined) {
		explained(path, () => mkdirSync(path, { recursive: true, mode: 0o700 }));
		return;
	}
	if (!stat.isDirectory()) {
		throw new GswarmError("INVALID_REQUEST", `${path} is not a directory.`, {
			reason: "not_a_directory",
			hint: CHOOSE,
		});
	}
	const { uid, mode } = stat;
	const mine = process.getuid?.() ?? uid;
	if (uid !== mine || (mode & 0o022) !== 0) {
		throw new GswarmError(
			"INVALID_REQUEST",
			uid === mine ? `${path} can be written by other users.` : `${path} belongs to another user.`,
			{
				reason: "unsafe_data_dir",
				hint: `\`chmod 700 ${path}\`, or choose another directory with \`--data-dir\`.`,
			},
		);
	}
	explained(path, () => accessSync(path, constants.W_OK | constants.X_OK));
}

const WHY: Record<string, string> = {
	EROFS: "the filesystem is read-only",
	EACCES: "this user may not write there",
	EPERM: "this user may not write there",
	ENOENT: "nothing can be made there",
	EEXIST: "something else is in the way",
	ENOTDIR: "a part of the path is not a directory",
	ENOSPC: "the filesystem is full",
	ELOOP: "the path has too many links",
	ENAMETOOLONG: "the path is too long",
};

function explained<T>(path: string, action: () => T): T {
	try {
		return action();
	} catch (cause) {
		const why = WHY[(cause as NodeJS.ErrnoException).code ?? ""];
		if (why === undefined) throw cause;
		throw new GswarmError("INVALID_REQUEST", `${path} cannot be a data directory: ${why}.`, {
			reason: "unusable_data_dir",
			hint: CHOOSE,
			cause,
		});
	}
}
