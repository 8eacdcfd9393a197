/**
 * Where models come from. A Source first describes itself (revision pinned, files, sizes, the digests it claims),
 * then answers ranged reads; after its description it keeps nothing that a read changes but where files are, so that
 * any number of streams may use one at once.
 * Kinds: hub (Hugging Face protocol), registry (Ollama's and OCI's), bucket (S3's protocol), http (file or archive),
 * file (configured import folders), peer (another node).
 * A source does not write, verify or retry: transfer does. It does not read the environment either: endpoint, token
 * and folders are given. Everything from outside comes through the outbound client with its guard.
 */
import type { Clock } from "../../platform/clock.ts";
import type { Outbound } from "../../platform/outbound.ts";
import { invalid } from "../../schema/errors.ts";
import { createBucketSource } from "./bucket.ts";
import { type BucketWriter, createBucketWriter } from "./bucket-writer.ts";
import type { BucketService } from "./bucket-line.ts";
import type { BucketUri } from "./bucket-uri.ts";
import type { Source } from "./contract.ts";
import type { CredentialLookUp } from "./credential.ts";
import { createFileSource, importFolderOf } from "./file.ts";
import { createHttpSource } from "./http.ts";
import { createHubSource, type HubEndpoint } from "./hub.ts";
import { createRegistrySource, type Registries, registryOrigin } from "./registry.ts";
import { formatSourceUri, parseSourceUri, type SourceUri } from "./source-uri.ts";

/** What an agent gives to every source it opens. */
export interface SourceContext {
	outbound: Outbound;
	clock: Clock;
	/** HF_ENDPOINT and HF_TOKEN of the agent's configuration. */
	hub?: HubEndpoint | undefined;
	/** Where `ollama:` is, and who may give tokens for registries. */
	registries?: Registries | undefined;
	/** Where buckets are, for the schemes that the agent's configuration allows. */
	buckets?: Partial<Record<BucketUri["scheme"], BucketService>> | undefined;
	/** Asks for what people stored for an origin; without it there is only the token of the environment. */
	credentials?: CredentialLookUp | undefined;
	/** Absolute paths of directories that file: URLs may name. */
	importDirectories?: readonly string[] | undefined;
}

/** What the person asked for besides the source. */
export interface SourceOptions {
	/** Patterns on whole paths, as fnmatch; for hub and file sources. */
	include?: readonly string[] | undefined;
	exclude?: readonly string[] | undefined;
	/** Hub: other formats of the same weights too. */
	allFiles?: boolean | undefined;
	/** A web file without length and digest is accepted. */
	allowUnknownLength?: boolean | undefined;
}

/**
 * The source that a person named. Nothing is asked over the network yet, and what can be refused without it is.
 * @throws INVALID_REQUEST bad_source, scheme_not_allowed, bad_url, credentials_in_url; FORBIDDEN address_blocked
 */
export function openSource(text: string, context: SourceContext & SourceOptions): Source {
	const uri = readSourceUri(text, context);
	switch (uri.kind) {
		case "hub":
			return createHubSource(context, uri, context.hub, context);
		case "http":
			context.outbound.check(uri.url);
			return createHttpSource(context, uri, context);
		case "registry": {
			const source = createRegistrySource(context, uri, context.registries);
			context.outbound.check(registryOrigin(uri, context.registries ?? {}, context.outbound.isListed));
			return source;
		}
		case "bucket": {
			const service = bucketService(uri.scheme, context);
			context.outbound.check(service.endpoint);
			return createBucketSource(context, uri, service, context);
		}
		case "file": {
			const { importDirectories = [] } = context;
			importFolderOf(uri, importDirectories);
			return createFileSource(uri, { ...context, importDirectories });
		}
	}
}

/**
 * Where a copy may be uploaded to; nothing is asked yet.
 * @throws INVALID_REQUEST bad_target, scheme_not_allowed; FORBIDDEN address_blocked
 */
