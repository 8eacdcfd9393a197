import { expect, test } from "bun:test";
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";

const CLI = new URL("../../src/cli", import.meta.url).pathname;
const transpiler = new Bun.Transpiler({ loader: "ts" });

/** Packages that are loaded with a file: those of its static imports, and theirs. Types cost nothing and do not count. */
function packagesLoadedBy(file: string, seen = new Set<string>()): Set<string> {
	const packages = new Set<string>();
	if (seen.has(file) || !file.endsWith(".ts")) return packages;
	seen.add(file);
	for (const { path, kind } of transpiler.scanImports(readFileSync(file, "utf8"))) {
		if (kind !== "import-statement" || path.startsWith("node:")) continue;
		if (!path.startsWith(".")) packages.add(path);
		else for (const name of packagesLoadedBy(resolve(dirname(file), path), seen)) packages.add(name);
	}
	return packages;
}

test("the entry loads no package, so that --version and a mistyped command cost nothing", () => {
	expect([...packagesLoadedBy(join(CLI, "root.ts"))]).toEqual([]);
	expect([...packagesLoadedBy(join(CLI, "help.ts"))]).toEqual([]);
});

test("no command loads a schema library, a client or a spinner before it needs one", () => {
	const commands = readdirSync(join(CLI, "commands"));
	expect(commands.length).toBeGreaterThan(20);
	for (const name of commands) {
		const loaded = packagesLoadedBy(join(CLI, "commands", name));
		expect([name, [...loaded].filter((one) => one !== "citty")]).toEqual([name, []]);
	}
	expect([...packagesLoadedBy(join(CLI, "context.ts"))]).toEqual(["consola/core"]);
});

test("the scan sees what it must not find", () => {
	expect([...packagesLoadedBy(join(CLI, "../api/contract.ts"))]).toContain("zod");
});
