/**
 * Repositories of the Hugging Face hub, or of what speaks its protocol (https://huggingface.co/docs/hub/api):
 * `/api/models/{id}/revision/{rev}` pins the commit, `/api/models/{id}/tree/{commit}` lists files page by page with
 * their hashes, `/{id}/resolve/{commit}/{path}` redirects to signed, expiring URLs of a CDN. A signed URL is kept and
 * used for all ranges of its file, because resolves are rationed; when it is refused the hub is asked again.
 */
import { z } from "zod";
import type { Clock } from "../../platform/clock.ts";
import { sha256Hex } from "../../platform/hash.ts";
import type { Outbound, OutboundAnswer } from "../../platform/outbound.ts";
import { parseSafePath, pathProblem } from "../../platform/safe-path.ts";
import { invalid } from "../../schema/errors.ts";
import { parseRevision, type Revision } from "../../schema/names.ts";
import {
	badAnswer,
	checkedBody,
	rangeHeader,
	rangeToAsk,
	readJson,
	sourceChanged,
	type Validator,
	validatorOf,
} from "./answer.ts";
import type { Source, SourceFile } from "./contract.ts";
import { describeFiles, MAX_FILES } from "./description.ts";
import { hubError } from "./hub-errors.ts";
import { chooseFiles, type FileChoice } from "./hub-files.ts";
import { formatSourceUri, type HubUri, suggestedName } from "./source-uri.ts";

export interface HubEndpoint {
	/** Default https://huggingface.co; its origin must be one that the outbound client allows. */
	endpoint?: string | undefined;
	/** Sent to the endpoint's origin only. */
	token?: string | undefined;
}

const DEFAULT_ENDPOINT = "https://huggingface.co";
const MAX_INFO_BYTES = 16 * 1024 * 1024;
const MAX_PAGE_BYTES = 8 * 1024 * 1024;
const MAX_PAGES = 1000;
/** What a CDN answers for a signed URL that is no longer valid. */
const EXPIRED: readonly number[] = [400, 401, 403, 404, 410];

const COMMIT = /^[0-9a-f]{40}([0-9a-f]{24})?$/;

/** Absolute, with a drive, with other separators, going up or nowhere, with control characters. */
const HOSTILE = /^\/|^[A-Za-z]:|\\|(^|\/)\.{0,2}(\/|$)|\p{Cc}/u;

const infoSchema = z.object({ sha: z.string().regex(COMMIT) });
const entrySchema = z.object({
	type: z.string(),
	path: z.string(),
	size: z.number().nonnegative().optional(),
	oid: z.string().optional(),
	lfs: z.object({ oid: z.string(), size: z.number().nonnegative() }).nullish(),
});
const pageSchema = z.array(entrySchema).max(MAX_FILES);
type Entry = z.infer<typeof entrySchema>;

export function createHubSource(
	{ outbound, clock }: { outbound: Outbound; clock: Clock },
	uri: HubUri,
	{ endpoint = DEFAULT_ENDPOINT, token }: HubEndpoint = {},
	choice: Pick<FileChoice, "include" | "exclude" | "allFiles"> = {},
): Source {
	const base = endpoint.replace(/\/+$/, "");
	const hub: Hub = {
		uri,
		base,
		failed: (response) => hubError(response, uri, { hasToken: token !== undefined, nowMs: clock.nowMs() }),
		get: (url, headers, signal) =>
			outbound.request(url, {
				headers,
				signal,
				credential: token === undefined ? undefined : { origin: base, header: `Bearer ${token}` },
			}),
	};
	let reader: ReturnType<typeof createReader> | undefined;

	return {
		localDirectory: undefined,
		async describe(signal) {
			const commit = await pinCommit(hub, signal);
			const listed = await listFiles(hub, commit, signal);
			const { quantisation, path } = uri;
			const chosen = chooseFiles(listed, { ...choice, quantisation, path });
			reader = createReader(hub, commit);
			return describeFiles({
				uri: formatSourceUri(uri, commit),
				revision: revisionOf(commit, listed, chosen, quantisation),
				suggestedName: suggestedName(uri),
				files: chosen.map(toSourceFile),
			});
		},
		async read(file, range, signal) {
			if (reader === undefined) throw new Error("a source is described before it is read");
			if (file.sizeBytes === 0) return new Blob([]).stream();
			return await reader(file, rangeToAsk(file, range) ?? { start: 0, end: 0 }, signal);
		},
	};
}

