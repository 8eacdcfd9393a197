/** The view of an adopted copy: a directory of ours with a link for each file, under the name it has in the model. */
import { existsSync, readdirSync } from "node:fs";
import { mkdir, rename, rm, rmdir, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileError } from "../../platform/durable-file.ts";
import { joinSafe, parseSafePath } from "../../platform/safe-path.ts";
import { modelDirName } from "../../schema/names.ts";
import type { AdoptedFile } from "./adoption-store.ts";
import type { CopyKey } from "./copy-store.ts";
import type { Shelf } from "./shelf.ts";
import { DIRECTORY_MODE, type TierRoot } from "./tier-root.ts";

/** The directory of links that an engine is given. */
export function viewPath({ tier }: TierRoot, { model, revision }: Omit<CopyKey, "tier">): string {
	return join(tier.root, "adopted", modelDirName(model), `@${revision}`);
}

/** The copy is no longer ours to give away; the files stay. */
export async function dropView(root: TierRoot, key: Omit<CopyKey, "tier">): Promise<void> {
	const path = viewPath(root, key);
	await rm(path, { recursive: true, force: true });
	try {
		await rmdir(dirname(path));
	} catch (error) {
		const { code } = error as NodeJS.ErrnoException;
		if (code !== "ENOTEMPTY" && code !== "EEXIST" && code !== "ENOENT") throw error;
	}
}

export async function makeView(
	shelf: Shelf,
	root: TierRoot,
	key: Omit<CopyKey, "tier">,
	files: readonly AdoptedFile[],
): Promise<void> {
	const path = viewPath(root, key);
	const staged = join(root.stagingRoot, `view-${shelf.ids.short(16)}`);
	try {
		for (const file of files) {
			const link = joinSafe(staged, parseSafePath(file.path));
			await mkdir(dirname(link), { recursive: true, mode: DIRECTORY_MODE });
			await symlink(file.realPath, link);
		}
		await mkdir(dirname(path), { recursive: true, mode: DIRECTORY_MODE });
		await rm(path, { recursive: true, force: true });
		await rename(staged, path);
	} catch (error) {
		await rm(staged, { recursive: true, force: true });
		throw fileError(error, `Making the view of ${key.model}`);
	}
}

/** Views that no row knows go. */
export async function clearViews(shelf: Shelf, root: TierRoot): Promise<void> {
	const views = join(root.tier.root, "adopted");
	if (!existsSync(views)) return;
	const known = new Set([...shelf.rows.values()].map((row) => viewPath(root, row)));
	for (const model of readdirSync(views)) {
		for (const revision of readdirSync(join(views, model))) {
			const path = join(views, model, revision);
			if (!known.has(path)) await rm(path, { recursive: true, force: true });
		}
	}
}
