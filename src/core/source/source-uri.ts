/** What people type for a source, parsed: hub repositories, registries, buckets, URLs of files and archives, import folders. */
import { parseOutboundUrl, withoutSecrets } from "../../platform/outbound-guard.ts";
import { type GswarmError, invalid } from "../../schema/errors.ts";
import { type ModelName, parseModelName } from "../../schema/names.ts";
import { type BucketUri, formatBucketUri, parseBucketUrl } from "./bucket-uri.ts";
import type { ArchiveKind } from "./contract.ts";
import { formatRegistryUri, nameOfArtifact, parseRegistryName, type RegistryUri } from "./registry-uri.ts";

export interface HubUri {
	kind: "hub";
	/** `org/name`, or `name` for the few old repositories without an organisation. */
	repository: string;
	/** Branch, tag, commit or `refs/pr/N`; undefined: main. */
	revision: string | undefined;
	/** One quantisation of a GGUF repository, e.g. `Q4_K_M`. */
	quantisation: string | undefined;
	/** One file alone. */
	path: string | undefined;
}

export interface HttpUri {
	kind: "http";
	url: string;
	/** Hex digest the person claims with `#sha256=…`. */
	sha256: string | undefined;
}

export interface FileUri {
	kind: "file";
	/** Absolute path of a file or directory. */
	path: string;
}

export type SourceUri = HubUri | HttpUri | FileUri | RegistryUri | BucketUri;

export interface SourceUriOptions {
	/** Origins whose pages are hub repositories besides huggingface.co, e.g. that of HF_ENDPOINT. */
	hubOrigins?: readonly string[];
}

const MAX_LENGTH = 4096;
const REPOSITORY = String.raw`[A-Za-z0-9][\w.-]{0,95}(?:/[A-Za-z0-9][\w.-]{0,95})?`;
const HUB_NAME = new RegExp(String.raw`^(${REPOSITORY})(?:@([^:@]+))?(?::([^:@]+))?$`);
const REVISION = /^[A-Za-z0-9][\w.-]*(?:\/[A-Za-z0-9][\w.-]*)*$/;
const QUANTISATION = /^[A-Za-z0-9][\w.-]{0,63}$/;
const HUB_HOSTS: readonly string[] = ["huggingface.co", "www.huggingface.co", "hf.co"];
/** First words of hub pages that are no organisation. */
const HUB_SECTIONS: readonly string[] = [
	"datasets",
	"spaces",
	"docs",
	"models",
	"api",
	"collections",
	"papers",
	"blog",
];
const EXAMPLES =
	"Sources look like hf:org/name, hf:org/name@revision, hf:org/name:Q4_K_M, https://host/model.gguf, ollama:name:tag, oci://registry/name:tag, s3://bucket/prefix or file:///folder.";

