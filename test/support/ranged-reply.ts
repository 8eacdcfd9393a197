import type { ByteReply, ByteRequest } from "./byte-server/messages.ts";

export interface Resource {
	body: Uint8Array | string;
	etag: string;
	headers?: Record<string, string>;
}

export interface FileResource {
	file: string;
	sizeBytes: number;
	etag: string;
	alter?: (block: Uint8Array, offset: number) => void;
	headers?: Record<string, string>;
}

/** Answers a GET or HEAD as RFC 9110 says: one byte range, If-Range, If-None-Match; several ranges get the whole. */
export function rangedReply(request: ByteRequest, resource: Resource | FileResource): ByteReply {
	const bytes = "file" in resource ? undefined : Buffer.from(resource.body);
	const sizeBytes = "file" in resource ? resource.sizeBytes : (bytes?.length ?? 0);
	const headers = { "accept-ranges": "bytes", etag: resource.etag, ...resource.headers };
	if (request.headers.get("if-none-match") === resource.etag) return { status: 304, headers };
	const cut = (start: number, end: number) => {
		if (!("file" in resource)) return bytes?.subarray(start, end) ?? "";
		const { file, alter } = resource;
		return { file, start, end, ...(alter ? { alter } : {}) };
	};
	const condition = request.headers.get("if-range");
	const range = condition && condition !== resource.etag ? undefined : request.headers.get("range");
	const wanted = range === undefined ? undefined : parseRange(range, sizeBytes);
	if (!wanted) return { status: 200, headers, body: cut(0, sizeBytes) };
	if (wanted.start >= wanted.end) {
		return { status: 416, headers: { ...headers, "content-range": `bytes */${sizeBytes}` } };
	}
	const contentRange = `bytes ${wanted.start}-${wanted.end - 1}/${sizeBytes}`;
	return {
		status: 206,
		headers: { ...headers, "content-range": contentRange },
		body: cut(wanted.start, wanted.end),
	};
}

/** The half-open range that a Range header asks of `sizeBytes` bytes; empty when it cannot be satisfied. */
export function parseRange(header: string, sizeBytes: number): { start: number; end: number } | undefined {
	const [, first, last] = /^bytes=(\d*)-(\d*)$/.exec(header) ?? [];
	if (first === undefined || last === undefined || first + last === "") return undefined;
	if (first === "") return { start: Math.max(0, sizeBytes - Number(last)), end: sizeBytes };
	const end = last === "" ? sizeBytes : Math.min(Number(last) + 1, sizeBytes);
	return { start: Number(first), end };
}
