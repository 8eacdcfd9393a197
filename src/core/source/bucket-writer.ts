/**
 * Writes objects below a prefix of a bucket: small ones at once, large ones in parts (multipart upload). What was
 * uploaded in parts before a crash is found again at the service itself: it lists unfinished uploads and their parts,
 * and a part counts when its ETag is the MD5 of the bytes that it should have.
 */
import type { Clock } from "../../platform/clock.ts";
import { withDeadline } from "../../platform/deadline.ts";
import type { Outbound } from "../../platform/outbound.ts";
import { readBounded } from "../../platform/body-reader.ts";
import { GswarmError } from "../../schema/errors.ts";
import { badAnswer } from "./answer.ts";
import { type BucketLine, type BucketService, createBucketLine } from "./bucket-line.ts";
import { element, type ListedObject, parseListPage } from "./bucket-list.ts";
import type { BucketUri } from "./bucket-uri.ts";
import type { CredentialLookUp } from "./credential.ts";

/** One part of an object that is being uploaded, or a whole small one. */
export interface WrittenPart {
	number: number;
	/** With its quotes. */
	etag: string;
}

export interface PartBytes {
	bytes: Uint8Array;
	/** Hex; the service refuses bytes that are not these. */
	sha256: string;
}

export interface BucketWriter {
	/** Objects below the prefix by their path, at most `most` of them. @throws CONFLICT too_many_objects */
	list(most: number, signal: AbortSignal): Promise<Map<string, ListedObject>>;
	/** ETag of the object that is there now. */
	put(path: string, part: PartBytes, signal: AbortSignal): Promise<string>;
	/** An upload of this object that was begun and not finished, and its parts' ETags by number. */
	unfinished(
		path: string,
		signal: AbortSignal,
	): Promise<{ id: string; parts: Map<number, string> } | undefined>;
	begin(path: string, signal: AbortSignal): Promise<string>;
	putPart(
		path: string,
		at: { id: string; number: number },
		part: PartBytes,
		signal: AbortSignal,
	): Promise<string>;
	/** Makes the object of its parts; its ETag. */
	complete(path: string, id: string, parts: readonly WrittenPart[], signal: AbortSignal): Promise<string>;
	/** Drops what was uploaded in parts. */
	abandon(path: string, id: string, signal: AbortSignal): Promise<void>;
}

const MAX_XML_BYTES = 16 * 1024 * 1024;
const ANSWER_TIMEOUT_MS = 60_000;
/** A line that is slower than this is given up: the answer comes only after the part has gone. */
const SLOWEST_BYTES_PER_MS = 100;
/** A large object takes the service a while to put together. */
const COMPLETE_TIMEOUT_MS = 10 * 60_000;
const MAX_PAGES = 100;

