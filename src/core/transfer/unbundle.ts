/** An archive that is a bundle: its files must be exactly those of its manifest, and become the model's. */
import { readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { BUNDLE_ENTRY, BUNDLE_FOLDER } from "../../schema/bundle-form.ts";
import type { ManifestFile } from "../../schema/manifest.ts";
import { badBundle, parseBundle } from "../source/source.ts";

const MAX_BUNDLE_JSON_BYTES = 32 * 1024 * 1024;

/**
 * Leaves in the directory what the model is, and tells its files; of another archive as they are.
 * @throws INVALID_REQUEST bad_bundle
 */
export async function unbundle(directory: string, found: ManifestFile[]): Promise<ManifestFile[]> {
	const entry = found.find(({ path }) => path === BUNDLE_ENTRY);
	if (entry === undefined) return found;
	if (entry.size_bytes > MAX_BUNDLE_JSON_BYTES)
		throw badBundle(`its description has ${entry.size_bytes} bytes`);
	const { manifest } = parseBundle(await readFile(join(directory, BUNDLE_ENTRY)));
	const prefix = `${BUNDLE_FOLDER}/`;
	const files = found
		.filter((file) => file !== entry)
		.map((file) => {
			if (!file.path.startsWith(prefix))
				throw badBundle(`${JSON.stringify(file.path.slice(0, 200))} is beside its files`);
			return { ...file, path: file.path.slice(prefix.length) };
		});
	const wanted = new Map(manifest.files.map((file) => [file.path, file]));
	for (const file of files) {
		const same = wanted.get(file.path);
		if (same?.sha256 !== file.sha256 || same.size_bytes !== file.size_bytes)
			throw badBundle(`${JSON.stringify(file.path.slice(0, 200))} is not what its manifest says`);
	}
	if (files.length !== wanted.size) throw badBundle(`it has ${files.length} of ${wanted.size} files`);
	await rm(join(directory, BUNDLE_ENTRY));
	const inner = `${directory}.inner`;
	const outer = `${directory}.outer`;
	const isThere = await stat(join(directory, BUNDLE_FOLDER)).catch(() => undefined);
	if (isThere === undefined) return files;
	await rename(join(directory, BUNDLE_FOLDER), inner);
	await rename(directory, outer);
	await rename(inner, directory);
	await rm(outer, { recursive: true, force: true });
	return files;
}