interface Hub {
	uri: HubUri;
	base: string;
	get(url: string, headers: Record<string, string>, signal: AbortSignal): Promise<OutboundAnswer>;
	failed(response: Response): Promise<Error>;
}

interface ListedFile {
	path: string;
	sizeBytes: number;
	digest: SourceFile["digest"];
}

async function pinCommit(hub: Hub, signal: AbortSignal): Promise<string> {
	const revision = encodeURIComponent(hub.uri.revision ?? "main");
	const url = `${hub.base}/api/models/${hub.uri.repository}/revision/${revision}`;
	const { response } = await hub.get(url, { accept: "application/json" }, signal);
	if (response.status !== 200) throw await hub.failed(response);
	const info = infoSchema.safeParse(await readJson(response, hub.uri.repository, MAX_INFO_BYTES));
	if (!info.success) throw badAnswer(`The hub named no commit for ${hub.uri.repository}`, info.error);
	const { sha } = info.data;
	if (COMMIT.test(hub.uri.revision ?? "") && sha !== hub.uri.revision) {
		throw badAnswer(`The hub answered commit ${sha} for ${hub.uri.repository}@${hub.uri.revision}`);
	}
	return sha;
}

async function listFiles(hub: Hub, commit: string, signal: AbortSignal): Promise<ListedFile[]> {
	const { base, uri } = hub;
	const files: ListedFile[] = [];
	let url: string | undefined = `${base}/api/models/${uri.repository}/tree/${commit}?recursive=true`;
	for (let pages = 0; url !== undefined; pages++) {
		if (pages >= MAX_PAGES || files.length > MAX_FILES)
			throw badAnswer(`The list of files of ${uri.repository} has no end`);
		const { response } = await hub.get(url, { accept: "application/json" }, signal);
		if (response.status !== 200) throw await hub.failed(response);
		const page = pageSchema.safeParse(await readJson(response, uri.repository, MAX_PAGE_BYTES));
		if (!page.success)
			throw badAnswer(`The hub listed the files of ${uri.repository} in an unknown form`, page.error);
		files.push(...page.data.filter(({ type }) => type === "file").map(toListedFile));
		url = nextPage(response, url, base);
	}
	return files;
}

/** The page that `Link: <…>; rel="next"` names; only the hub itself can have it. */
function nextPage(response: Response, current: string, base: string): string | undefined {
	const link = /<([^<>]*)>\s*;[^,]*\brel="?next"?/.exec(response.headers.get("link") ?? "")?.[1];
	if (link === undefined) return undefined;
	const next = URL.parse(link, current);
	if (next === null || next.origin !== new URL(base).origin || next.href === current) {
		throw badAnswer("The hub's list of files goes on at another place");
	}
	return next.href;
}

/** @throws INVALID_REQUEST unsafe_filename for a name that tries to leave its directory, chosen or not */
function toListedFile({ path, size, oid, lfs }: Entry): ListedFile {
	if (HOSTILE.test(path)) parseSafePath(path);
	const sizeBytes = lfs?.size ?? size ?? 0;
	const digest =
		lfs != null
			? digestOf("sha256", lfs.oid, /^[0-9a-f]{64}$/)
			: digestOf("git-sha1", oid ?? "", /^[0-9a-f]{40}$/);
	return { path, sizeBytes, digest };
}

