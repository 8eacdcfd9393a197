/**
 * Finds what runs as a Worker, so that nobody keeps a list. In source a worker is started in one form,
 *   new Worker(new URL("./name.ts", import.meta.url))
 * In a binary `import.meta.url` is that of a chunk; there the plugin writes the worker's own address instead.
 */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import type { BunPlugin } from "bun";

/** Where Bun keeps the files of a compiled program. */
const BUNDLE_ROOT = "/$bunfs/root/";
const WORKER = /new Worker\(\s*new URL\(\s*"(\.[^"]+\.ts)",\s*import\.meta\.url\s*,?\s*\)/g;
const ANY_WORKER = /new Worker\(/g;

/** Paths of every worker file started from the `.ts` files below `sourceDir`. */
export function findWorkers(sourceDir: string): string[] {
	const found = new Set<string>();
	for (const entry of readdirSync(sourceDir, { recursive: true, withFileTypes: true })) {
		if (!entry.isFile() || !entry.name.endsWith(".ts")) continue;
		const path = join(entry.parentPath, entry.name);
		for (const [, worker = ""] of readFileSync(path, "utf8").matchAll(WORKER))
			found.add(join(dirname(path), worker));
	}
	return [...found].sort();
}

/** `source` of the file `path` with its workers' addresses inside the binary. Throws on a worker in another form. */
export function addressWorkers(source: string, path: string, root: string): string {
	const known = source.match(WORKER)?.length ?? 0;
	const all = source.match(ANY_WORKER)?.length ?? 0;
	if (known !== all)
		throw new Error(
			`${relative(root, path)}: ${all - known} of its workers are not started as new Worker(new URL("./name.ts", import.meta.url)); the binary would not find them.`,
		);
	return source.replace(WORKER, (_match, worker: string) => {
		const address = BUNDLE_ROOT + relative(root, join(dirname(path), worker));
		return `new Worker(${JSON.stringify(address)}`;
	});
}

/** Rewrites the worker addresses of the files below `sourceDir`; `root` is the common root of the entry points. */
export function workerPlugin(root: string, sourceDir: string): BunPlugin {
	return {
		name: "workers",
		setup(build) {
			build.onLoad({ filter: /\.ts$/ }, ({ path }) => {
				const source = readFileSync(path, "utf8");
				const ours = path.startsWith(`${sourceDir}/`);
				return { loader: "ts", contents: ours ? addressWorkers(source, path, root) : source };
			});
		},
	};
}
