/**
 * Makes node-llama-cpp fit into one binary. The package finds its files beside its own source text, which a
 * bundle does not have; so a few lines of it are replaced while it is bundled. Each replacement must match
 * exactly once in exactly the pinned version, otherwise the build fails and names it: a silent mismatch would
 * be a binary whose engine does not start.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { BunPlugin } from "bun";

export interface Replacement {
	/** Path inside the package. */
	file: string;
	/** For the message of a failed build. */
	purpose: string;
	/** Must occur exactly once. */
	find: string;
	/** Takes the place of `find`, or of the whole file. */
	replace: string;
	whole?: boolean;
}

export const ENGINE_PACKAGE = "node-llama-cpp";
export const ENGINE_VERSION = "3.22.1";

/** The global that src/core/service/engines/llama/main.ts sets before node-llama-cpp is loaded. */
const DIRECTORY = "globalThis.gswarmEngineDirectory";

/** Packs that node-llama-cpp tries to import; all but the one that is embedded do not exist in a binary. */
const PACKS = [
	"mac-arm64-metal",
	"mac-x64",
	"linux-x64-cuda",
	"linux-x64-cuda-ext",
	"linux-x64-vulkan",
	"linux-x64",
	"linux-arm64",
	"linux-armv7l",
	"linux-riscv64",
	"win-x64-cuda",
	"win-x64-cuda-ext",
	"win-x64-vulkan",
	"win-x64",
	"win-arm64",
] as const;

/** What is replaced in node-llama-cpp so that it finds `pack` below the engine directory. */
export function engineReplacements(pack: string): Replacement[] {
	return [
		{
			file: "dist/config.js",
			purpose: "its directory is the unpacked one",
			find: "const __dirname = path.dirname(fileURLToPath(import.meta.url));",
			replace: `const __dirname = path.join(${DIRECTORY}, "dist");`,
		},
		{
			file: "dist/config.js",
			purpose: "no setting of it is taken from the environment",
			find: "const env = envVar.from(process.env);",
			replace: "const env = envVar.from({});",
		},
		...PACKS.map((name) => ({
			file: "dist/bindings/utils/compileLLamaCpp.js",
			purpose:
				name === pack ? "the embedded libraries are the pack" : "a pack that is not embedded is absent",
			find: `import("@node-llama-cpp/${name}")`,
			replace:
				name === pack
					? `Promise.resolve({ getBinsDir: () => ({ binsDir: path.join(${DIRECTORY}, "bins"), packageVersion: ${JSON.stringify(ENGINE_VERSION)} }) })`
					: 'Promise.reject(new Error("not in this build"))',
		})),
		{
			file: "dist/utils/getModuleVersion.js",
			purpose: "its version is known, there is no package.json",
			find: "export async function getModuleVersion() {",
			replace: `export async function getModuleVersion() { return ${JSON.stringify(ENGINE_VERSION)}; }`,
			whole: true,
		},
		{
			file: "dist/bindings/utils/testBindingBinary.js",
			purpose:
				"the test starts its own file as a process, which in a bundle is the whole program; the engine is a process of its own already",
			find: "export async function testBindingBinary(bindingBinaryPath, ",
			replace: "export async function testBindingBinary() { return true; }",
			whole: true,
		},
	];
}

/** `source` with its replacements made. Throws an Error that names package, file and replacement. */
export function applyReplacements(
	file: string,
	source: string,
	replacements: readonly Replacement[],
): string {
	let text = source;
	for (const replacement of replacements) {
		const count = source.split(replacement.find).length - 1;
		if (count !== 1)
			throw new Error(
				`${ENGINE_PACKAGE} ${ENGINE_VERSION}: in ${file} the text ${JSON.stringify(replacement.find)} occurs ${count} times, wanted once (${replacement.purpose}).`,
			);
		text =
			replacement.whole === true
				? replacement.replace
				: text.replace(replacement.find, () => replacement.replace);
	}
	return text;
}

/** The patched text of every file, by its path inside the package. Throws when a version or a text differs. */
export function patchPackage(packageDir: string, replacements: readonly Replacement[]): Map<string, string> {
	const { version } = JSON.parse(readFileSync(join(packageDir, "package.json"), "utf8")) as {
		version: string;
	};
	if (version !== ENGINE_VERSION)
		throw new Error(
			`${ENGINE_PACKAGE} is ${version}, the build knows ${ENGINE_VERSION}: check the replacements in scripts/engine-plugin.ts against the new version, then change ENGINE_VERSION.`,
		);
	const files = [...new Set(replacements.map((replacement) => replacement.file))];
	return new Map(
		files.map((file) => [
			file,
			applyReplacements(
				file,
				readFileSync(join(packageDir, file), "utf8"),
				replacements.filter((replacement) => replacement.file === file),
			),
		]),
	);
}

/** Bundles the patched package and, in place of libraries.ts, the list of embedded files. */
export function embeddedEnginePlugin(options: {
	packageDir: string;
	patched: ReadonlyMap<string, string>;
	librariesModule: string;
}): BunPlugin {
	const byPath = new Map([...options.patched].map(([file, text]) => [join(options.packageDir, file), text]));
	return {
		name: "embedded-engine",
		setup(build) {
			build.onLoad({ filter: /[\\/]node-llama-cpp[\\/]dist[\\/].*\.js$/ }, ({ path }) => ({
				loader: "js",
				contents: byPath.get(path) ?? readFileSync(path, "utf8"),
			}));
			replaceLibraries(build, options.librariesModule);
		},
	};
}

/** Leaves node-llama-cpp out; `gswarm __engine` says so. */
export function absentEnginePlugin(target: string): BunPlugin {
	return {
		name: "absent-engine",
		setup(build) {
			build.onResolve({ filter: /^node-llama-cpp$/ }, () => ({
				path: "node-llama-cpp",
				namespace: "absent",
			}));
			build.onLoad({ filter: /.*/, namespace: "absent" }, () => ({ loader: "js", contents: "export {};" }));
			replaceLibraries(
				build,
				`export const engineLibraries = { kind: "absent", target: ${JSON.stringify(target)} };`,
			);
		},
	};
}

function replaceLibraries(build: Bun.PluginBuilder, contents: string): void {
	build.onLoad({ filter: /[\\/]engines[\\/]llama[\\/]libraries\.ts$/ }, () => ({ loader: "ts", contents }));
}
