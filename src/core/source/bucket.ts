/**
 * Objects of a bucket: everything below a prefix, or one object. Each is pinned by its ETag, which every read names
 * (If-Match), so that a mixture of two versions cannot come. ETags are no digests; a model that gswarm uploaded has
 * its manifest beside it, and is checked against that.
 */
import type { Clock } from "../../platform/clock.ts";
import { withDeadline } from "../../platform/deadline.ts";
import { sha256Hex } from "../../platform/hash.ts";
import { networkError } from "../../platform/network-error.ts";
import type { Outbound } from "../../platform/outbound.ts";
import { readBounded } from "../../platform/body-reader.ts";
import { parseJson } from "../../platform/safe-json.ts";
import { parseSafePath } from "../../platform/safe-path.ts";
import { GswarmError, invalid, notFound } from "../../schema/errors.ts";
import { type Manifest, manifestSchema } from "../../schema/manifest.ts";
import { parseRevision } from "../../schema/names.ts";
import { badAnswer, checkedBody, rangeHeader, rangeToAsk, sourceChanged } from "./answer.ts";
import { type BucketLine, type BucketService, createBucketLine } from "./bucket-line.ts";
import { type ListedObject, parseListPage } from "./bucket-list.ts";
import type { BucketUri } from "./bucket-uri.ts";
import type { Source, SourceFile } from "./contract.ts";
import type { CredentialLookUp } from "./credential.ts";
import { describeFiles, MAX_FILES } from "./description.ts";
import { matchesPattern } from "./fnmatch.ts";
import { archiveKind, formatSourceUri, lastSegment, suggestedName } from "./source-uri.ts";

/** Beside the files of a model that gswarm uploaded; written last. */
export const BUCKET_MANIFEST = ".gswarm-manifest.json";

const MAX_PAGE_BYTES = 16 * 1024 * 1024;
const MAX_PAGES = 1000;
const PAGE_TIMEOUT_MS = 60_000;
const MAX_MANIFEST_BYTES = 32 * 1024 * 1024;

export function createBucketSource(
	dependencies: { outbound: Outbound; clock: Clock; credentials?: CredentialLookUp | undefined },
	uri: BucketUri,
	service: BucketService,
	choice: { include?: readonly string[] | undefined; exclude?: readonly string[] | undefined } = {},
): Source {
	const line = createBucketLine(dependencies, uri, service);
	/** By path of the description. */
	let objects = new Map<string, ListedObject>();

	return {
		async describe(signal) {
			const found = await findObjects({ ...dependencies, line, uri, service }, signal);
			const manifest = await readManifest(line, uri, found, signal);
			const files = found.filter(({ path }) => path !== BUCKET_MANIFEST && isWanted(path, choice));
			if (files.length === 0 && found.length > 0) {
				throw invalid("no_files_match", `None of the ${found.length} objects matches include and exclude.`, {
					include: choice.include ?? [],
					exclude: choice.exclude ?? [],
				});
			}
			objects = new Map(files.map(({ path, object }) => [path, object]));
			return describeFiles({
				uri: formatSourceUri(uri),
				revision: parseRevision(`${uri.scheme}-${sha256Hex(JSON.stringify(files)).slice(0, 40)}`),
				suggestedName: suggestedName(uri),
				archive: isOneObject(uri, found) ? archiveKind(lastSegment(uri)) : undefined,
				files: files.map((file) => toSourceFile(file, manifest)),
			});
		},
		async read(file, range, signal) {
			const object = objects.get(file.path);
			if (object === undefined) throw notFound("file", file.path);
			const wanted = rangeToAsk(file, range);
			if (wanted === undefined || object.sizeBytes === 0) return new Blob([]).stream();
			const what = shown(uri, object.key);
			const headers = { range: rangeHeader(wanted), "if-match": object.etag };
			const response = await line.send({ key: object.key, headers, signal });
			if (response.status === 416) {
				await response.body?.cancel();
				throw sourceChanged(what, `${file.sizeBytes} bytes`, "a shorter object");
			}
			if (response.status !== 200 && response.status !== 206) throw await line.failed(response, what);
			const validator = { etag: object.etag, lastModified: undefined };
			return await checkedBody(response, { what, range: wanted, sizeBytes: file.sizeBytes, validator });
		},
	};
}

interface FoundObject {
	/** Below the prefix. */
	path: string;
	object: ListedObject;
}

interface Finding {
	line: BucketLine;
	clock: Clock;
	uri: BucketUri;
	service: BucketService;
}

/** What is below the prefix; where there is nothing, the object with exactly this key. */
async function findObjects(finding: Finding, signal: AbortSignal): Promise<FoundObject[]> {
	const { uri } = finding;
	const prefix = uri.key === "" ? "" : `${uri.key}/`;
	const below = await listAll(finding, prefix, signal);
	if (below.length > 0) {
		// An object whose key ends with a slash is how some tools make a folder.
		const files = below.filter(({ key }) => !key.endsWith("/"));
		return files.map((object) => ({ path: object.key.slice(prefix.length), object }));
	}
	if (uri.isFolder) throw nothingThere(uri);
	const { objects } = await listPage(finding, { prefix: uri.key, "max-keys": "1" }, signal);
	const object = objects.find(({ key }) => key === uri.key);
	if (object === undefined) throw nothingThere(uri);
	return [{ path: lastSegment(uri), object }];
}

