// A stand-in of a registry on this machine: the wire format that clients of Ollama's, Docker's and other registries
// meet (OCI distribution), serving artifacts that a test puts together. It shows that a client speaks this format,
// never that a real registry still does.
// Kept faithful where clients fall: a 401 names the realm that gives tokens, tokens are for one repository and end,
// blobs redirect to another origin that must not see the token, tags move while digests stay.
import { startByteServer } from "./byte-server.ts";
import type { ByteReply, ByteRequest, Exchange } from "./byte-server/messages.ts";
import { rangedReply } from "./ranged-reply.ts";

export interface LayerInput {
	mediaType: string;
	content: Uint8Array | string;
	/** `org.opencontainers.image.title`. */
	title?: string;
	annotations?: Record<string, string>;
	/** Over what the content would say. */
	digest?: string;
	size?: number;
}

export interface ArtifactInput {
	layers: readonly LayerInput[];
	config?: LayerInput;
}

export interface RegistryFaults {
	/** Realm of the challenge; its own `/token` unless told. */
	realm?: string | undefined;
	/** The manifest's bytes are changed on their way, while the header names the right ones. */
	changeManifest?: boolean | undefined;
	/** No Docker-Content-Digest. */
	hideDigest?: boolean | undefined;
	acceptRange?: boolean | undefined;
	/** Blob bodies end after so many bytes. */
	cutAfterBytes?: number | undefined;
	stallAfterBytes?: number | undefined;
	/** Answers so many blob requests with this status first. */
	failFirst?: { times: number; status: number } | undefined;
	/** Content-Range of every blob's answer. */
	contentRange?: string | undefined;
}

export interface RegistryOptions {
	/** Tokens are wanted for everything; `login` (`name:password`) for a token. */
	auth?: boolean | { login: string };
	/** Blobs are served from a second origin, by redirect. */
	redirect?: boolean;
}

export interface LoopbackRegistry {
	url: string;
	cdnUrl: string;
	host: string;
	/** Puts an artifact together and lets the tag mean it; the manifest's digest. */
	push(repository: string, tag: string, artifact: ArtifactInput): string;
	/** A manifest as it stands, e.g. an index. */
	pushManifest(repository: string, tag: string, manifest: object, mediaType: string): string;
	set(faults: RegistryFaults): void;
	/** No token that was given out is good any more. */
	endTokens(): void;
	log(): (Exchange & { server: "registry" | "cdn" })[];
	clearLog(): void;
	stop(): void;
}

const MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json";
const digestOf = (bytes: Uint8Array | string): string =>
	`sha256:${new Bun.CryptoHasher("sha256").update(bytes).digest("hex")}`;

