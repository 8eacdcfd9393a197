/**
 * Another node of the cluster that has some of the bytes that are received here, or all of them: what it has is asked
 * again and again, parts are read by range. Nodes are at approved addresses, as for a peer's sealed copy.
 */
import type { Clock } from "../../platform/clock.ts";
import { requestOnce } from "../../platform/request-once.ts";
import { CODING_HEADER, type Compression } from "../../schema/compression.ts";
import { GswarmError } from "../../schema/errors.ts";
import { type HaveAnswer, haveAnswerSchema } from "../../schema/swarm.ts";
import { checkedBody, rangeHeader, readJson } from "./answer.ts";
import type { Brought, ByteRange, SourceBody } from "./contract.ts";
import { createLineCoding } from "./line-coding.ts";
import { peerError } from "./peer.ts";

export interface RelayInput {
	/** Of the node's peer listener. */
	baseUrl: string;
	grant: string;
	/** What both sides know the bytes by: a content id or a source id. */
	key: string;
	/** CA of the cluster (PEM) and the name in the node's certificate. */
	tls?: { ca: string; serverName?: string } | undefined;
	/** Default: none. */
	compression?: Compression | undefined;
}

export interface HaveQuestion {
	/** Of the last answer, where to go on. */
	epoch: string;
	since: number;
	/** Of the last answer: what it read then is known. */
	turn: number;
	waitMs: number;
	/** Who has a manifest needs no digests. */
	digests: boolean;
}

export interface Relay {
	/** Asks what it has; the answer comes with the first news, or after `waitMs`. */
	have(question: HaveQuestion, signal: AbortSignal): Promise<HaveAnswer>;
	/** A range of the file with this index. */
	read(
		file: { index: number; path: string; sizeBytes: number },
		range: ByteRange,
		signal: AbortSignal,
	): Promise<SourceBody>;
	/** Hears how what it gave came. */
	measured?(brought: Brought): void;
}

const ANSWER_TIMEOUT_MS = 30_000;
const MAX_HAVE_BYTES = 4 << 20;

export function relayReader(
	{ clock }: { clock: Clock },
	{ baseUrl, grant, key, tls, compression = "none" }: RelayInput,
): Relay {
	const coding = createLineCoding(compression);
	const base = baseUrl.replace(/\/+$/, "");
	const headers = { authorization: `Bearer ${grant}` };
	const line = tls === undefined ? {} : { tls };
	return {
		async have({ epoch, since, turn, waitMs, digests }, signal) {
			const query = new URLSearchParams({
				epoch,
				since: String(since),
				turn: String(turn),
				wait_ms: String(waitMs),
				digests: String(digests),
			});
			const response = await requestOnce({ clock }, `${base}/have/${key}?${query.toString()}`, {
				method: "GET",
				headers,
				signal,
				timeoutMs: waitMs + ANSWER_TIMEOUT_MS,
				...line,
			});
			if (response.status !== 200) {
				await response.body?.cancel();
				throw peerError(response, "these parts", clock.nowMs());
			}
			const answer = haveAnswerSchema.safeParse(await readJson(response, base, MAX_HAVE_BYTES));
			if (answer.success) return answer.data;
			throw new GswarmError("NETWORK_ERROR", `${base} does not say in our words what it has.`, {
				reason: "bad_answer",
			});
		},
		async read({ index, path, sizeBytes }, range, signal) {
			const asked = coding.headers();
			const response = await requestOnce({ clock }, `${base}/parts/${key}/${index}`, {
				method: "GET",
				headers: { ...headers, ...asked, range: rangeHeader(range) },
				signal,
				timeoutMs: ANSWER_TIMEOUT_MS,
				...line,
			});
			if (response.status === 206) {
				const isCoded = response.headers.has(CODING_HEADER);
				const expected = { what: path, range, sizeBytes, validator: undefined, isCoded };
				const body = await checkedBody(response, expected);
				return coding.body(response, body, { what: path, limitBytes: range.end - range.start, asked });
			}
			await response.body?.cancel();
			throw peerError(response, path, clock.nowMs());
		},
		measured: coding.measured,
	};
}
