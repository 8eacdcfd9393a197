import { describe, expect, test } from "bun:test";
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { packOf } from "../../scripts/build.ts";
import {
	applyReplacements,
	ENGINE_VERSION,
	engineReplacements,
	patchPackage,
} from "../../scripts/engine-plugin.ts";
import { addressWorkers, findWorkers, workerPlugin } from "../../scripts/worker-plugin.ts";
import { tempDir } from "../support/temp-dir.ts";

const PACKAGE = join(import.meta.dir, "../../node_modules/node-llama-cpp");
const REPLACEMENTS = engineReplacements("linux-x64");

/** A copy of the files of node-llama-cpp that the build patches. */
function copyPackage(to: string): void {
	for (const file of ["package.json", ...new Set(REPLACEMENTS.map((replacement) => replacement.file))]) {
		mkdirSync(join(to, file, ".."), { recursive: true });
		cpSync(join(PACKAGE, file), join(to, file));
	}
}

describe("the build's replacements in node-llama-cpp", () => {
	test("match the installed package", () => {
		const patched = patchPackage(PACKAGE, REPLACEMENTS);
		expect(patched.size).toBe(4);
		const text = [...patched.values()].join("");
		expect(text).not.toContain('import("@node-llama-cpp/');
		expect(text).not.toContain("from(process.env)");
	});

	test.each(REPLACEMENTS.map((replacement) => [replacement.find, replacement] as const))(
		"fail the build when %p has changed",
		(_find, replacement) => {
			using dir = tempDir();
			copyPackage(dir.path);
			const path = join(dir.path, replacement.file);
			writeFileSync(path, readFileSync(path, "utf8").replace(replacement.find, "// changed upstream"));
			expect(() => patchPackage(dir.path, REPLACEMENTS)).toThrow(
				`node-llama-cpp ${ENGINE_VERSION}: in ${replacement.file} the text ${JSON.stringify(replacement.find)} occurs 0 times, wanted once`,
			);
		},
	);

	test("fail the build when a text occurs twice", () => {
		const [first] = REPLACEMENTS;
		if (first === undefined) throw new Error("no replacements");
		expect(() => applyReplacements(first.file, `${first.find}\n${first.find}`, [first])).toThrow(
			"occurs 2 times",
		);
	});

	test("fail the build under another version of the package", () => {
		using dir = tempDir();
		copyPackage(dir.path);
		const path = join(dir.path, "package.json");
		writeFileSync(path, readFileSync(path, "utf8").replace(ENGINE_VERSION, "3.99.0"));
		expect(() => patchPackage(dir.path, REPLACEMENTS)).toThrow(
			`node-llama-cpp is 3.99.0, the build knows ${ENGINE_VERSION}`,
		);
	});

	test("cover linux with glibc only", () => {
		expect(packOf("bun-linux-x64")).toBe("linux-x64");
		expect(packOf("bun-linux-x64-baseline")).toBe("linux-x64");
		expect(packOf("bun-linux-arm64")).toBe("linux-arm64");
		expect(packOf("bun-linux-x64-musl")).toBeUndefined();
		expect(packOf("bun-darwin-arm64")).toBeUndefined();
	});
});

describe("workers in the binary", () => {
	test("are found and started from a nested chunk of a compiled program", async () => {
		using dir = tempDir();
		const write = (file: string, text: string) => {
			mkdirSync(join(dir.path, file, ".."), { recursive: true });
			writeFileSync(join(dir.path, file), text);
		};
		write("bin/main.ts", 'const { run } = await import("../src/deep/run.ts"); run();');
		write(
			"src/deep/run.ts",
			'export function run() { const worker = new Worker(new URL("./echo.ts", import.meta.url)); worker.onmessage = (e) => { console.log(e.data); worker.terminate(); }; worker.postMessage("hello"); }',
		);
		write("src/deep/echo.ts", "self.onmessage = (e: MessageEvent) => self.postMessage(`worker: ${e.data}`);");
		const source = join(dir.path, "src");
		const workers = findWorkers(source);
		expect(workers).toEqual([join(source, "deep/echo.ts")]);
		const binary = join(dir.path, "binary");
		await Bun.build({
			entrypoints: [join(dir.path, "bin/main.ts"), ...workers],
			root: dir.path,
			target: "bun",
			format: "esm",
			minify: true,
			bytecode: true,
			splitting: true,
			plugins: [workerPlugin(dir.path, source)],
			compile: { outfile: binary, autoloadBunfig: false, autoloadDotenv: false },
		});
		const run = Bun.spawnSync([binary], { cwd: "/", env: {} });
		expect(run.stdout.toString()).toBe("worker: hello\n");
	}, 60_000);

	test("in a form that the build cannot address fail it", () => {
		expect(() => addressWorkers('new Worker("./echo.ts")', "/p/src/a.ts", "/p")).toThrow(
			"src/a.ts: 1 of its workers",
		);
	});
});
