/**
 * What a start does before anything is served: brings rows and directories to one story. Never in the direction
 * "the row says ready but the bytes are not there".
 */
import { existsSync, readdirSync } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { type CopyRow, readCopyRows, readManifest, readStagingRows, readStoreIds } from "./copy-store.ts";
import { recoverAdopted } from "./adopted.ts";
import { finishRemoval } from "./removal.ts";
import { keyOf } from "./copy-index.ts";
import { dropRow, type Shelf, setState } from "./shelf.ts";
import { noteShared } from "./shared-files.ts";
import { sizesMatch } from "./staged-tree.ts";
import { checkMarker, copyPath, type TierRoot } from "./tier-root.ts";

/** Loads the rows of the tiers that are open. Rows of a tier that is not configured now stay in the database, unseen. */
export async function recover(shelf: Shelf): Promise<void> {
	const rows = readCopyRows(shelf.db).filter((row) => shelf.roots.has(row.tier));
	const storeIds = readStoreIds(shelf.db);
	for (const root of shelf.roots.values()) {
		if (!root.tier.durable) continue;
		const { name } = root.tier;
		const knownId = storeIds.get(name);
		const hasCopies = rows.some((row) => row.tier === name);
		const storeId = await checkMarker(root, { ids: shelf.ids, knownId, hasCopies });
		if (storeId !== knownId) await shelf.writes.rememberTier({ tier: name, storeId });
	}
	for (const row of rows) shelf.rows.set(keyOf(row), row);
	for (const row of rows) if (row.place === "store") await recoverCopy(shelf, row);
	await recoverAdopted(shelf);
	for (const root of shelf.roots.values()) {
		await clearUnknown(shelf, root);
		await emptyTrash(root);
	}
	await recoverStaging(shelf);
}

async function recoverCopy(shelf: Shelf, row: CopyRow): Promise<void> {
	const root = shelf.roots.get(row.tier);
	if (root === undefined) return;
	const path = copyPath(root, row);
	const anotherBoot = !root.tier.durable && (row.bootId === null || row.bootId !== shelf.bootId);
	if (anotherBoot || !existsSync(path)) {
		shelf.log.warn("storage.copy_gone", {
			model: row.model,
			revision: row.revision,
			tier: row.tier,
			state: row.state,
		});
		await dropRow(shelf, row);
		return;
	}
	if (row.state === "removing") {
		await finishRemoval(shelf, row);
		return;
	}
	const manifest = readManifest(shelf.db, row.contentId);
	const whole = manifest !== undefined && sizesMatch(path, manifest);
	if (manifest !== undefined) noteShared(shelf, root, row, manifest);
	// The contents were synced before the row was written, so a directory in place is a finished rename.
	if (row.state === "publishing" && whole) await setState(shelf, row, "ready");
	else if (!whole && row.state !== "unavailable") {
		shelf.log.error("storage.copy_damaged", { model: row.model, revision: row.revision, tier: row.tier });
		await setState(shelf, row, "unavailable");
	}
}

/**
 * Directories that no row knows. On a volatile tier they are what another boot or a lost database left, and go.
 * On a disk they are only reported: models that outlived their database are not ours to destroy; publishing the same
 * model replaces one.
 */
async function clearUnknown(shelf: Shelf, root: TierRoot): Promise<void> {
	const known = new Set<string>();
	for (const row of shelf.rows.values()) if (row.tier === root.tier.name) known.add(copyPath(root, row));
	for (const model of readdirSync(root.modelsPath)) {
		for (const revision of readdirSync(join(root.modelsPath, model))) {
			const path = join(root.modelsPath, model, revision);
			if (known.has(path)) continue;
			if (root.tier.durable)
				shelf.log.warn("storage.unknown_directory", { tier: root.tier.name, model, revision });
			else await rename(path, join(root.trashPath, shelf.ids.short(16)));
		}
	}
}

async function emptyTrash(root: TierRoot): Promise<void> {
	for (const name of readdirSync(root.trashPath)) {
		await rm(join(root.trashPath, name), { recursive: true, force: true });
	}
}

/** Staging and its rows go together; of another boot's tmpfs nothing is left to resume. */
async function recoverStaging(shelf: Shelf): Promise<void> {
	for (const row of readStagingRows(shelf.db)) {
		const root = shelf.roots.get(row.tier);
		if (root === undefined) continue;
		const usable = root.tier.durable || (row.bootId !== null && row.bootId === shelf.bootId);
		if (usable && existsSync(join(root.stagingRoot, row.transferId))) shelf.staging.set(row.transferId, row);
		else await shelf.writes.closeStaging(row.transferId);
	}
	for (const root of shelf.roots.values()) {
		for (const name of readdirSync(root.stagingRoot)) {
			if (shelf.staging.get(name)?.tier === root.tier.name) continue;
			await rm(join(root.stagingRoot, name), { recursive: true, force: true });
		}
	}
}
