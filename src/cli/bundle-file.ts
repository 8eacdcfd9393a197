/**
 * A bundle on this machine: what it says of itself, and where in it each file begins. Only its shape is looked at; what
 * the bytes have to be, the node that receives them knows from the description.
 */
import { type FileHandle, open } from "node:fs/promises";
import { BUNDLE_ENTRY } from "../schema/bundle-form.ts";
import { type GswarmError, invalid } from "../schema/errors.ts";
import { OFFER_DESCRIPTION, type OfferPiece } from "../schema/offer.ts";

export interface BundleFile extends AsyncDisposable {
	announced: {
		model_name: string;
		revision: string;
		model_type: string;
		format: string;
		source_url: string | null;
		content_id: string;
		description_bytes: number;
		size_bytes: number;
	};
	/** @throws INVALID_REQUEST bad_bundle when the file has become another one */
	read(piece: OfferPiece): Promise<Uint8Array<ArrayBuffer>>;
}

/** As much of a description as is looked at here. */
interface Description {
	model_name: string;
	revision: string;
	model_type: string;
	format: string;
	source_url: string | null;
	content_id: string;
	manifest: { files: { size_bytes: number }[]; total_bytes: number };
}

const BLOCK = 512;
const MAX_DESCRIPTION_BYTES = 32 * 1024 * 1024;
/** Headers of tar that say something about the entry behind them. */
const EXTENDED = new Set(["x", "g", "L"]);

/** @throws INVALID_REQUEST not_a_bundle, bad_bundle */
export async function openBundleFile(path: string): Promise<BundleFile> {
	const file = await open(path, "r");
	try {
		const first = await entryAt(file, 0, path);
		if (first?.name !== BUNDLE_ENTRY || first.sizeBytes > MAX_DESCRIPTION_BYTES) throw notABundle(path);
		const description = readDescription(await bytesAt(file, first.start, first.sizeBytes, path), path);
		const starts = new Map([[OFFER_DESCRIPTION, first.start]]);
		let at = first.end;
		for (const [index, { size_bytes }] of description.manifest.files.entries()) {
			const entry = await entryAt(file, at, path);
			if (entry?.sizeBytes !== size_bytes) throw broken(path, "it was cut off, or its files are others");
			starts.set(index, entry.start);
			at = entry.end;
		}
		const { size } = await file.stat();
		if (size < at) throw broken(path, `it was cut off at byte ${size}`);
		const { manifest, ...announced } = description;
		return {
			announced: { ...announced, description_bytes: first.sizeBytes, size_bytes: manifest.total_bytes },
			read: (piece) =>
				bytesAt(file, (starts.get(piece.file) ?? size) + piece.start, piece.end - piece.start, path),
			[Symbol.asyncDispose]: () => file.close(),
		};
	} catch (error) {
		await file.close();
		throw error;
	}
}

interface Entry {
	name: string;
	sizeBytes: number;
	/** Of its bytes, and of the header behind them. */
	start: number;
	end: number;
}

/** The entry whose headers begin there; undefined at the end of the archive. */
async function entryAt(file: FileHandle, position: number, path: string): Promise<Entry | undefined> {
	for (let at = position; ; ) {
		const header = Buffer.from(await bytesAt(file, at, BLOCK, path));
		const text = (from: number, length: number): string =>
			header.toString("latin1", from, from + length).replace(/[\0 ]+$/, "");
		const size = text(124, 12);
		if (header.every((byte) => byte === 0)) return undefined;
		const sizeBytes = sizeOf(header, size);
		if (text(257, 5) !== "ustar" || sizeBytes === undefined) throw notABundle(path);
		const start = at + BLOCK;
		const end = start + Math.ceil(sizeBytes / BLOCK) * BLOCK;
		if (!EXTENDED.has(text(156, 1))) return { name: text(0, 100), sizeBytes, start, end };
		at = end;
	}
}

/** Octal digits, or from 8 GiB on a number of bytes with its highest bit set (GNU). */
function sizeOf(header: Buffer, octal: string): number | undefined {
	if (/^[0-7]{1,11}$/.test(octal)) return Number.parseInt(octal, 8);
	if (header[124] !== 0x80) return undefined;
	const value = Number(header.readBigUInt64BE(128));
	return Number.isSafeInteger(value) ? value : undefined;
}

async function bytesAt(
	file: FileHandle,
	position: number,
	length: number,
	path: string,
): Promise<Uint8Array<ArrayBuffer>> {
	const bytes = new Uint8Array(length);
	for (let at = 0; at < length; ) {
		const { bytesRead } = await file.read(bytes, at, length - at, position + at);
		if (bytesRead === 0) throw broken(path, `it ends at byte ${position + at}`);
		at += bytesRead;
	}
	return bytes;
}

function readDescription(bytes: Uint8Array, path: string): Description {
	let found: Description;
	try {
		found = JSON.parse(new TextDecoder().decode(bytes)) as Description;
	} catch {
		throw notABundle(path);
	}
	const { model_name, revision, model_type, format, source_url, content_id, manifest } = found;
	const texts = [model_name, revision, model_type, format, content_id];
	const isWhole = texts.every((text) => typeof text === "string") && Array.isArray(manifest?.files);
	if (!isWhole) throw notABundle(path);
	return { model_name, revision, model_type, format, source_url, content_id, manifest };
}

function notABundle(path: string): GswarmError {
	return invalid(
		"not_a_bundle",
		`${path} is no bundle of \`gswarm model export\`.`,
		{},
		"Other archives and files are downloaded: `gswarm model download NAME --source …`.",
	);
}

function broken(path: string, what: string): GswarmError {
	return invalid("bad_bundle", `${path} is not whole: ${what}.`, {}, "Export the model again.");
}
