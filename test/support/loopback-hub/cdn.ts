// The second origin of the hub: signed, expiring addresses of large files.
import { createHash, createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { type ByteServer, startByteServer } from "../byte-server.ts";
import type { ByteReply, ByteRequest } from "../byte-server/messages.ts";
import { parseRange, rangedReply } from "../ranged-reply.ts";
import type { HubFaults } from "./faults.ts";
import type { SnapshotFile } from "./snapshot.ts";

export interface CdnOptions {
	address: string;
	signedUrlSeconds: number;
	/** A GET without a range of a larger file answers 400. */
	rangelessLimitBytes: number;
}

export interface Cdn {
	server: ByteServer;
	/** The address that resolving `file` redirects to. */
	signedUrl(file: SnapshotFile): string;
	/** Repository path behind a request target of this CDN. */
	pathOf(target: string): string | undefined;
	/** Refuses every address handed out so far. */
	expireSignedUrls(): void;
}

export function startCdn(faults: HubFaults, options: CdnOptions): Cdn {
	const files = new Map<string, SnapshotFile>();
	let key = 1;
	let etags = 0;
	const signature = (id: string, expires: string) =>
		createHmac("sha256", `loopback key ${key}`).update(`${id} ${expires}`).digest("hex");
	const fileOf = (target: string) =>
		files.get(new URL(target, "http://cdn").pathname.slice("/blobs/".length));

	const answer = (request: ByteRequest): ByteReply => {
		const url = new URL(request.target, "http://cdn");
		const file = fileOf(request.target);
		if (!file?.lfs) return { status: 404, body: "<Error><Code>NoSuchKey</Code></Error>" };
		const expires = url.searchParams.get("Expires") ?? "0";
		const genuine = url.searchParams.get("Signature") === signature(file.lfs.sha256, expires);
		if (!genuine || Number(expires) * 1000 <= Date.now()) {
			return {
				status: 403,
				body: "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>",
			};
		}
		const ranged = request.headers.has("range") && faults.ignoreRange !== true;
		if (
			request.method === "GET" &&
			!ranged &&
			!faults.ignoreRange &&
			file.sizeBytes > options.rangelessLimitBytes
		) {
			return {
				status: 400,
				body: "<Error><Code>InvalidRequest</Code><Message>use a range</Message></Error>",
			};
		}
		// 64 hex digits like the sha256, and something else: only X-Linked-ETag of the hub is the hash.
		const etag = createHash("sha256").update(`cdn ${file.lfs.sha256}`);
		if (faults.changeEtag) etag.update(`${etags++}`);
		if (!ranged) request.headers.delete("range");
		const headers = {
			"content-type": "application/octet-stream",
			"cache-control": "public, max-age=31536000",
		};
		const sizeBytes =
			faults.truncateFile?.path === file.path ? faults.truncateFile.sizeBytes : file.sizeBytes;
		if (faults.gzipEncoding) return compressed(request, file, headers);
		const reply = rangedReply(request, {
			file: file.file,
			sizeBytes,
			etag: `"${etag.digest("hex")}"`,
			headers,
			alter: (block, offset) => flip(faults, file.path, block, offset),
		});
		if (faults.wrongContentRange && reply.headers?.["content-range"]) {
			reply.headers["content-range"] = reply.headers["content-range"].replace(
				/(\d+)-(\d+)/,
				(_, first, last) => `${Number(first) + 1}-${Number(last) + 1}`,
			);
		}
		return reply;
	};

	const server = startByteServer({ answer, weather: () => faults, address: options.address });
	return {
		server,
		signedUrl(file) {
			const id = file.lfs?.sha256 ?? file.oid;
			files.set(id, file);
			const expires = String(Math.ceil(Date.now() / 1000) + options.signedUrlSeconds);
			const disposition = encodeURIComponent(`inline; filename="${file.path.split("/").at(-1)}"`);
			const query = `response-content-disposition=${disposition}&Expires=${expires}`;
			return `${server.url}/blobs/${id}?${query}&Signature=${signature(id, expires)}&Key-Pair-Id=K${key}`;
		},
		pathOf: (target) => fileOf(target)?.path,
		expireSignedUrls() {
			key += 1;
		},
	};
}

function flip(faults: HubFaults, path: string, block: Uint8Array, offset: number): void {
	const wanted = faults.flipByte;
	if (!wanted || wanted.path !== path || wanted.times <= 0) return;
	const at = wanted.offset - offset;
	const byte = block[at];
	if (byte === undefined) return;
	block[at] = byte ^ 0x01;
	wanted.times -= 1;
}

function compressed(request: ByteRequest, file: SnapshotFile, headers: Record<string, string>): ByteReply {
	const range = parseRange(request.headers.get("range") ?? "", file.sizeBytes);
	const { start, end } = range ?? { start: 0, end: file.sizeBytes };
	return {
		status: range ? 206 : 200,
		headers: {
			...headers,
			"content-encoding": "gzip",
			...(range ? { "content-range": `bytes ${start}-${end - 1}/${file.sizeBytes}` } : {}),
		},
		body: gzipSync(readFileSync(file.file).subarray(start, end)),
	};
}
