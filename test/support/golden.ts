import { expect } from "bun:test";
import { mkdirSync } from "node:fs";
import { dirname } from "node:path";

/**
 * Compares `text` with `test/golden/<name>`. `UPDATE_GOLDEN=1 bun test` writes the files anew; the diff of the
 * commit then shows what changed for people who use it.
 */
export async function expectGolden(name: string, text: string): Promise<void> {
	const path = new URL(`../golden/${name}`, import.meta.url).pathname;
	if (process.env.UPDATE_GOLDEN) {
		mkdirSync(dirname(path), { recursive: true });
		await Bun.write(path, text);
		return;
	}
	const file = Bun.file(path);
	if (!(await file.exists())) throw new Error(`${path} is missing: UPDATE_GOLDEN=1 bun test writes it`);
	expect(text).toBe(await file.text());
}
