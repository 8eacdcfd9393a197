/** Stores of other programs, laid out as they lay them out. */
import { createHash } from "node:crypto";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { sha256Hex } from "../../src/platform/hash.ts";

type Content = Record<string, Uint8Array | string>;

/** Files from here on are stored by sha256, as the hub's large files are; smaller ones by git's sha1. */
const LARGE_BYTES = 1000;

/**
 * A snapshot in a cache of Hugging Face's libraries, with `refs` that lead to it; the commit is 40 times the digit.
 * Answers the snapshot's directory.
 */
export function hubSnapshot(
	cache: string,
	repository: string,
	digit: string,
	files: Content,
	refs: readonly string[] = ["main"],
): string {
	const root = join(cache, `models--${repository.replace("/", "--")}`);
	const commit = digit.repeat(40);
	const snapshot = join(root, "snapshots", commit);
	mkdirSync(join(root, "blobs"), { recursive: true });
	for (const [path, content] of Object.entries(files)) {
		const bytes = Buffer.from(content as string);
		const blob = join(root, "blobs", bytes.length < LARGE_BYTES ? gitSha1(bytes) : sha256Hex(bytes));
		const link = join(snapshot, path);
		mkdirSync(dirname(link), { recursive: true });
		writeFileSync(blob, bytes);
		symlinkSync(relative(dirname(link), blob), link);
	}
	for (const ref of refs) {
		const path = join(root, "refs", ref);
		mkdirSync(dirname(path), { recursive: true });
		writeFileSync(path, commit);
	}
	return snapshot;
}

const OLLAMA_TYPES: Record<string, string> = {
	model: "application/vnd.ollama.image.model",
	template: "application/vnd.ollama.image.template",
	params: "application/vnd.ollama.image.params",
};

/** A model in an Ollama store: layers by kind. Answers the manifest's path. */
export function ollamaModel(store: string, name: string, tag: string, layers: Content): string {
	mkdirSync(join(store, "blobs"), { recursive: true });
	const blob = (content: Uint8Array | string, mediaType: string) => {
		const bytes = Buffer.from(content as string);
		const hex = sha256Hex(bytes);
		writeFileSync(join(store, "blobs", `sha256-${hex}`), bytes);
		return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
	};
	const manifest = {
		schemaVersion: 2,
		mediaType: "application/vnd.docker.distribution.manifest.v2+json",
		config: blob('{"model_format":"gguf"}', "application/vnd.docker.container.image.v1+json"),
		layers: Object.entries(layers).map(([kind, content]) => blob(content, OLLAMA_TYPES[kind] ?? kind)),
	};
	const path = join(store, "manifests/registry.ollama.ai/library", name, tag);
	mkdirSync(dirname(path), { recursive: true });
	writeFileSync(path, JSON.stringify(manifest));
	return path;
}

function gitSha1(bytes: Uint8Array): string {
	return createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");
}
