/**
 * A sealed copy on another node of the cluster: its manifest says everything beforehand, its parts are read on a
 * grant that the host gave. Nodes are at approved addresses, often private ones, so the guard for URLs from outside
 * does not stand here; neither proxies nor redirects are followed.
 */
import { isIP } from "node:net";
import type { Clock } from "../../platform/clock.ts";
import { requestOnce } from "../../platform/request-once.ts";
import { fileTagKey, sha256Hex } from "../../platform/hash.ts";
import { parseSafePath } from "../../platform/safe-path.ts";
import { GswarmError, notFound } from "../../schema/errors.ts";
import { canonicalManifest, type Manifest } from "../../schema/manifest.ts";
import { tagsAnswerSchema } from "../../schema/part-tags.ts";
import type { ModelName, Revision } from "../../schema/names.ts";
import { CODING_HEADER, type Compression } from "../../schema/compression.ts";
import { checkedBody, rangeHeader, rangeToAsk, readJson, statusError } from "./answer.ts";
import type { PeerTags, PlainPeer, Source, SourceDescription, SourceFile } from "./contract.ts";
import { describeFiles } from "./description.ts";
import { createLineCoding } from "./line-coding.ts";

export interface PeerInput {
	/** Of the peer listener, e.g. `https://10.0.0.7:8002`. */
	baseUrl: string;
	/** Bearer for this manifest. */
	grant: string;
	/** Secret of the tags of its parts; undefined: none are asked for. */
	tagKey?: string | undefined;
	manifest: Manifest;
	/** What the manifest must be of, where somebody else has said so. */
	contentId?: string | undefined;
	model: ModelName;
	revision: Revision;
	/** How people know the place, e.g. `node2:disk`. */
	device?: string | undefined;
	/** CA of the cluster (PEM) and the name in the node's certificate. */
	tls?: { ca: string; serverName?: string } | undefined;
	/** Default: none. */
	compression?: Compression | undefined;
	/** What of it is taken at most. */
	limitBytesPerSecond?: number | undefined;
}

export interface PeerSource extends Source {
	/** Uses the grant without reading anything to speak of, so that it lives on. */
	touch(signal: AbortSignal): Promise<void>;
}

const ANSWER_TIMEOUT_MS = 30_000;
const MAX_TAGS_BYTES = 64 * 1024;

/**
 * Files are numbered as in the canonical manifest: sorted by path.
 * @throws TASK_FAILED wrong_manifest
 */
