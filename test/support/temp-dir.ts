import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface TempDir {
	path: string;
	[Symbol.dispose](): void;
}

/** A new directory that goes with all its contents: `using dir = tempDir()`. */
export function tempDir(parent: string = tmpdir()): TempDir {
	const path = mkdtempSync(join(parent, "gswarm-test-"));
	return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}
