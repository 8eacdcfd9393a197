/**
 * Copies that stay where another program put them. What is ours of one is its row and its view: a directory of links
 * with the model's file names, which an engine is given. The bytes are never written, never counted as the tier's, and
 * removing the copy forgets it. Whoever owns the files may change them at any time; so each use compares what they
 * are with what they were when their digests were taken, and a copy that changed is out of use until it is read again.
 */
import { existsSync } from "node:fs";
import { identityAt } from "../../platform/file-identity.ts";
import { GswarmError } from "../../schema/errors.ts";
import type { Detected } from "../../schema/detected.ts";
import type { Manifest } from "../../schema/manifest.ts";
import { type AdoptedFile, type Adoption, readAdoptions } from "./adoption-store.ts";
import type { CopyRow } from "./copy-store.ts";
import { finishRemoval, removeRow } from "./removal.ts";
import { sealManifest } from "./sealed-manifest.ts";
import { keyOf } from "./copy-index.ts";
import { type NewCopy, newRow } from "./new-row.ts";
import { adoptionOf } from "./places.ts";
import { rootOf, type Shelf, setState, tell } from "./shelf.ts";
import { clearViews, makeView, viewPath } from "./adopted-view.ts";

/** Its tier is a durable one: what is adopted outlives a restart, and so does its row. */
export interface AdoptInput extends NewCopy {
	/** Of all its files, read just now. */
	manifest: Manifest;
	/** Read from its files. */
	detected: Detected;
	adoption: Adoption;
}

/** Registers what was read; the same content there already is a success, whether it is ours or adopted. */
export function adoptFiles(shelf: Shelf, input: AdoptInput): Promise<CopyRow> {
	const root = rootOf(shelf, input.tier);
	if (!root.tier.durable) throw new Error(`${input.tier} does not keep what is adopted`);
	const sealed = sealManifest(input.manifest);
	const { contentId, text } = sealed;
	return shelf.inTurn(`${input.tier} ${input.model}`, async () => {
		const there = shelf.rows.get(keyOf(input));
		if (there?.state === "ready" && there.contentId === contentId) return there;
		if (there?.state === "ready") throw exists(there);
		if (there !== undefined) await removeRow(shelf, there);
		// What was adopted from here before, and has changed since, is what this stands for now.
		for (const row of shelf.rows.values()) if (isPredecessor(shelf, row, input)) await removeRow(shelf, row);
		await makeView(shelf, root, input, input.adoption.files);
		const { tier, model, revision, adoption } = input;
		const row = newRow(shelf, input, sealed, {
			state: "ready",
			bootId: null,
			purpose: "asked",
			place: "adopted",
			adoptedFrom: adoption.path,
		});
		const version = await shelf.writes.adopt({ row, manifest: text, adoption, detected: input.detected });
		shelf.detected.set(contentId, input.detected);
		shelf.adoptions.set(keyOf(row), adoption);
		shelf.rows.set(keyOf(row), row);
		tell(shelf, version);
		shelf.log.info("storage.adopted", { model, revision, tier, kind: adoption.kind, content_id: contentId });
		return row;
	});
}

/**
 * That the files (or the one at `path`) are what they were when they were read. The first that is not takes the copy
 * out of use.
 * @throws RESOURCE_UNAVAILABLE adopted_changed
 */
export function requireUnchanged(shelf: Shelf, row: CopyRow, path?: string): void {
	const adoption = adoptionOf(shelf, row);
	const files = path === undefined ? adoption.files : adoption.files.filter((file) => file.path === path);
	const changed = changedFile(files);
	if (changed === undefined) return;
	shelf.log.warn("storage.adopted_changed", { model: row.model, revision: row.revision, file: changed.path });
	// At once, not after the commit: nobody may be given it meanwhile.
	shelf.rows.set(keyOf(row), { ...row, state: "unavailable" });
	setState(shelf, row, "unavailable").catch((error: unknown) =>
		shelf.log.error("storage.state_not_kept", { model: row.model, error }),
	);
	throw hasChanged(row, adoption, changed);
}

/** Their identities now; what is gone has none. */
export function lookAgain(files: readonly AdoptedFile[]): AdoptedFile[] {
	return files.map((file) => ({ ...file, identity: identityAt(file.realPath) ?? "" }));
}

/** All its files were read, after they were looked at as `seen` says, and are right. */
export async function takeBack(shelf: Shelf, row: CopyRow, seen: Adoption): Promise<void> {
	const { tier, model, revision } = row;
	// One that changed while it was read has to be read again.
	if (changedFile(seen.files) !== undefined) return;
	await shelf.writes.renewAdoption({ key: { tier, model, revision }, files: seen.files });
	shelf.adoptions.set(keyOf(row), seen);
	if (row.state === "unavailable") await setState(shelf, row, "ready");
}

/**
 * At a start: views are made again where they are missing, a copy whose files changed meanwhile goes out of use, and
 * views that no row knows go. A disk that is not mounted is a change like another: what is there again and has been
 * read is ready again.
 */
export async function recoverAdopted(shelf: Shelf): Promise<void> {
	for (const { tier, model, revision, ...adoption } of readAdoptions(shelf.db)) {
		const row = shelf.rows.get(keyOf({ tier, model, revision }));
		const root = shelf.roots.get(tier);
		if (row === undefined || root === undefined) continue;
		shelf.adoptions.set(keyOf(row), adoption);
		if (row.state === "removing") {
			await finishRemoval(shelf, row);
			continue;
		}
		if (!existsSync(viewPath(root, row))) await makeView(shelf, root, row, adoption.files);
		const changed = row.state === "ready" ? changedFile(adoption.files) : undefined;
		if (changed === undefined) continue;
		shelf.log.warn("storage.adopted_changed", { model, revision, file: changed.path });
		await setState(shelf, row, "unavailable");
	}
	for (const root of shelf.roots.values()) await clearViews(shelf, root);
}

/** The first that is not what it was. */
function changedFile(files: readonly AdoptedFile[]): { path: string; isGone: boolean } | undefined {
	for (const { path, realPath, identity } of files) {
		const now = identityAt(realPath);
		if (now !== identity) return { path, isGone: now === undefined };
	}
	return undefined;
}

function isPredecessor(shelf: Shelf, row: CopyRow, { tier, model, revision, adoption }: AdoptInput): boolean {
	if (row.place !== "adopted" || row.state === "ready" || row.tier !== tier || row.model !== model)
		return false;
	return row.revision !== revision && adoptionOf(shelf, row).path === adoption.path;
}

function hasChanged(
	{ model, tier }: CopyRow,
	{ path }: Adoption,
	changed: { path: string; isGone: boolean },
): GswarmError {
	return new GswarmError(
		"RESOURCE_UNAVAILABLE",
		`${model} was adopted where it lay, and its file ${changed.path} ${changed.isGone ? "is gone" : "has changed since it was read"}; the copy on ${tier} is out of use.`,
		{
			reason: "adopted_changed",
			details: { model, device: tier, file: changed.path, path },
			hint: `\`gswarm model verify ${model}\` reads it again and takes it back when nothing is wrong; \`gswarm model adopt ${path}\` takes it as it is now.`,
		},
	);
}

function exists({ model, revision, tier, contentId }: CopyRow): GswarmError {
	return new GswarmError("CONFLICT", `${model}@${revision} is on ${tier} already with other contents.`, {
		reason: "copy_exists",
		details: { content_id: contentId },
		hint: "Adopt it under another name (--as), or delete the copy that is there.",
	});
}