export function createBucketWriter(
	dependencies: { outbound: Outbound; clock: Clock; credentials?: CredentialLookUp | undefined },
	uri: BucketUri,
	service: BucketService,
): BucketWriter {
	const line = createBucketLine(dependencies, uri, service);
	const { host } = new URL(service.endpoint);
	const keyOf = (path: string): string => (uri.key === "" ? path : `${uri.key}/${path}`);
	const shown = (path: string): string => `${uri.scheme}://${uri.bucket}/${keyOf(path)}`;
	/** A request whose answer is a little XML. */
	const ask = async (what: string, request: Parameters<BucketLine["send"]>[0], limitMs = ANSWER_TIMEOUT_MS) =>
		await withDeadline(dependencies, { limitMs, host, signal: request.signal }, async (signal) => {
			const response = await line.send({ ...request, signal, timeoutMs: limitMs });
			if (response.status !== 200) throw await line.failed(response, what);
			return new TextDecoder().decode(await readBounded(response.body, MAX_XML_BYTES));
		});
	const store = async (
		path: string,
		query: Record<string, string>,
		part: PartBytes,
		signal: AbortSignal,
	): Promise<string> => {
		const { bytes, sha256 } = part;
		const timeoutMs = ANSWER_TIMEOUT_MS + bytes.length / SLOWEST_BYTES_PER_MS;
		const response = await line.send({
			method: "PUT",
			key: keyOf(path),
			query,
			body: bytes,
			sha256,
			signal,
			timeoutMs,
		});
		if (response.status !== 200) throw await line.failed(response, shown(path));
		await response.body?.cancel();
		return response.headers.get("etag") ?? "";
	};
	return {
		async list(most, signal) {
			const prefix = keyOf("");
			const found = new Map<string, ListedObject>();
			let next: string | undefined;
			for (let pages = 0; ; pages++) {
				const query = {
					"list-type": "2",
					"encoding-type": "url",
					prefix,
					...(next === undefined ? {} : { "continuation-token": next }),
				};
				const page = parseListPage(
					await ask(`the list of ${uri.bucket}`, { key: "", query, signal }),
					uri.bucket,
				);
				for (const object of page.objects) found.set(object.key.slice(prefix.length), object);
				if (found.size > most || pages > MAX_PAGES) throw tooMany(shown(""), most);
				if (page.next === undefined) return found;
				next = page.next;
			}
		},
		put: (path, part, signal) => store(path, {}, part, signal),
		async unfinished(path, signal) {
			const query = { uploads: "", prefix: keyOf(path), "max-uploads": "100" };
			const xml = await ask(`the uploads to ${shown(path)}`, { key: "", query, signal });
			const ids = xml
				.split("<Upload>")
				.slice(1)
				.filter((entry) => element(entry, "Key") === keyOf(path))
				.map((entry) => element(entry, "UploadId"));
			const id = ids.at(-1);
			if (id === undefined || id === "") return undefined;
			const parts = new Map<number, string>();
			let marker = "0";
			for (let pages = 0; pages < MAX_PAGES; pages++) {
				const listing = { uploadId: id, "part-number-marker": marker };
				const page = await ask(`the parts of ${shown(path)}`, { key: keyOf(path), query: listing, signal });
				for (const entry of page.split("<Part>").slice(1))
					parts.set(Number(element(entry, "PartNumber")), element(entry, "ETag") ?? "");
				const next = element(page, "NextPartNumberMarker");
				if (element(page, "IsTruncated") !== "true" || next === undefined) break;
				marker = next;
			}
			return { id, parts };
		},
		async begin(path, signal) {
			const xml = await ask(shown(path), {
				method: "POST",
				key: keyOf(path),
				query: { uploads: "" },
				signal,
			});
			const id = element(xml, "UploadId");
			if (id === undefined || id === "") throw badAnswer(`${host} began no upload of ${shown(path)}`);
			return id;
		},
		putPart: (path, { id, number }, part, signal) =>
			store(path, { partNumber: String(number), uploadId: id }, part, signal),
		async complete(path, id, parts, signal) {
			const named = parts.map(
				({ number, etag }) => `<Part><PartNumber>${number}</PartNumber><ETag>${escaped(etag)}</ETag></Part>`,
			);
			const body = new TextEncoder().encode(
				`<CompleteMultipartUpload>${named.join("")}</CompleteMultipartUpload>`,
			);
			const request = { method: "POST" as const, key: keyOf(path), query: { uploadId: id }, body, signal };
			const xml = await ask(shown(path), request, COMPLETE_TIMEOUT_MS);
			// The service begins its answer before it knows: a failure too comes with status 200.
			const etag = element(xml, "ETag");
			if (xml.includes("<Error>") || etag === undefined)
				throw notPutTogether(shown(path), element(xml, "Code"));
			return etag;
		},
		async abandon(path, id, signal) {
			const response = await line.send({
				method: "DELETE",
				key: keyOf(path),
				query: { uploadId: id },
				signal,
			});
			await response.body?.cancel();
		},
	};
}

function escaped(text: string): string {
	return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}

function notPutTogether(what: string, code = ""): GswarmError {
	const shown = /^[A-Za-z0-9]{1,80}$/.exec(code)?.[0];
	return new GswarmError("NETWORK_ERROR", `The service could not put ${what} together of its parts.`, {
		reason: "upload_failed",
		details: shown === undefined ? {} : { service_code: shown },
		retryable: true,
	});
}

function tooMany(what: string, most: number): GswarmError {
	return new GswarmError("CONFLICT", `${what} has more than ${most} objects already.`, {
		reason: "target_not_empty",
		hint: "Choose a prefix where nothing is.",
	});
}