function digestOf(algorithm: "sha256" | "git-sha1", hex: string, form: RegExp): SourceFile["digest"] {
	return form.test(hex) ? { algorithm, hex } : undefined;
}

function toSourceFile({ path, sizeBytes, digest }: ListedFile): SourceFile {
	if (pathProblem(path) !== undefined) {
		throw invalid(
			"unsafe_filename",
			`The repository's file ${JSON.stringify(path.slice(0, 200))} cannot be stored: ${pathProblem(path)}.`,
			{ path: path.slice(0, 200) },
			"Leave it out with exclude.",
		);
	}
	return { path: parseSafePath(path), sizeBytes, digest, rangeable: true, parts: undefined };
}

/**
 * The commit; a choice of files that is not the repository's default gets a suffix, so that two choices of one
 * commit can stand side by side.
 */
function revisionOf(
	commit: string,
	listed: readonly ListedFile[],
	chosen: readonly ListedFile[],
	quantisation: string | undefined,
): Revision {
	const paths = (files: readonly ListedFile[]): string =>
		JSON.stringify(files.map(({ path }) => path).sort());
	if (paths(chosen) === paths(defaultChoice(listed))) return parseRevision(commit);
	const ofQuantisation =
		quantisation !== undefined && paths(chosen) === paths(chooseFiles(listed, { quantisation }));
	const suffix = ofQuantisation ? quantisation.toUpperCase() : sha256Hex(paths(chosen)).slice(0, 12);
	return parseRevision(`${commit}.${suffix}`);
}

/** Empty for a repository where one has to choose. */
function defaultChoice(listed: readonly ListedFile[]): readonly ListedFile[] {
	try {
		return chooseFiles(listed, {});
	} catch {
		return [];
	}
}

type Reader = (
	file: SourceFile,
	range: { start: number; end: number },
	signal: AbortSignal,
) => Promise<ReadableStream<Uint8Array>>;

function createReader(hub: Hub, commit: string): Reader {
	/** Where the hub said a file is, until that is refused. */
	const places = new Map<string, string>();
	/** Requests that are finding out; ranges of the same file wait for them. */
	const asking = new Map<string, Promise<unknown>>();
	const validators = new Map<string, Validator>();

	const ask = async (
		path: string,
		headers: Record<string, string>,
		signal: AbortSignal,
	): Promise<Response> => {
		const segments = path.split("/").map(encodeURIComponent).join("/");
		const url = `${hub.base}/${hub.uri.repository}/resolve/${commit}/${segments}`;
		const request = hub.get(url, headers, signal);
		asking.set(path, request);
		try {
			const answer = await request;
			if (answer.response.ok) places.set(path, answer.url);
			return answer.response;
		} finally {
			if (asking.get(path) === request) asking.delete(path);
		}
	};
	const open = async (
		path: string,
		headers: Record<string, string>,
		signal: AbortSignal,
	): Promise<Response> => {
		for (let other = asking.get(path); other !== undefined; other = asking.get(path)) {
			await other.catch(() => undefined); // its own caller hears of a failure
		}
		const place = places.get(path);
		if (place === undefined) return await ask(path, headers, signal);
		const { response } = await hub.get(place, headers, signal);
		if (!EXPIRED.includes(response.status)) return response;
		await response.body?.cancel();
		if (places.get(path) === place) places.delete(path);
		return await open(path, headers, signal);
	};
	return async (file, range, signal) => {
		const what = `${hub.uri.repository}/${file.path}`;
		const response = await open(file.path, { range: rangeHeader(range) }, signal);
		if (response.status === 416) {
			await response.body?.cancel();
			throw sourceChanged(what, `${file.sizeBytes} bytes`, "a shorter file");
		}
		if (!response.ok) throw await hub.failed(response);
		const validator = validators.get(file.path);
		validators.set(file.path, validatorOf(response));
		return await checkedBody(response, { what, range, sizeBytes: file.sizeBytes, validator });
	};
}