export function openBucketWriter(
	text: string,
	context: SourceContext,
): { writer: BucketWriter; target: string } {
	const uri = readSourceUri(text, context);
	if (uri.kind !== "bucket") {
		throw invalid(
			"bad_target",
			"A model can be uploaded to a bucket alone.",
			{ field: "target_url" },
			"Targets look like s3://bucket/prefix or gs://bucket/prefix.",
		);
	}
	const service = bucketService(uri.scheme, context);
	context.outbound.check(service.endpoint);
	return { writer: createBucketWriter(context, uri, service), target: formatSourceUri(uri) };
}

/** The service of a scheme. @throws INVALID_REQUEST scheme_not_allowed where the agent's configuration has none */
export function bucketService(
	scheme: BucketUri["scheme"],
	{ buckets }: Pick<SourceContext, "buckets">,
): BucketService {
	const service = buckets?.[scheme];
	if (service !== undefined) return service;
	throw invalid(
		"scheme_not_allowed",
		`Sources with "${scheme}:" are not configured on this agent.`,
		{ field: "source_url", scheme },
		`Give its agent credentials (${scheme === "s3" ? "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile of ~/.aws" : "a profile of ~/.aws with the HMAC key"}), or a section sources.${scheme} in config.yaml, e.g. \`${scheme}: { anonymous: true }\`.`,
	);
}

/**
 * The same source at a revision: a branch, tag or commit of a repository, a tag of an artifact.
 * @throws INVALID_REQUEST bad_source, no_revisions
 */
export function atRevision(text: string, revision: string, context: Pick<SourceContext, "hub"> = {}): string {
	const uri = readSourceUri(text, context);
	if (uri.kind !== "hub" && uri.kind !== "registry") {
		throw invalid(
			"no_revisions",
			`${formatSourceUri(uri)} has no revisions to choose from.`,
			{ field: "revision" },
			"Repositories of the hub (hf:) and artifacts of registries (ollama:, oci:) have some.",
		);
	}
	// Read again: what was put in has to be a revision of such a source.
	return formatSourceUri(readSourceUri(formatSourceUri(uri, revision), context));
}

/** The parsed source; pages of the configured hub are repositories too. @throws as openSource, without the addresses */
export function readSourceUri(text: string, { hub }: Pick<SourceContext, "hub"> = {}): SourceUri {
	const origins = hub?.endpoint === undefined ? [] : [new URL(hub.endpoint).origin];
	return parseSourceUri(text, { hubOrigins: origins });
}

// The rest of the room, through its door.
export { type ArchiveInput, type ArchiveLimits, extractArchive, type UnpackedArchive } from "./archive.ts";
export type {
	ArchiveKind,
	Brought,
	ByteRange,
	PeerTags,
	PlainPeer,
	Source,
	SourceBody,
	SourceDescription,
	SourceDigest,
	SourceFile,
} from "./contract.ts";
export { BUCKET_MANIFEST } from "./bucket.ts";
export type { BucketWriter, PartBytes } from "./bucket-writer.ts";
export type { BucketCredentials, BucketService } from "./bucket-line.ts";
export type { Registries } from "./registry.ts";
export type { CredentialLookUp } from "./credential.ts";
export { badBundle, parseBundle, readBundleHeader } from "./bundle-header.ts";
export { type ModelFormat } from "./detect.ts";
export { detectModel, memoryBytes } from "./detected.ts";
export { inspectFiles, type ModelFacts } from "./inspect.ts";
export { describeSealed, type PeerInput, type PeerSource, peerSource } from "./peer.ts";
export { createOffers, type Offers } from "./offer.ts";
export { type Relay, type RelayInput, relayReader } from "./relay.ts";
export type { FoundModel } from "./layout.ts";
export { type RemovedFiles, removeFound } from "./layout-removal.ts";
export { findModel, findModels, insideImportFolder } from "./layouts.ts";
export type { SourceUri } from "./source-uri.ts";
