/**
 * Staging becomes a copy. The order is what makes it safe: contents to the device, row `publishing`, rename, parent
 * to the device, row `ready`. A crash before the rename leaves a row without a directory (undone at the next start),
 * one after it a whole directory with that row (completed at the next start).
 */
import { existsSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileError, renameDurably, syncPath } from "../../platform/durable-file.ts";
import { GswarmError } from "../../schema/errors.ts";
import type { Detected } from "../../schema/detected.ts";
import type { Manifest } from "../../schema/manifest.ts";
import type { CopyPurpose } from "../../schema/model.ts";
import type { CopyRow } from "./copy-store.ts";
import { finishRemoval, removeRow } from "./removal.ts";
import { type SealedManifest, sealManifest } from "./sealed-manifest.ts";
import { keyOf } from "./copy-index.ts";
import { type NewCopy, newRow } from "./new-row.ts";
import { dropRow, rootOf, type Shelf, setState } from "./shelf.ts";
import { noteShared, shareStaged } from "./shared-files.ts";
import { checkTree, settleTree } from "./staged-tree.ts";
import { copyPath, DIRECTORY_MODE, stagingRootOf, type TierRoot } from "./tier-root.ts";

export interface PublishInput extends NewCopy {
	transferId: string;
	manifest: Manifest;
	/** What was read from the files; left out: nobody has looked, or it is known of this content. */
	detected?: Detected | undefined;
	/** Default: somebody asked for it. */
	purpose?: CopyPurpose | undefined;
}

/** Makes the staged files the copy, or finds that the same copy is there. */
export function publishStaging(shelf: Shelf, input: PublishInput): Promise<CopyRow> {
	const root = rootOf(shelf, input.tier);
	const sealed = sealManifest(input.manifest);
	return shelf.inTurn(`${input.tier} ${input.model}`, async () => {
		const there = await clearTheWay(shelf, input, sealed.contentId);
		if (there === undefined) return publishNew(shelf, root, input, sealed);
		await dropStaging(shelf, input.transferId);
		return there;
	});
}

/** Removes what a transfer has staged, and its row. */
export async function dropStaging(shelf: Shelf, transferId: string): Promise<void> {
	const row = shelf.staging.get(transferId);
	if (row === undefined) return;
	const root = shelf.roots.get(row.tier);
	if (root !== undefined) await rm(stagingRootOf(root, transferId), { recursive: true, force: true });
	await shelf.writes.closeStaging(transferId);
	shelf.staging.delete(transferId);
}

/** The same copy if it is there; another one is a conflict; a damaged or half-removed one goes first. */
async function clearTheWay(
	shelf: Shelf,
	input: PublishInput,
	contentId: string,
): Promise<CopyRow | undefined> {
	const row = shelf.rows.get(keyOf(input));
	if (row === undefined) return undefined;
	if (row.state === "ready" && row.contentId === contentId) return row;
	if (row.state === "ready") throw exists(row, contentId);
	if (
		row.state === "publishing" &&
		row.contentId === contentId &&
		existsSync(copyPath(rootOf(shelf, row.tier), row))
	) {
		// Renamed, but the last commit failed: it is complete but for that.
		return setState(shelf, row, "ready");
	}
	if (row.state === "removing") await finishRemoval(shelf, row);
	else await removeRow(shelf, row);
	return undefined;
}

async function publishNew(
	shelf: Shelf,
	root: TierRoot,
	input: PublishInput,
	sealed: SealedManifest,
): Promise<CopyRow> {
	const staged = join(stagingRootOf(root, input.transferId), "model");
	const target = copyPath(root, input);
	const { durable } = root.tier;
	const { tier, model, revision } = input;
	const { manifest, contentId, text } = sealed;
	const row = newRow(shelf, input, sealed, {
		state: "publishing",
		bootId: durable ? null : shelf.bootId,
		purpose: input.purpose ?? "asked",
		place: "store",
		adoptedFrom: null,
	});
	try {
		const tree = await checkTree(staged, manifest);
		await shareStaged(shelf, root, staged, manifest);
		await settleTree(staged, tree, {
			durable,
			syncFilesystem: shelf.syncFilesystem,
		});
		await shelf.writes.beginPublish({ row, manifest: text, detected: input.detected });
		if (input.detected !== undefined) shelf.detected.set(contentId, input.detected);
		shelf.rows.set(keyOf(row), row);
		await mkdir(dirname(target), { recursive: true, mode: DIRECTORY_MODE });
		if (durable) await syncPath(root.modelsPath);
		// A directory without a row is nothing that we promised to anybody.
		if (existsSync(target)) await rename(target, join(root.trashPath, shelf.ids.short(16)));
		await (durable ? renameDurably : rename)(staged, target);
	} catch (error) {
		await undo(shelf, root, row, staged);
		throw fileError(error, `Publishing ${model} on ${tier}`);
	}
	noteShared(shelf, root, row, manifest);
	const ready = await setState(shelf, row, "ready");
	await dropStaging(shelf, input.transferId);
	shelf.log.info("storage.published", {
		model,
		revision,
		tier,
		content_id: contentId,
		size_bytes: row.sizeBytes,
	});
	return ready;
}

/** A publication that failed leaves neither row nor directory; staging that was not renamed stays for another try. */
async function undo(shelf: Shelf, root: TierRoot, row: CopyRow, staged: string): Promise<void> {
	if (!shelf.rows.has(keyOf(row))) return;
	if (!existsSync(staged)) {
		const trash = join(root.trashPath, shelf.ids.short(16));
		await rename(copyPath(root, row), trash);
		await rm(trash, { recursive: true, force: true });
	}
	await dropRow(shelf, row);
}

function exists(row: CopyRow, contentId: string): GswarmError {
	return new GswarmError(
		"CONFLICT",
		`${row.model}@${row.revision} is on ${row.tier} already with other contents (${row.contentId.slice(0, 12)}, wanted ${contentId.slice(0, 12)}).`,
		{
			reason: "copy_exists",
			details: { content_id: row.contentId },
			hint: "Use another revision or name, or delete the copy that is there.",
		},
	);
}
