/**
 * A copy goes: row `removing`, rename into the trash, unlink, row gone. From the first commit on nobody reads it,
 * and the next start finishes what a crash interrupted.
 */
import { existsSync } from "node:fs";
import { rename, rm, rmdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileError, renameDurably } from "../../platform/durable-file.ts";
import { GswarmError } from "../../schema/errors.ts";
import type { CopyRow } from "./copy-store.ts";
import { keyOf } from "./copy-index.ts";
import { dropRow, rootOf, type Shelf, setState } from "./shelf.ts";
import { withdrawCopy } from "./presented.ts";
import { forgetShared } from "./shared-files.ts";
import { treeBytes } from "./staged-tree.ts";
import { dropView } from "./adopted-view.ts";
import { copyPath } from "./tier-root.ts";

/** @throws CONFLICT in_use */
export async function removeRow(shelf: Shelf, row: CopyRow): Promise<number> {
	const holders = shelf.holds.get(keyOf(row)) ?? [];
	if (holders.length > 0) throw inUse(row, holders);
	if (row.state === "removing") return finishRemoval(shelf, row);
	// At once, not after the commit: nobody may take a hold while it is written.
	shelf.rows.set(keyOf(row), { ...row, state: "removing" });
	try {
		await setState(shelf, row, "removing");
	} catch (error) {
		shelf.rows.set(keyOf(row), row);
		throw error;
	}
	return finishRemoval(shelf, row);
}

/** What remains to be done for a row that is `removing`; returns the bytes that went. */
export async function finishRemoval(shelf: Shelf, row: CopyRow): Promise<number> {
	const root = rootOf(shelf, row.tier);
	const path = copyPath(root, row);
	let freedBytes = 0;
	try {
		await withdrawCopy(shelf, row);
		// What is not ours stays; only the way to it goes.
		if (row.place === "adopted") await dropView(root, row);
		else if (existsSync(path)) {
			freedBytes = await treeBytes(path);
			const trash = join(root.trashPath, shelf.ids.short(16));
			await (root.tier.durable ? renameDurably : rename)(path, trash);
			await removeEmpty(dirname(path));
			await rm(trash, { recursive: true, force: true });
		}
	} catch (error) {
		throw fileError(error, `Removing ${row.model} from ${row.tier}`);
	}
	forgetShared(shelf, row);
	await dropRow(shelf, row);
	shelf.log.info("storage.removed", {
		model: row.model,
		revision: row.revision,
		tier: row.tier,
		freed_bytes: freedBytes,
	});
	return freedBytes;
}

/** The model's directory goes with its last revision. */
async function removeEmpty(path: string): Promise<void> {
	try {
		await rmdir(path);
	} catch (error) {
		const { code } = error as NodeJS.ErrnoException;
		if (code !== "ENOTEMPTY" && code !== "EEXIST" && code !== "ENOENT") throw error;
	}
}

function inUse(row: CopyRow, holders: readonly string[]): GswarmError {
	return new GswarmError(
		"CONFLICT",
		`${row.model}@${row.revision} on ${row.tier} is in use: ${holders.join(", ")}.`,
		{
			reason: "in_use",
			details: { device: row.tier, holders },
			hint: "Stop what uses it first (`gswarm service list`), then delete it again.",
		},
	);
}
