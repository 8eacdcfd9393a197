import { expect, test } from "bun:test";
import { TREE, descend, visibleCommands } from "../../src/cli/tree.ts";
import { expectGolden } from "../support/golden.ts";
import { run } from "./support/fake-world.ts";

const GROUPS = Object.entries(TREE.children ?? {})
	.filter(([, branch]) => branch.load === undefined)
	.map(([name]) => name);

test("gswarm alone, help and --help are the same text, on stdout", async () => {
	const texts = await Promise.all([[], ["help"], ["--help"], ["-h"]].map((words) => run(words)));
	for (const { code, stdout, stderr } of texts) {
		expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
		expect(stdout).toBe(texts[0]?.stdout as string);
	}
	await expectGolden("help/gswarm.txt", texts[0]?.stdout ?? "");
});

for (const name of GROUPS) {
	test(`gswarm ${name} alone is an unfinished command: its help on stderr, exit 2`, async () => {
		const alone = await run([name]);
		const asked = await run([name, "--help"]);
		expect({ code: alone.code, stdout: alone.stdout }).toEqual({ code: 2, stdout: "" });
		expect({ code: asked.code, stderr: asked.stderr }).toEqual({ code: 0, stderr: "" });
		expect(alone.stderr).toBe(asked.stdout);
		await expectGolden(`help/${name}.txt`, asked.stdout);
	});
}

for (const { path } of visibleCommands()) {
	const line = path.join(" ");

	test(`gswarm ${line} --help tells a newcomer what, how, and gives an example`, async () => {
		const { code, stdout, stderr } = await run([...path, "--help"]);
		expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
		expect(stdout).toContain(`Usage: gswarm ${line}`);
		expect(stdout).toContain("\nExamples\n");
		// Only an example or a usage line may be longer than a terminal is wide: they are copied whole.
		const prose = stdout
			.split("\n")
			.filter((text) => !text.startsWith("  gswarm") && !text.startsWith("Usage"));
		for (const text of prose) expect(text.length).toBeLessThanOrEqual(80);
		expect((await run(["help", ...path])).stdout).toBe(stdout);
		await expectGolden(`help/${path.join("-")}.txt`, stdout);
	});

	test(`the examples of gswarm ${line} are understood by its own parser`, async () => {
		const { command } = (await descend(TREE, path)?.load?.()) ?? {};
		expect(command?.examples.length).toBeGreaterThan(0);
		for (const [example] of command?.examples ?? []) {
			const words = (example.split(/ [|<>] /, 1)[0] ?? "")
				.split(" ")
				.map((word) =>
					word.replaceAll("'", "").replace("URL", "http://127.0.0.1:8000").replace("HEX", "0f".repeat(32)),
				);
			// --help is read with all the rest and then wins, so that nothing is called.
			const { code, stderr } = await run([...words, "--help"]);
			expect([example, code, stderr]).toEqual([example, 0, ""]);
		}
	});
}
