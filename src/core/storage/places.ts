/** Where the files of a copy are, whoever put them there. */
import { joinSafe, type SafePath } from "../../platform/safe-path.ts";
import type { Adoption } from "./adoption-store.ts";
import { keyOf } from "./copy-index.ts";
import type { CopyRow } from "./copy-store.ts";
import { rootOf, type Shelf } from "./shelf.ts";
import { copyPath } from "./tier-root.ts";

export function fileAt(shelf: Shelf, row: CopyRow): (path: SafePath) => string {
	if (row.place === "adopted") {
		const adoption = adoptionOf(shelf, row);
		return (path) => adoptedPath(adoption, path);
	}
	const directory = copyPath(rootOf(shelf, row.tier), row);
	return (path) => joinSafe(directory, path);
}

export function adoptionOf(shelf: Shelf, row: CopyRow): Adoption {
	const adoption = shelf.adoptions.get(keyOf(row));
	if (adoption === undefined) throw new Error(`where ${row.model} was adopted from is not known`);
	return adoption;
}

/** The file of an adopted copy with this path in the model. */
function adoptedPath(adoption: Adoption, path: string): string {
	const file = adoption.files.find((one) => one.path === path);
	if (file === undefined) throw new Error(`${path} is no file of what was adopted`);
	return file.realPath;
}
