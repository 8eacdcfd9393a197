/**
 * Compiles gswarm into one file: bun scripts/build.ts [--no-engine] [--target bun-linux-x64] [--outfile PATH]
 * The embedded engine is included where its libraries are installed for the target; `--no-engine` leaves it out.
 */
import { existsSync, mkdirSync, renameSync, rmSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import type { BunPlugin } from "bun";
import { engineFiles, makeAssets } from "./engine-assets.ts";
import {
	absentEnginePlugin,
	ENGINE_PACKAGE,
	ENGINE_VERSION,
	embeddedEnginePlugin,
	engineReplacements,
	patchPackage,
} from "./engine-plugin.ts";
import { findWorkers, workerPlugin } from "./worker-plugin.ts";

const ROOT = resolve(import.meta.dir, "..");
const SOURCE = join(ROOT, "src");

export interface BuildOptions {
	/** Bun's name for it, e.g. "bun-linux-x64-musl"; `undefined`: this machine. */
	target: string | undefined;
	engine: boolean;
	outfile: string;
}

/** Builds the binary at `outfile`, which appears whole or not at all. */
export async function build(options: BuildOptions): Promise<void> {
	const target = options.target ?? hostTarget();
	const plugin = await enginePlugin(target, options.engine);
	const outfile = resolve(ROOT, options.outfile);
	// Bun writes the compiled file beside its name, so staging is in the same folder.
	const staging = `${outfile}.${process.pid}.tmp`;
	mkdirSync(dirname(outfile), { recursive: true });
	try {
		const result = await Bun.build({
			entrypoints: [join(ROOT, "bin/gswarm.ts"), ...findWorkers(SOURCE)],
			target: "bun",
			format: "esm",
			minify: true,
			bytecode: true,
			// A command then reads its own chunks only: `--version` takes a third of the time.
			splitting: true,
			root: ROOT,
			define: { GSWARM_COMMIT: JSON.stringify(commitOf(ROOT)) ?? "undefined" },
			plugins: [plugin, workerPlugin(ROOT, SOURCE)],
			compile: {
				outfile: staging,
				autoloadBunfig: false,
				autoloadDotenv: false,
				...(options.target === undefined ? {} : { target: options.target as Bun.Build.CompileTarget }),
			},
		});
		if (!result.success) throw new AggregateError(result.logs, "the bundle cannot be made");
		renameSync(staging, outfile);
	} finally {
		rmSync(staging, { force: true });
	}
	console.error(`${outfile}: ${(statSync(outfile).size / 1e6).toFixed(1)} MB, ${target}`);
}

/** The library pack of a target; musl, macOS and Windows builds come without engine. */
export function packOf(target: string): string | undefined {
	const match = /^bun-linux-(x64|arm64)(-baseline|-modern)?$/.exec(target);
	return match === null ? undefined : `linux-${match[1]}`;
}

async function enginePlugin(target: string, wanted: boolean): Promise<BunPlugin> {
	const pack = packOf(target);
	const packDir = pack === undefined ? undefined : join(ROOT, "node_modules/@node-llama-cpp", pack);
	if (!wanted || pack === undefined || packDir === undefined || !existsSync(join(packDir, "bins"))) {
		console.error(`without embedded engine: ${wanted ? `no libraries for ${target}` : "--no-engine"}`);
		return absentEnginePlugin(target);
	}
	const packageDir = join(ROOT, "node_modules", ENGINE_PACKAGE);
	const patched = patchPackage(packageDir, engineReplacements(pack));
	const assets = await makeAssets(
		engineFiles(packageDir, packDir),
		join(ROOT, "dist/.build/assets"),
		ENGINE_VERSION,
	);
	console.error(
		`engine ${ENGINE_VERSION} (${pack}): ${(assets.sizeBytes / 1e6).toFixed(1)} MB of libraries in ${(assets.compressedBytes / 1e6).toFixed(1)} MB`,
	);
	return embeddedEnginePlugin({ packageDir, patched, librariesModule: assets.librariesModule });
}

function hostTarget(): string {
	const musl =
		process.platform === "linux" &&
		existsSync(`/lib/ld-musl-${process.arch === "x64" ? "x86_64" : "aarch64"}.so.1`);
	return `bun-${process.platform}-${process.arch}${musl ? "-musl" : ""}`;
}

/** Short hash of the checked-out commit; `undefined` in a tree without git. */
function commitOf(root: string): string | undefined {
	const git = Bun.spawnSync(["git", "-C", root, "rev-parse", "--short=12", "HEAD"], { stderr: "ignore" });
	return git.success ? git.stdout.toString().trim() : undefined;
}

if (import.meta.main) {
	const { values } = parseArgs({
		options: {
			"no-engine": { type: "boolean", default: false },
			target: { type: "string" },
			outfile: { type: "string", default: "dist/gswarm" },
		},
	});
	try {
		await build({ target: values.target, engine: !values["no-engine"], outfile: values.outfile });
	} catch (error) {
		console.error(
			error instanceof AggregateError
				? [error.message, ...error.errors.map(String)].join("\n")
				: String(error),
		);
		process.exit(1);
	}
}