export function startRegistry({ auth = false, redirect = false }: RegistryOptions = {}): LoopbackRegistry {
	const faults: RegistryFaults = {};
	const blobs = new Map<string, Uint8Array>();
	const manifests = new Map<string, { bytes: Uint8Array; mediaType: string; digest: string }>();
	const tokens = new Map<string, string>();
	let given = 0;
	const weather = () => ({ cutAfterBytes: faults.cutAfterBytes, stallAfterBytes: faults.stallAfterBytes });

	const blobReply = (request: ByteRequest, digest: string): ByteReply => {
		const body = blobs.get(digest);
		if (body === undefined) return { status: 404, body: '{"errors":[{"code":"BLOB_UNKNOWN"}]}' };
		if (faults.failFirst !== undefined && faults.failFirst.times > 0) {
			faults.failFirst.times -= 1;
			return { status: faults.failFirst.status, body: "not now" };
		}
		if (faults.acceptRange === false) request.headers.delete("range");
		const reply = rangedReply(request, { body, etag: `"${digest.slice(7, 23)}"` });
		if (faults.contentRange === undefined) return reply;
		return { ...reply, headers: { ...reply.headers, "content-range": faults.contentRange } };
	};
	const cdn = startByteServer({
		weather,
		answer: (request) => {
			const url = new URL(request.target, "http://cdn");
			if (url.searchParams.get("signature") !== "good") return { status: 403, body: "no signature" };
			return blobReply(request, decodeURIComponent(url.pathname.slice(1)));
		},
	});
	const server = startByteServer({ weather, answer: (request) => answer(request) });
	const { host } = new URL(server.url);

	const challenge = (repository: string): ByteReply => ({
		status: 401,
		headers: {
			"www-authenticate": `Bearer realm="${faults.realm ?? `${server.url}/token`}",service="loopback",scope="repository:${repository}:pull"`,
		},
		body: '{"errors":[{"code":"UNAUTHORIZED"}]}',
	});
	const giveToken = (request: ByteRequest, url: URL): ByteReply => {
		const login = typeof auth === "object" ? auth.login : undefined;
		if (login !== undefined && request.headers.get("authorization") !== `Basic ${btoa(login)}`)
			return { status: 401, body: '{"details":"incorrect login"}' };
		const scope = /^repository:(.+):pull$/.exec(url.searchParams.get("scope") ?? "")?.[1];
		if (scope === undefined || url.searchParams.get("service") !== "loopback") return { status: 400 };
		const token = `token-${given++}-${scope}`;
		tokens.set(token, scope);
		return { status: 200, body: JSON.stringify({ token, expires_in: 60 }) };
	};
	const answer = (request: ByteRequest): ByteReply => {
		const url = new URL(request.target, server.url);
		if (url.pathname === "/token") return giveToken(request, url);
		const [, repository = "", kind, reference = ""] =
			/^\/v2\/(.+)\/(manifests|blobs)\/([^/]+)$/.exec(decodeURIComponent(url.pathname)) ?? [];
		const bearer = /^Bearer (.+)$/.exec(request.headers.get("authorization") ?? "")?.[1];
		if (auth !== false && tokens.get(bearer ?? "") !== repository) return challenge(repository);
		if (kind === "blobs") {
			if (!redirect || !blobs.has(reference)) return blobReply(request, reference);
			const location = `${cdn.url}/${encodeURIComponent(reference)}?signature=good`;
			return { status: 307, headers: { location }, body: "" };
		}
		const found = manifests.get(`${repository}@${reference}`);
		if (found === undefined) return { status: 404, body: '{"errors":[{"code":"MANIFEST_UNKNOWN"}]}' };
		const text = Buffer.from(found.bytes).toString();
		const headers: Record<string, string> = { "content-type": found.mediaType };
		if (faults.hideDigest !== true) headers["docker-content-digest"] = found.digest;
		return { status: 200, headers, body: faults.changeManifest === true ? `${text} ` : text };
	};
	const descriptor = ({ mediaType, content, title, annotations, digest, size }: LayerInput) => {
		const bytes = Buffer.from(content);
		blobs.set(digest ?? digestOf(bytes), bytes);
		const notes = {
			...(title === undefined ? {} : { "org.opencontainers.image.title": title }),
			...annotations,
		};
		return {
			mediaType,
			digest: digest ?? digestOf(bytes),
			size: size ?? bytes.length,
			...(Object.keys(notes).length === 0 ? {} : { annotations: notes }),
		};
	};
	const pushManifest: LoopbackRegistry["pushManifest"] = (repository, tag, manifest, mediaType) => {
		const bytes = Buffer.from(JSON.stringify(manifest));
		const digest = digestOf(bytes);
		for (const reference of [tag, digest])
			manifests.set(`${repository}@${reference}`, { bytes, mediaType, digest });
		return digest;
	};
	return {
		url: server.url,
		cdnUrl: cdn.url,
		host,
		pushManifest,
		push(repository, tag, { layers, config }) {
			const manifest = {
				schemaVersion: 2,
				mediaType: MANIFEST_TYPE,
				...(config === undefined ? {} : { config: descriptor(config) }),
				layers: layers.map(descriptor),
			};
			return pushManifest(repository, tag, manifest, MANIFEST_TYPE);
		},
		set: (changed) => Object.assign(faults, structuredClone(changed)),
		endTokens: () => tokens.clear(),
		log: () =>
			[
				...server.exchanges.map((it) => ({ ...it, server: "registry" as const })),
				...cdn.exchanges.map((it) => ({ ...it, server: "cdn" as const })),
			].sort((one, other) => one.atMs - other.atMs),
		clearLog() {
			server.exchanges.length = 0;
			cdn.exchanges.length = 0;
		},
		stop() {
			server.stop();
			cdn.stop();
		},
	};
}

/** Layers as `ollama push` makes them. */
export function ollamaArtifact(model: Uint8Array | string, more: readonly LayerInput[] = []): ArtifactInput {
	const type = (name: string): string => `application/vnd.ollama.image.${name}`;
	return {
		config: {
			mediaType: "application/vnd.docker.container.image.v1+json",
			content: JSON.stringify({
				model_format: "gguf",
				model_family: "llama",
				model_type: "8B",
				file_type: "Q4_0",
			}),
		},
		layers: [
			{ mediaType: type("model"), content: model },
			{ mediaType: type("license"), content: "MIT License\n" },
			{ mediaType: type("license"), content: "Acceptable use\n" },
			{ mediaType: type("template"), content: "{{ .Prompt }}" },
			{ mediaType: type("params"), content: '{"stop":["<|end|>"]}' },
			...more,
		],
	};
}
