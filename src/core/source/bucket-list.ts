/**
 * Lists of objects as S3 answers them (ListObjectsV2). The XML is flat and its values are text, so that it is read by
 * its few elements; keys are asked for in percent signs, which need no further rules.
 */
import { badAnswer } from "./answer.ts";

export interface ListedObject {
	key: string;
	sizeBytes: number;
	/** With its quotes, as the header of an object has it. */
	etag: string;
}

export interface ListPage {
	objects: ListedObject[];
	/** Undefined at the end. */
	next: string | undefined;
}

/** @throws NETWORK_ERROR bad_answer */
export function parseListPage(xml: string, bucket: string): ListPage {
	if (!xml.includes("<ListBucketResult")) throw badAnswer(`The list of ${bucket} has an unknown form`);
	// Not by one expression over the whole: a page of opening tags alone would keep it busy for ever.
	const [head = "", ...pieces] = xml.split("<Contents>");
	const entries = pieces.map((piece) => piece.slice(0, piece.indexOf("</Contents>")));
	const rest = [head, pieces.at(-1)?.split("</Contents>", 2)[1] ?? ""].join("");
	if (pieces.some((piece) => !piece.includes("</Contents>")))
		throw badAnswer(`The list of ${bucket} has an unknown form`);
	const isEncoded = element(rest, "EncodingType") === "url";
	const objects = entries.map((entry) => objectOf(entry, bucket, isEncoded));
	if (element(rest, "IsTruncated") !== "true") return { objects, next: undefined };
	const next = element(rest, "NextContinuationToken");
	if (next === undefined || next === "")
		throw badAnswer(`The list of ${bucket} goes on and does not say where`);
	return { objects, next };
}

function objectOf(entry: string, bucket: string, isEncoded: boolean): ListedObject {
	const [key, size, etag] = [element(entry, "Key"), element(entry, "Size"), element(entry, "ETag")];
	const name = key === undefined ? undefined : isEncoded ? decoded(key) : key;
	if (name === undefined || name === "" || !/^\d{1,16}$/.test(size ?? "") || etag === undefined)
		throw badAnswer(`The list of ${bucket} has an entry that is no object`);
	if (!/^"?[\w./+=-]{1,200}"?$/.test(etag)) throw badAnswer(`The list of ${bucket} has a strange ETag`);
	return { key: name, sizeBytes: Number(size), etag: etag.startsWith('"') ? etag : `"${etag}"` };
}

/** The text of the first element of this name. */
export function element(xml: string, name: string): string | undefined {
	const text = new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml)?.[1];
	return text?.replaceAll(
		/&(#x?[0-9a-fA-F]{1,6}|[a-z]{2,5});/g,
		(whole, entity: string) => character(entity) ?? whole,
	);
}

const ENTITIES: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };

function character(entity: string): string | undefined {
	if (!entity.startsWith("#")) return ENTITIES[entity];
	const code = entity.startsWith("#x") ? Number.parseInt(entity.slice(2), 16) : Number(entity.slice(1));
	return Number.isInteger(code) && code <= 0x10_ffff ? String.fromCodePoint(code) : undefined;
}

function decoded(text: string): string | undefined {
	try {
		return decodeURIComponent(text.replaceAll("+", " "));
	} catch {
		return undefined;
	}
}