function isOneObject({ key }: BucketUri, found: readonly FoundObject[]): boolean {
	return found.length === 1 && found[0]?.object.key === key;
}

async function listAll(finding: Finding, prefix: string, signal: AbortSignal): Promise<ListedObject[]> {
	const objects: ListedObject[] = [];
	const seen = new Set<string>();
	let next: string | undefined;
	for (let pages = 0; ; pages++) {
		const more: Record<string, string> = next === undefined ? {} : { "continuation-token": next };
		const page = await listPage(finding, { prefix, ...more }, signal);
		for (const object of page.objects) {
			if (!object.key.startsWith(prefix))
				throw badAnswer(`The list of ${finding.uri.bucket} has what was not asked for`);
			objects.push(object);
		}
		if (page.next === undefined) return objects;
		if (pages >= MAX_PAGES || objects.length > MAX_FILES || seen.has(page.next))
			throw badAnswer(`The list of ${finding.uri.bucket} has no end`);
		seen.add(page.next);
		next = page.next;
	}
}

async function listPage(
	{ line, clock, uri, service }: Finding,
	query: Record<string, string>,
	signal: AbortSignal,
) {
	const { host } = new URL(service.endpoint);
	return await withDeadline({ clock }, { limitMs: PAGE_TIMEOUT_MS, host, signal }, async (limited) => {
		const asked = { "list-type": "2", "encoding-type": "url", ...query };
		const response = await line.send({ key: "", query: asked, signal: limited });
		if (response.status !== 200) throw await line.failed(response, `the list of ${uri.bucket}`);
		return parseListPage(
			new TextDecoder().decode(await bounded(response, MAX_PAGE_BYTES, uri.bucket)),
			uri.bucket,
		);
	});
}

/** Of a model that gswarm uploaded: its own list of files with their digests, which must fit what is there. */
async function readManifest(
	line: BucketLine,
	uri: BucketUri,
	found: readonly FoundObject[],
	signal: AbortSignal,
): Promise<Manifest | undefined> {
	const object = found.find(({ path }) => path === BUCKET_MANIFEST)?.object;
	if (object === undefined) return undefined;
	const response = await line.send({ key: object.key, headers: { "if-match": object.etag }, signal });
	if (response.status !== 200) throw await line.failed(response, shown(uri, object.key));
	const bytes = await bounded(response, MAX_MANIFEST_BYTES, uri.bucket);
	let manifest: Manifest;
	try {
		manifest = manifestSchema.parse(parseJson(bytes));
	} catch (cause) {
		throw badManifest(uri, "it is not one that gswarm wrote", cause);
	}
	const sizes = new Map(found.map(({ path, object: { sizeBytes } }) => [path, sizeBytes]));
	for (const { path, size_bytes: size } of manifest.files)
		if (sizes.get(path) !== size)
			throw badManifest(
				uri,
				`${JSON.stringify(path.slice(0, 200))} is ${sizes.get(path) ?? "not there"} instead of ${size}`,
			);
	if (manifest.files.length !== found.length - 1)
		throw badManifest(uri, "there are other objects beside its files");
	return manifest;
}

function toSourceFile({ path, object }: FoundObject, manifest: Manifest | undefined): SourceFile {
	const sha256 = manifest?.files.find((file) => file.path === path)?.sha256;
	return {
		path: parseSafePath(path),
		sizeBytes: object.sizeBytes,
		digest: sha256 === undefined ? undefined : { algorithm: "sha256", hex: sha256 },
		rangeable: true,
		parts: undefined,
	};
}

function isWanted(
	path: string,
	{
		include = [],
		exclude = [],
	}: { include?: readonly string[] | undefined; exclude?: readonly string[] | undefined },
): boolean {
	const matches = (patterns: readonly string[]): boolean =>
		patterns.some((pattern) => matchesPattern(path, pattern));
	return (include.length === 0 || matches(include)) && !matches(exclude);
}

async function bounded(response: Response, limitBytes: number, bucket: string): Promise<Uint8Array> {
	try {
		return await readBounded(response.body, limitBytes);
	} catch (error) {
		if (!(error instanceof GswarmError)) throw networkError(error, bucket);
		throw badAnswer(`${bucket} answered more than ${limitBytes} bytes`, error);
	}
}

function shown({ scheme, bucket }: BucketUri, key: string): string {
	return `${scheme}://${bucket}/${key}`;
}

function nothingThere(uri: BucketUri): GswarmError {
	return new GswarmError("TASK_FAILED", `${formatSourceUri(uri)} has no objects.`, {
		reason: "not_found",
		hint: "A prefix stands for a folder: its last word is matched whole.",
	});
}

function badManifest(uri: BucketUri, why: string, cause?: unknown): GswarmError {
	return new GswarmError(
		"TASK_FAILED",
		`The manifest beside the files of ${formatSourceUri(uri)} does not fit: ${why}.`,
		{
			reason: "bad_manifest",
			hint: `Upload the model again, or remove ${BUCKET_MANIFEST} there to do without digests.`,
			cause,
		},
	);
}
