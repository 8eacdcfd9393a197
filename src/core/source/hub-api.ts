/** The hub's API: pins a revision to its commit and lists the files of that commit. What it answers is not trusted. */
import { z } from "zod";
import type { OutboundAnswer } from "../../platform/outbound.ts";
import { parseSafePath } from "../../platform/safe-path.ts";
import { badAnswer } from "./answer.ts";
import type { SourceFile } from "./contract.ts";
import { MAX_FILES } from "./description.ts";
import type { HubUri } from "./source-uri.ts";

/** One repository of one hub, with the credentials that go with it. */
export interface Hub {
	uri: HubUri;
	/** The endpoint without a final slash. */
	base: string;
	/** JSON of the hub, within a limit of time. */
	getJson(
		url: string,
		limitBytes: number,
		signal: AbortSignal,
	): Promise<{ response: Response; json: unknown }>;
	get(url: string, headers: Record<string, string>, signal: AbortSignal): Promise<OutboundAnswer>;
	/** The error of an answer that is no success. */
	failed(response: Response): Promise<Error>;
}

export interface ListedFile {
	/** As the hub says; not yet a safe path. */
	path: string;
	sizeBytes: number;
	digest: SourceFile["digest"];
}

const MAX_INFO_BYTES = 16 * 1024 * 1024;
const MAX_PAGE_BYTES = 8 * 1024 * 1024;
const MAX_PAGES = 1000;
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

/** The commit that the revision means now. */
export async function pinCommit(hub: Hub, signal: AbortSignal): Promise<string> {
	const revision = encodeURIComponent(hub.uri.revision ?? "main");
	const url = `${hub.base}/api/models/${hub.uri.repository}/revision/${revision}`;
	const { json } = await hub.getJson(url, MAX_INFO_BYTES, signal);
	const info = infoSchema.safeParse(json);
	if (!info.success) throw badAnswer(`The hub named no commit for ${hub.uri.repository}`, info.error);
	const { sha } = info.data;
	if (COMMIT.test(hub.uri.revision ?? "") && sha !== hub.uri.revision) {
		throw badAnswer(`The hub answered commit ${sha} for ${hub.uri.repository}@${hub.uri.revision}`);
	}
	return sha;
}

/** Every file of the commit, from all pages. */
export async function listFiles(hub: Hub, commit: string, signal: AbortSignal): Promise<ListedFile[]> {
	const { base, uri } = hub;
	const files: ListedFile[] = [];
	let url: string | undefined = `${base}/api/models/${uri.repository}/tree/${commit}?recursive=true`;
	for (let pages = 0; url !== undefined; pages++) {
		if (pages >= MAX_PAGES || files.length > MAX_FILES)
			throw badAnswer(`The list of files of ${uri.repository} has no end`);
		const { response, json } = await hub.getJson(url, MAX_PAGE_BYTES, signal);
		const page = pageSchema.safeParse(json);
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
