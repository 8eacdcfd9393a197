/**
 * The peer listener, on a grant: bytes of sealed copies and of what is being received together with others, sent by the
 * kernel from the file (sendfile), and what there is of the latter.
 */
import type { Storage } from "../../core/storage/storage.ts";
import {
	type Bandwidth,
	type CheckedGrant,
	compressedPart,
	type Grants,
	type Shares,
	readBundle,
	type Tags,
} from "../../core/transfer/transfer.ts";
import type { Clock } from "../../platform/clock.ts";
import type { IoPool } from "../../platform/io-pool.ts";
import {
	ACCEPT_CODING_HEADER,
	CODING,
	CODING_HEADER,
	parseAcceptCoding,
	withLimit,
} from "../../schema/compression.ts";
import { GswarmError, notFound } from "../../schema/errors.ts";
import type { Handlers } from "../http/app.ts";
import { paced } from "./paced.ts";

export function peerHandlers({
	shares,
	grants,
	tags,
	storage,
	io,
	clock,
	isBusy,
	up,
}: {
	shares: Shares;
	grants: Grants;
	tags: Tags;
	storage: Storage;
	io: IoPool;
	clock: Clock;
	/** The processors of this machine have no time left. */
	isBusy: () => boolean;
	/** What this node sends to others. */
	up: Bandwidth;
}): Handlers<"peer"> {
	const check = (bearer: string | undefined, key: string): CheckedGrant => {
		if (bearer === undefined) {
			throw new GswarmError("UNAUTHORIZED", "Parts are read on a grant of the host.", {
				reason: "no_valid_token",
			});
		}
		return grants.check(bearer, key);
	};
	/** Compressed where the receiver would take it so and it is worth it; only then no length is told. */
	const send = async (
		bytes: Blob,
		to: { request: Request; receiver: string; status: number; sizeBytes: number },
		headers: Record<string, string>,
	): Promise<Response> => {
		const asked = parseAcceptCoding(to.request.headers.get(ACCEPT_CODING_HEADER));
		const { own = Infinity, share = Infinity } = up.limits();
		const accepted = withLimit(asked, Math.min(own, share));
		const compressed = await compressedPart({ clock, isBusy }, bytes, accepted);
		const form: Record<string, string> =
			compressed === undefined ? { "content-length": String(to.sizeBytes) } : { [CODING_HEADER]: CODING };
		return new Response(paced(compressed ?? bytes, up, to.receiver), {
			status: to.status,
			headers: { "content-type": "application/octet-stream", ...headers, ...form },
		});
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
			return await send(
				new Blob([bytes]),
				{ request, receiver, status: 200, sizeBytes: bytes.byteLength },
				{},
			);
		},
		partTags: async ({ params, query, bearer, request }) => {
			const { tagKey } = check(bearer, params.content_id);
			if (tagKey === undefined) throw notFound("tags", params.content_id);
			const fileIndex = Number(params.file_index);
			const question = { contentId: params.content_id, fileIndex, ...query };
			return { tags: await tags.parts(tagKey, question, request.signal) };
		},
		readPart: async ({ params, bearer, request }) => {
			const { receiver } = check(bearer, params.content_id);
			const { path, sizeBytes, start, end } = shares.resolve(
				params.content_id,
				Number(params.file_index),
				(size) => parseRange(request.headers.get("range"), size),
			);
			const headers = {
				"content-range": `bytes ${start}-${end - 1}/${sizeBytes}`,
				"accept-ranges": "bytes",
				etag: `"${params.content_id}-${params.file_index}"`,
			};
			const to = { request, receiver, status: 206, sizeBytes: end - start };
			return await send(Bun.file(path).slice(start, end), to, headers);
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
