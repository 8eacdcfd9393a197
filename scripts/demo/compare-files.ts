import { readdirSync, readFileSync, statSync } from "node:fs";
import { join, relative } from "node:path";

/** Names of files of `source` that are nowhere below `dir` with the same bytes, whatever they are called there. */
export function missingFiles(source: string, dir: string): string[] {
	const wanted = filesOf(source);
	const sizes = new Set(wanted.map((file) => statSync(file).size));
	const candidates = filesOf(dir).filter((file) => sizes.has(statSync(file).size));
	const there = new Set(candidates.map(digestOf));
	return wanted.filter((file) => !there.has(digestOf(file))).map((file) => relative(source, file));
}

/** Bytes of all files of a directory. */
export function sizeOf(dir: string): number {
	return filesOf(dir).reduce((sum, file) => sum + statSync(file).size, 0);
}

function filesOf(dir: string): string[] {
	return readdirSync(dir, { recursive: true, withFileTypes: true })
		.filter((entry) => entry.isFile())
		.map((entry) => join(entry.parentPath, entry.name));
}

function digestOf(file: string): string {
	return new Bun.CryptoHasher("sha256").update(readFileSync(file)).digest("hex");
}
