/**
 * What a bundle says of itself, read from its beginning: a ustar header and the JSON behind it. Whether its files are
 * what it says is seen when it is unpacked.
 */
import { parseJson } from "../../platform/safe-json.ts";
import { sha256Hex } from "../../platform/hash.ts";
import { BUNDLE_ENTRY } from "../../schema/bundle-form.ts";
import { type Bundle, bundleSchema } from "../../schema/bundle.ts";
import { GswarmError } from "../../schema/errors.ts";
import { canonicalManifest } from "../../schema/manifest.ts";
import { isModelName, parseRevision } from "../../schema/names.ts";
import type { Source, SourceDescription } from "./contract.ts";
import { readRange } from "./read-range.ts";
import { TAR_BLOCK_BYTES } from "./tar-structure.ts";

/** A manifest of 100,000 files has some 20 MB. */
export const MAX_BUNDLE_JSON_BYTES = 32 * 1024 * 1024;

/** @throws INVALID_REQUEST not_a_bundle, bad_bundle; what the source throws */
export async function readBundleHeader(
	source: Source,
	{ uri, files, archive }: SourceDescription,
	signal: AbortSignal,
): Promise<Bundle> {
	const [file] = files;
	if (
		file === undefined ||
		files.length > 1 ||
		archive !== "tar" ||
		(file.sizeBytes ?? 0) < 2 * TAR_BLOCK_BYTES
	)
		throw notABundle(uri);
	const header = await readRange(source, file, { start: 0, end: TAR_BLOCK_BYTES }, signal);
	const text = (from: number, length: number): string =>
		Buffer.from(header.subarray(from, from + length))
			.toString("latin1")
			.replace(/[\0 ]+$/, "");
	const size = text(124, 12);
	if (text(0, 100) !== BUNDLE_ENTRY || text(257, 5) !== "ustar" || !/^[0-7]{1,11}$/.test(size))
		throw notABundle(uri);
	const sizeBytes = Number.parseInt(size, 8);
	if (sizeBytes > MAX_BUNDLE_JSON_BYTES) throw badBundle(`its description has ${sizeBytes} bytes`);
	const range = { start: TAR_BLOCK_BYTES, end: TAR_BLOCK_BYTES + sizeBytes };
	return parseBundle(await readRange(source, file, range, signal));
}

/** @throws INVALID_REQUEST bad_bundle */
export function parseBundle(bytes: Uint8Array): Bundle {
	let bundle: Bundle;
	try {
		bundle = bundleSchema.parse(parseJson(bytes));
		parseRevision(bundle.revision);
	} catch (cause) {
		throw badBundle("its description is not one that gswarm wrote", cause);
	}
	if (!isModelName(bundle.model_name)) throw badBundle("the name in it is no model's name");
	if (sha256Hex(canonicalManifest(bundle.manifest)) !== bundle.content_id)
		throw badBundle("its manifest is not the one that it names");
	return bundle;
}

export function badBundle(what: string, cause?: unknown): GswarmError {
	return new GswarmError("INVALID_REQUEST", `The bundle cannot be imported: ${what}.`, {
		reason: "bad_bundle",
		hint: "Export the model again; nothing of this bundle was kept.",
		cause,
	});
}

function notABundle(uri: string): GswarmError {
	return new GswarmError("INVALID_REQUEST", `${uri} is no bundle of \`gswarm model export\`.`, {
		reason: "not_a_bundle",
		hint: "Other archives and files are downloaded: `gswarm model download NAME --source …`.",
	});
}
