/** Compresses the engine's native libraries into assets for the binary; unchanged ones come from the cache. */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface AssetSource {
	/** Path below the engine directory at run time. */
	path: string;
	/** The file to embed. */
	from: string;
}

export interface Assets {
	/** Text that takes the place of libraries.ts. */
	librariesModule: string;
	sizeBytes: number;
	compressedBytes: number;
}

/** The files that node-llama-cpp reads at run time: the pack's libraries and one small JSON file. */
export function engineFiles(packageDir: string, packDir: string): AssetSource[] {
	const bins = readdirSync(join(packDir, "bins"), { recursive: true, withFileTypes: true })
		.filter((entry) => entry.isFile())
		.map((entry) => join(entry.parentPath, entry.name).slice(packDir.length + 1))
		.sort();
	return [
		{ path: "llama/binariesGithubRelease.json", from: join(packageDir, "llama/binariesGithubRelease.json") },
		...bins.map((path) => ({ path, from: join(packDir, path) })),
	];
}

/** Compresses `files` into `cacheDir`, named by content, and writes the module that imports them. */
export async function makeAssets(
	files: readonly AssetSource[],
	cacheDir: string,
	version: string,
): Promise<Assets> {
	mkdirSync(cacheDir, { recursive: true });
	const all = new Bun.CryptoHasher("sha256");
	const imports: string[] = [];
	const entries: string[] = [];
	let sizeBytes = 0;
	let compressedBytes = 0;
	for (const [index, { path, from }] of files.entries()) {
		const content = readFileSync(from);
		const hash = new Bun.CryptoHasher("sha256").update(content).digest("hex");
		all.update(`${path}\0${hash}\0`);
		const asset = join(cacheDir, `${hash}.zst`);
		if (!existsSync(asset)) {
			writeFileSync(`${asset}.tmp`, await Bun.zstdCompress(content, { level: LEVEL }));
			renameSync(`${asset}.tmp`, asset);
		}
		sizeBytes += content.length;
		compressedBytes += Bun.file(asset).size;
		imports.push(`import asset${index} from ${JSON.stringify(asset)} with { type: "file" };`);
		entries.push(`{ path: ${JSON.stringify(path)}, sizeBytes: ${content.length}, asset: asset${index} }`);
	}
	const hash = all.digest("hex").slice(0, 12);
	const value = `{ kind: "embedded", version: ${JSON.stringify(version)}, hash: "${hash}", files: [${entries.join(", ")}] }`;
	return {
		librariesModule: `${imports.join("\n")}\nexport const engineLibraries = ${value};\n`,
		sizeBytes,
		compressedBytes,
	};
}

/** 19 saves another 3 % and takes three times as long. */
const LEVEL = 15;