/** @throws INVALID_REQUEST bad_source, scheme_not_allowed, bad_url, credentials_in_url, bad_digest */
export function parseSourceUri(text: string, { hubOrigins = [] }: SourceUriOptions = {}): SourceUri {
	if (text.length > MAX_LENGTH || /[\s\p{Cc}]/u.test(text))
		throw badSource(text, "it is too long or has spaces");
	const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):/.exec(text)?.[1]?.toLowerCase();
	switch (scheme) {
		case undefined:
			if (!text.includes("/")) throw badSource(text, "a name without an organisation is no source");
			return parseHubName(text, text);
		case "hf":
			return parseHubName(text.slice(3).replace(/^\/\//, ""), text);
		case "http":
		case "https":
			return parseWebUrl(text, hubOrigins);
		case "file":
			return parseFileUrl(text);
		case "ollama":
		case "oci":
			return parseArtifact(scheme, text);
		case "s3":
		case "gs":
			return parseObjects(scheme, text);
		default:
			throw badScheme(scheme);
	}
}

/** The source as a person writes it, without secrets. A revision of a hub or registry may be replaced by the pinned one. */
export function formatSourceUri(uri: SourceUri, commit?: string): string {
	switch (uri.kind) {
		case "hub":
			return formatHubUri({ ...uri, revision: commit ?? uri.revision });
		case "http":
			return `${withoutSecrets(uri.url)}${uri.sha256 === undefined ? "" : `#sha256=${uri.sha256}`}`;
		case "file":
			return `file://${uri.path.split("/").map(encodeURIComponent).join("/")}`;
		case "registry":
			return formatRegistryUri(uri, commit);
		case "bucket":
			return formatBucketUri(uri);
	}
}

/** The name a model gets when nobody names it: the repository, or the file's name without its ending. */
export function suggestedName(uri: SourceUri): ModelName {
	if (uri.kind === "hub") return parseModelName(uri.repository);
	if (uri.kind === "registry") return parseModelName(nameOfArtifact(uri));
	const last = lastSegment(uri);
	const stem = last.replace(/\.(tar\.gz|tgz|tar|[A-Za-z][A-Za-z0-9]{1,11})$/i, "");
	const letters = stem
		.replaceAll(/[^A-Za-z0-9._-]+/g, "-")
		.replaceAll(/\.{2,}/g, ".")
		.replace(/^[^A-Za-z0-9]+/, "");
	return parseModelName(letters.slice(0, 96).replace(/[._-]+$/, "") || "model");
}

/** Decoded name of the file that the URL or path ends with; may be empty or unsafe. */
export function lastSegment(uri: HttpUri | FileUri | BucketUri): string {
	if (uri.kind === "bucket") return uri.key.split("/").at(-1) ?? "";
	if (uri.kind === "file") return uri.path.split("/").findLast((segment) => segment !== "") ?? "";
	const segment = new URL(uri.url).pathname.split("/").at(-1) ?? "";
	return decoded(segment) ?? segment;
}

/** Whether a file of this name is an archive whose contents are the model. */
export function archiveKind(fileName: string): ArchiveKind | undefined {
	if (/\.(tar\.gz|tgz)$/i.test(fileName)) return "tar.gz";
	return /\.tar$/i.test(fileName) ? "tar" : undefined;
}

function formatHubUri({ repository, revision, quantisation, path }: HubUri): string {
	if (path !== undefined) {
		const file = path.split("/").map(encodeURIComponent).join("/");
		return `https://huggingface.co/${repository}/resolve/${revision ?? "main"}/${file}`;
	}
	const at = revision === undefined ? "" : `@${revision}`;
	return `hf:${repository}${at}${quantisation === undefined ? "" : `:${quantisation}`}`;
}

function parseHubName(name: string, text: string): HubUri {
	const [, repository, revision, quantisation] = HUB_NAME.exec(name) ?? [];
	if (repository === undefined || repository.includes("..")) throw badSource(text, "wanted org/name");
	if (revision !== undefined && !isRevision(revision))
		throw badSource(text, `${JSON.stringify(revision)} is no revision`);
	if (quantisation !== undefined && !QUANTISATION.test(quantisation)) {
		throw badSource(text, `${JSON.stringify(quantisation)} is no quantisation`);
	}
	return { kind: "hub", repository, revision, quantisation, path: undefined };
}

function isRevision(text: string): boolean {
	return text.length <= 200 && REVISION.test(text) && !text.includes("..");
}

function parseWebUrl(text: string, hubOrigins: readonly string[]): HubUri | HttpUri {
	const claimed = /#sha256=(.*)$/.exec(text)?.[1];
	const url = parseOutboundUrl(text);
	if (claimed !== undefined && !/^[0-9a-f]{64}$/i.test(claimed)) {
		throw invalid(
			"bad_digest",
			`${JSON.stringify(claimed.slice(0, 80))} is not a sha256: wanted 64 hex digits.`,
			{ field: "source_url" },
		);
	}
	const isHub =
		HUB_HOSTS.includes(url.hostname) || hubOrigins.some((origin) => new URL(origin).origin === url.origin);
	if (isHub && claimed === undefined) return parseHubPage(url);
	return { kind: "http", url: url.href, sha256: claimed?.toLowerCase() };
}

/** `/org/name`, `/org/name/tree/rev`, `/org/name/blob/rev/file`, `/org/name/resolve/rev/file`. */
function parseHubPage(url: URL): HubUri {
	const words = (decoded(url.pathname) ?? "").split("/").filter((word) => word !== "");
	const [first = "", second, view, ...rest] = words;
	if (first === "" || HUB_SECTIONS.includes(first))
		throw badSource(url.href, "it is not the page of a model");
	const uri = parseHubName(second === undefined ? first : `${first}/${second}`, url.href);
	if (view === undefined) return uri;
	const revision = rest.splice(0, rest[0] === "refs" ? 3 : 1).join("/");
	if (!isRevision(revision)) throw badSource(url.href, "its revision is missing");
	const path = rest.join("/");
	if (view === "tree" && path === "") return { ...uri, revision };
	if ((view === "blob" || view === "resolve") && path !== "") return { ...uri, revision, path };
	throw badSource(
		url.href,
		"wanted the page of a repository or of one file; a folder is chosen with include",
	);
}

function parseArtifact(scheme: "ollama" | "oci", text: string): RegistryUri {
	const name = text.slice(scheme.length + 1);
	if (/^\/\/[^/]*@/.test(name) && !/^\/\/[^/@]*\/.*@/.test(name)) throw credentialsInUrl(scheme);
	const uri = parseRegistryName(scheme, name);
	if (uri !== undefined) return uri;
	throw badSource(
		text,
		scheme === "oci"
			? "wanted oci://registry/name:tag"
			: "wanted ollama:name:tag or ollama:namespace/name:tag",
	);
}

function parseObjects(scheme: "s3" | "gs", text: string): BucketUri {
	if (/^[^/]*\/\/[^/]*@/.test(text)) throw credentialsInUrl(scheme);
	const uri = parseBucketUrl(scheme, text);
	if ("problem" in uri) throw badSource(text, uri.problem);
	return uri;
}

function parseFileUrl(text: string): FileUri {
	const url = URL.parse(text);
	const path = decoded(url?.pathname ?? "%");
	if (url === null || path === undefined) throw badSource(text, "it is not a URL");
	if (url.host !== "" || !/^file:\/\/\//i.test(text) || /\p{Cc}/u.test(path)) {
		throw badSource(text, "wanted file:/// and an absolute path");
	}
	// Encoded slashes and dots, which the URL parser left alone.
	if (path.split("/").some((segment) => segment === "." || segment === "..")) {
		throw badSource(text, "its path goes up");
	}
	if (url.search !== "" || url.hash !== "") throw badSource(text, "write ? as %3F and # as %23");
	return { kind: "file", path: path.length > 1 ? path.replace(/\/+$/, "") : path };
}

/** Undefined when the percent signs make no UTF-8. */
function decoded(text: string): string | undefined {
	try {
		return decodeURIComponent(text);
	} catch {
		return undefined;
	}
}

function badScheme(scheme: string): GswarmError {
	return invalid(
		"scheme_not_allowed",
		`Sources with ${JSON.stringify(scheme.slice(0, 40))}: are not allowed.`,
		{ field: "source_url", scheme: scheme.slice(0, 40) },
		EXAMPLES,
	);
}

function credentialsInUrl(scheme: string): GswarmError {
	return invalid(
		"credentials_in_url",
		`The ${scheme} source holds a user name or password; it would end up in tasks and logs.`,
		{ field: "source_url" },
		"Leave the part before @ out.",
	);
}

function badSource(text: string, why: string): GswarmError {
	const shown = /^https?:/i.test(text) ? withoutSecrets(text) : text;
	return invalid(
		"bad_source",
		`${JSON.stringify(shown.slice(0, 120))} is not a source: ${why}.`,
		{ field: "source_url" },
		EXAMPLES,
	);
}
