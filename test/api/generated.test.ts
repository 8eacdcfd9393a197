import { expect, test } from "bun:test";
import { generatedFiles } from "../../scripts/generate.ts";

test("what is derived from the contract is fresh", async () => {
	const root = new URL("../../", import.meta.url);
	for (const [path, text] of Object.entries(generatedFiles())) {
		expect(await Bun.file(new URL(path, root)).text(), `${path}: run \`bun scripts/generate.ts\``).toBe(text);
	}
});
