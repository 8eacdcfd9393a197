import { expect, test } from "bun:test";
import { join } from "node:path";
import { testTotals } from "../../scripts/check.ts";
import { tempDir } from "../support/temp-dir.ts";

/** What a run of bun test says about one file. */
async function outputOf(text: string): Promise<string> {
	using dir = tempDir();
	await Bun.write(join(dir.path, "planted.test.ts"), text);
	const { stdout, stderr } = Bun.spawnSync([process.execPath, "test", "--only-failures"], {
		cwd: dir.path,
		env: { PATH: process.env["PATH"], NO_COLOR: "1" },
	});
	return stdout.toString() + stderr.toString();
}

test("the gate counts what bun test counts: passed, failed, skipped and todo", async () => {
	const output = await outputOf(`import { test } from "bun:test";
		test("a", () => {}); test("b", () => {}); test("c", () => { throw new Error("no"); });
		test.skip("d", () => {}); test.todo("e");
		console.log(" 7 pass");`);
	expect(testTotals(output)).toEqual({ passed: 2, failed: 1, skipped: 2 });
});

test("a file that cannot be loaded is a failure", async () => {
	expect(testTotals(await outputOf(`throw new Error("no suite");`)).failed).toBeGreaterThan(0);
});

test("output without a summary counts nothing, so that the exit code decides", () => {
	expect(testTotals("bun test v1\nSegmentation fault\n")).toEqual({ passed: 0, failed: 0, skipped: 0 });
});