export function peerSource({ clock }: { clock: Clock }, input: PeerInput): PeerSource {
	const canonical = canonicalManifest(input.manifest);
	const contentId = sha256Hex(canonical);
	if (input.contentId !== undefined && input.contentId !== contentId) {
		throw new GswarmError(
			"TASK_FAILED",
			`The manifest of ${input.model} is not the one that was announced.`,
			{
				reason: "wrong_manifest",
				details: { content_id: contentId, wanted: input.contentId },
			},
		);
	}
	// The order of the canonical JSON is what both sides count by.
	const { files } = JSON.parse(canonical) as Manifest;
	const indexes = new Map(files.map(({ path }, index) => [path, index]));
	const bundleUrl = `${input.baseUrl.replace(/\/+$/, "")}/bundles/${contentId}`;
	const tagUrl = `${input.baseUrl.replace(/\/+$/, "")}/tags/${contentId}`;
	const partUrl = `${input.baseUrl.replace(/\/+$/, "")}/parts/${contentId}`;
	const coding = createLineCoding(input.compression ?? "none", input.limitBytesPerSecond);
	const get = (url: string, headers: Record<string, string>, signal: AbortSignal): Promise<Response> =>
		requestOnce({ clock }, url, {
			method: "GET",
			headers: { authorization: `Bearer ${input.grant}`, ...headers },
			signal,
			timeoutMs: ANSWER_TIMEOUT_MS,
			...(input.tls === undefined ? {} : { tls: input.tls }),
		});
	const ask = (
		index: number,
		range: string,
		signal: AbortSignal,
		more: Record<string, string> = {},
	): Promise<Response> => get(`${partUrl}/${index}`, { range, ...more }, signal);
	const askTags = async (
		index: number,
		{ first, end }: { first: number; end: number },
		signal: AbortSignal,
	): Promise<string[]> => {
		const response = await get(`${tagUrl}/${index}?first=${first}&end=${end}`, {}, signal);
		if (response.status !== 200) {
			await response.body?.cancel();
			throw peerError(response, `tags of ${input.model}`, clock.nowMs());
		}
		const answer = tagsAnswerSchema.safeParse(await readJson(response, input.baseUrl, MAX_TAGS_BYTES));
		if (answer.success && answer.data.tags.length === end - first) return answer.data.tags;
		throw new GswarmError("NETWORK_ERROR", `${input.baseUrl} does not tell the tags that were asked for.`, {
			reason: "bad_answer",
		});
	};

	return {
		tagKey: input.tagKey,
		describe: async () =>
			describeSealed(files, {
				uri: `${input.device ?? new URL(input.baseUrl).host}/${input.model}@${input.revision}`,
				model: input.model,
				revision: input.revision,
			}),
		async read(file, range, signal) {
			const index = indexes.get(file.path);
			if (index === undefined) throw notFound("file", file.path);
			const wanted = rangeToAsk(file, range);
			if (wanted === undefined || file.sizeBytes === 0) return new Blob([]).stream();
			const what = `${input.model}/${file.path}`;
			const asked = coding.headers();
			const response = await ask(index, rangeHeader(wanted), signal, asked);
			if (response.status === 200 || response.status === 206) {
				const isCoded = response.headers.has(CODING_HEADER);
				const expected = { what, range: wanted, sizeBytes: file.sizeBytes, validator: undefined, isCoded };
				const body = await checkedBody(response, expected);
				return coding.body(response, body, { what, limitBytes: wanted.end - wanted.start, asked });
			}
			await response.body?.cancel();
			throw peerError(response, what, clock.nowMs());
		},
		async readBundle(some, signal) {
			const [first, last] = [some[0], some.at(-1)].map((file) => indexes.get(file?.path ?? ""));
			if (first === undefined || last === undefined || last - first + 1 !== some.length)
				throw new Error("a bundle is of neighbours");
			const what = `${input.model}, ${some.length} files`;
			const asked = coding.headers();
			const response = await get(`${bundleUrl}?first=${first}&end=${last + 1}`, asked, signal);
			const sizeBytes = some.reduce((sum, file) => sum + (file.sizeBytes ?? 0), 0);
			if (response.status === 200) {
				const isCoded = response.headers.has(CODING_HEADER);
				const expected = { what, range: undefined, sizeBytes, validator: undefined, isCoded };
				const body = await checkedBody(response, expected);
				return coding.body(response, body, { what, limitBytes: sizeBytes, asked });
			}
			await response.body?.cancel();
			throw peerError(response, what, clock.nowMs());
		},
		measured: (_body, brought) => coding.measured(brought),
		plainPeer(file) {
			// Receivers with sockets of their own take the bytes as they are.
			if (coding.isPreferred()) return undefined;
			const index = indexes.get(file.path);
			if (index === undefined) return undefined;
			const peer = plainPeer(`${partUrl}/${index}`, input.grant);
			const { tagKey } = input;
			const tell: PeerTags["ask"] = (parts, signal) => askTags(index, parts, signal);
			const tags = tagKey === undefined ? undefined : { key: fileTagKey(tagKey, file.path), ask: tell };
			return peer && { ...peer, tags, used: () => coding.measured };
		},
		async touch(signal) {
			const index = files.findIndex((file) => file.size_bytes > 0);
			if (index < 0) return;
			const response = await ask(index, "bytes=0-0", signal);
			await response.body?.cancel();
			if (response.status !== 206) throw peerError(response, input.model, clock.nowMs());
		},
	};
}

/** Only of a literal address: a name would have to be looked up once more. */
function plainPeer(partUrl: string, grant: string): Omit<PlainPeer, "tags"> | undefined {
	const { protocol, hostname, port, host, pathname } = new URL(partUrl);
	const address = hostname.replace(/^\[(.*)\]$/, "$1");
	if (protocol !== "http:" || isIP(address) === 0 || !/^[\x21-\x7e]+$/.test(grant)) return undefined;
	const lines = [
		`GET ${pathname} HTTP/1.1`,
		`Host: ${host}`,
		`Authorization: Bearer ${grant}`,
		"Accept-Encoding: identity",
	];
	return {
		address,
		port: Number(port === "" ? 80 : port),
		request: lines.map((line) => `${line}\r\n`).join(""),
	};
}

/** What a sealed manifest says of the files; they are numbered by their paths. */
export function describeSealed(
	files: Manifest["files"],
	{ uri, model, revision }: { uri: string; model: ModelName; revision: Revision },
): SourceDescription {
	return describeFiles({
		uri,
		revision,
		suggestedName: model,
		files: files.map(
			(file): SourceFile => ({
				path: parseSafePath(file.path),
				sizeBytes: file.size_bytes,
				digest: { algorithm: "sha256", hex: file.sha256 },
				rangeable: true,
				parts: { partSizeBytes: file.part_size_bytes, xxh64: file.xxh64 },
			}),
		),
	});
}

/** Why another node does not give what was asked for. */
export function peerError(response: Response, what: string, nowMs: number): GswarmError {
	if (response.status === 401 || response.status === 403) {
		return new GswarmError("TASK_FAILED", `The node that holds ${what} does not know our grant.`, {
			reason: "grant_refused",
			details: { status: response.status },
			// Grants live in the source's memory: after its restart the next run asks the host for another.
			retryable: true,
		});
	}
	return statusError(response, `${what} on another node`, nowMs);
}
