/**
 * Artifacts of a registry (https://github.com/opencontainers/distribution-spec), Ollama's among them: the manifest of a
 * tag is pinned by its sha256, its layers are files named by theirs. Blobs usually redirect to signed URLs elsewhere,
 * where the token does not go along.
 */
import type { Clock } from "../../platform/clock.ts";
import { withDeadline } from "../../platform/deadline.ts";
import type { Outbound } from "../../platform/outbound.ts";
import { readBounded } from "../../platform/body-reader.ts";
import { networkError } from "../../platform/network-error.ts";
import { GswarmError, notFound } from "../../schema/errors.ts";
import { parseRevision } from "../../schema/names.ts";
import { badAnswer, checkedBody, rangeHeader, rangeToAsk, sourceChanged } from "./answer.ts";
import type { Source, SourceFile } from "./contract.ts";
import type { CredentialLookUp } from "./credential.ts";
import { describeFiles } from "./description.ts";
import { createRegistryLine, registryError } from "./registry-auth.ts";
import { type LayerFile, MANIFEST_TYPES, type ReadManifest, readManifest } from "./registry-manifest.ts";
import type { RegistryUri } from "./registry-uri.ts";
import { formatSourceUri, suggestedName } from "./source-uri.ts";

export interface Registries {
	/** Origin of what `ollama:` names; default https://registry.ollama.ai. */
	ollama?: string | undefined;
	/** Origins whose realms may give tokens for any registry, besides its own and those that are known. */
	tokenRealms?: readonly string[] | undefined;
}

const OLLAMA = "https://registry.ollama.ai";
/** What people write, and where it is. */
const HOSTS: Readonly<Record<string, string>> = {
	"docker.io": "registry-1.docker.io",
	"index.docker.io": "registry-1.docker.io",
};
/** Registries whose tokens are known to come from another origin. */
const REALMS: Readonly<Record<string, readonly string[]>> = {
	"https://registry-1.docker.io": ["https://auth.docker.io"],
	"https://registry.ollama.ai": ["https://ollama.com"],
	"https://registry.gitlab.com": ["https://gitlab.com"],
};
const MAX_MANIFEST_BYTES = 4 * 1024 * 1024;
const MANIFEST_TIMEOUT_MS = 60_000;

/** Where the registry is: https, or what the agent's configuration lists under http. */
export function registryOrigin(
	uri: RegistryUri,
	{ ollama = OLLAMA }: Registries,
	isListed: (url: string) => boolean,
): string {
	if (uri.host === undefined) return new URL(ollama).origin;
	const host = HOSTS[uri.host] ?? uri.host;
	const open = `http://${host}`;
	return new URL(isListed(open) ? open : `https://${host}`).origin;
}

export function createRegistrySource(
	{
		outbound,
		clock,
		credentials,
	}: { outbound: Outbound; clock: Clock; credentials?: CredentialLookUp | undefined },
	uri: RegistryUri,
	registries: Registries = {},
): Source {
	const { repository } = uri;
	const origin = registryOrigin(uri, registries, outbound.isListed);
	const base = `${origin}/v2/${repository}`;
	const realms = [...(REALMS[origin] ?? []), ...(registries.tokenRealms ?? [])];
	const line = createRegistryLine({ outbound, clock }, { origin, repository, realms, credentials });
	let blobs = new Map<string, LayerFile>();

	const failed = async (response: Response, what: string): Promise<GswarmError> => {
		await response.body?.cancel();
		return registryError(response, what, line.ignoredRealm(), clock.nowMs());
	};
	const manifest = async (pinned: RegistryUri, signal: AbortSignal): Promise<ReadManifest> => {
		const url = `${base}/manifests/${pinned.reference ?? "latest"}`;
		const { host } = new URL(origin);
		return await withDeadline({ clock }, { limitMs: MANIFEST_TIMEOUT_MS, host, signal }, async (limited) => {
			const { response } = await line.get(url, { accept: MANIFEST_TYPES }, limited);
			if (response.status !== 200)
				throw await failed(response, `${repository}:${pinned.reference ?? "latest"}`);
			const bytes = await readBounded(response.body, MAX_MANIFEST_BYTES).catch((error: unknown) => {
				if (!(error instanceof GswarmError)) throw networkError(error, host);
				throw badAnswer(`The manifest of ${repository} is larger than ${MAX_MANIFEST_BYTES} bytes`, error);
			});
			return readManifest(bytes, pinned, response.headers.get("docker-content-digest"));
		});
	};
	return {
		async describe(signal) {
			const first = await manifest(uri, signal);
			const last =
				first.next === undefined ? first : await manifest({ ...uri, reference: first.next }, signal);
			if (last.next !== undefined)
				throw badAnswer(`The manifest of ${repository} leads to another list of manifests`);
			blobs = new Map(last.files.map((file) => [file.path, file]));
			return describeFiles({
				uri: formatSourceUri(uri, last.digest),
				revision: parseRevision(last.digest.replace(":", "-")),
				suggestedName: suggestedName(uri),
				files: last.files.map(toSourceFile),
			});
		},
		async read(file, range, signal) {
			const blob = blobs.get(file.path);
			if (blob === undefined) throw notFound("file", file.path);
			const wanted = rangeToAsk(file, range);
			if (wanted === undefined || blob.sizeBytes === 0) return new Blob([]).stream();
			const what = `${repository}/${file.path}`;
			const { response } = await line.get(
				`${base}/blobs/${blob.digest}`,
				{ range: rangeHeader(wanted) },
				signal,
			);
			if (response.status === 416) {
				await response.body?.cancel();
				throw sourceChanged(what, `${file.sizeBytes} bytes`, "a shorter file");
			}
			if (response.status !== 200 && response.status !== 206) throw await failed(response, what);
			// Blobs are named by their digest: whatever a CDN calls its copy, it is no other version.
			const expected = { what, range: wanted, sizeBytes: file.sizeBytes, validator: undefined };
			return await checkedBody(response, expected);
		},
	};
}

function toSourceFile({ path, sizeBytes, digest }: LayerFile): SourceFile {
	const hex = digest.slice("sha256:".length);
	return { path, sizeBytes, digest: { algorithm: "sha256", hex }, rangeable: true, parts: undefined };
}
