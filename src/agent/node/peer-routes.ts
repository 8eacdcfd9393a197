/**
 * The peer listener, on a grant: bytes of sealed copies and of what is being received together with others, sent by the
 * kernel from the file (sendfile), and what there is of the latter.
 */
import type { Storage } from "../../core/storage/storage.ts";
import { type Bandwidth, type Grants, type Shares, readBundle } from "../../core/transfer/transfer.ts";
import type { IoPool } from "../../platform/io-pool.ts";
import { GswarmError } from "../../schema/errors.ts";
import type { Handlers } from "../http/app.ts";
import { paced } from "./paced.ts";

export function peerHandlers({
	shares,
	grants,
	storage,
	io,
	up,
}: {
	shares: Shares;
	grants: Grants;
	storage: Storage;
	io: IoPool;
	/** What this node sends to others. */
	up: Bandwidth;
}): Handlers<"peer"> {
	const check = (bearer: string | undefined, key: string): { receiver: string } => {
		if (bearer === undefined) {
			throw new GswarmError("UNAUTHORIZED", "Parts are read on a grant of the host.", {
				reason: "no_valid_token",
			});
		}
		return grants.check(bearer, key);
	};
	return {
		havePart: async ({ params, query, bearer, request }) => {
			check(bearer, params.content_id);
			const question = {
				epoch: query.epoch,
				since: query.since,
				turn: query.turn,
				waitMs: query.wait_ms,
				digests: query.digests === "true",
			};
			return Response.json(await shares.have(params.content_id, question, request.signal));
		},
		readBundle: async ({ params, query, bearer, request }) => {
			const { receiver } = check(bearer, params.content_id);
			const wanted = { contentId: params.content_id, ...query };
			const bytes = await readBundle({ storage, io }, wanted, request.signal);
			return new Response(paced(new Blob([bytes]), up, receiver), {
				headers: {
					"content-type": "application/octet-stream",
					"content-length": String(bytes.byteLength),
				},
			});
		},
		readPart: ({ params, bearer, request }) => {
			const { receiver } = check(bearer, params.content_id);
			const { path, sizeBytes, start, end } = shares.resolve(
				params.content_id,
				Number(params.file_index),
				(size) => parseRange(request.headers.get("range"), size),
			);
			return new Response(paced(Bun.file(path).slice(start, end), up, receiver), {
				status: 206,
				headers: {
					"content-type": "application/octet-stream",
					"content-range": `bytes ${start}-${end - 1}/${sizeBytes}`,
					"content-length": String(end - start),
					"accept-ranges": "bytes",
					etag: `"${params.content_id}-${params.file_index}"`,
				},
			});
		},
	};
}

/**
 * One `bytes=a-b` range, half open in the answer; without a header the whole file (RFC 9110, section 14).
 * @throws 416 range_not_satisfiable
 */
export function parseRange(header: string | null, sizeBytes: number): { start: number; end: number } {
	if (header === null && sizeBytes > 0) return { start: 0, end: sizeBytes };
	const match = /^bytes=(\d{1,16})-(\d{0,16})$/.exec(header ?? "");
	const start = Number(match?.[1] ?? Number.NaN);
	const last =
		match?.[2] === undefined || match[2] === "" ? sizeBytes - 1 : Math.min(Number(match[2]), sizeBytes - 1);
	if (Number.isSafeInteger(start) && start <= last) return { start, end: last + 1 };
	throw new GswarmError(
		"INVALID_REQUEST",
		`The range ${JSON.stringify(header)} is outside the file of ${sizeBytes} bytes.`,
		{
			reason: "range_not_satisfiable",
			status: 416,
			details: { size_bytes: sizeBytes },
		},
	);
}
