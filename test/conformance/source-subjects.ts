// One stand-in with one model per kind of source, all with the same content and the same faults, for source.test.ts.
import { mkdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openSource, peerSource, type Source, type SourceContext } from "../../src/core/source/source.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { sha256Hex, xxh64Hex } from "../../src/platform/hash.ts";
import { silentLog } from "../../src/platform/log.ts";
import { createOutbound } from "../../src/platform/outbound.ts";
import { canonicalManifest, type Manifest } from "../../src/schema/manifest.ts";
import { parseModelName, parseRevision } from "../../src/schema/names.ts";
import { startFaultProxy } from "../support/fault-proxy.ts";
import { startFileServer } from "../support/file-server.ts";
import { startHub } from "../support/loopback-hub.ts";
import { startRegistry } from "../support/loopback-registry.ts";
import { startS3 } from "../support/loopback-s3.ts";

export interface Faults {
	/** Whole files where ranges are asked. */
	ignoreRange?: boolean;
	/** The right bytes under the wrong Content-Range. */
	wrongRange?: boolean;
	/** Connections end after so many bytes of a body. */
	cutAfterBytes?: number | undefined;
	/** Connections fall silent after so many. */
	stallAfterBytes?: number | undefined;
}

/** What one server was sent. */
export interface Seen {
	origin: string;
	/** Headers and target. */
	text: string;
}

export interface Subject extends AsyncDisposable {
	/** The model; a new source each time. */
	open(): Source;
	/** Opens what a description calls itself; undefined for a kind that has no such name. */
	reopen: ((uri: string) => Source) | undefined;
	/** The model gets other content of the same length under the same name. */
	change(): void | Promise<void>;
	/** Undefined for what is on this machine. */
	set: ((faults: Faults) => void) | undefined;
	/** The same model with one more file of this name; undefined where a name cannot be such. */
	withName: (name: string) => Source | undefined;
	/** With a credential, and every server's view of it; undefined where there is none. */
	secret: { value: string; at: string; open(): Source; seen(): Seen[] } | undefined;
}

const SECRET = "canary-conformance-4711";
/** Large files of the hub go by way of its CDN. */
const FILE = "model.safetensors";

export interface Content {
	/** Of `model.safetensors`. */
	bytes: Uint8Array;
	/** As long, and different. */
	other: Uint8Array;
}

type Start = (directory: string, content: Content) => Subject | Promise<Subject>;

/** By name of the kind. */
export const SUBJECTS: Readonly<Record<string, Start>> = {
	hub: startHubSubject,
	http: startHttpSubject,
	registry: startRegistrySubject,
	bucket: startBucketSubject,
	file: startFileSubject,
	peer: startPeerSubject,
};

function context(allow: readonly string[], more: Partial<SourceContext> = {}): SourceContext {
	const outbound = createOutbound({ clock: systemClock, log: silentLog }, { allow });
	return { outbound, clock: systemClock, ...more };
}

function write(directory: string, content: Uint8Array): void {
	mkdirSync(directory, { recursive: true });
	writeFileSync(join(directory, FILE), content);
	writeFileSync(join(directory, "config.json"), "{}");
}

function startHubSubject(directory: string, { bytes, other }: Content): Subject {
	write(join(directory, "a"), bytes);
	write(join(directory, "b"), other);
	const hub = startHub({
		repositories: { "acme/tiny": { dir: join(directory, "a") } },
		tokens: { [SECRET]: ["acme/tiny"] },
	});
	const open = (uri: string, token?: string) =>
		openSource(uri, {
			...context([hub.url, hub.cdnUrl], { hub: { endpoint: hub.url, token } }),
			allFiles: true,
		});
	let named = 0;
	return {
		open: () => open("hf:acme/tiny"),
		reopen: (uri) => open(uri),
		change: () => void hub.publish("acme/tiny", join(directory, "b")),
		set: ({ ignoreRange, wrongRange, cutAfterBytes, stallAfterBytes }) =>
			hub.set({ ignoreRange, wrongContentRange: wrongRange, cutAfterBytes, stallAfterBytes }),
		withName(name) {
			// The stand-in serves directories, which have no such names.
			if (name.includes("/")) return undefined;
			const folder = join(directory, `named-${named++}`);
			write(folder, bytes);
			writeFileSync(join(folder, name), "x");
			hub.publish("acme/tiny", folder);
			return open("hf:acme/tiny");
		},
		secret: {
			value: SECRET,
			at: hub.url,
			open: () => open("hf:acme/tiny", SECRET),
			seen: () => hub.log().map((it) => seen(it.server === "hub" ? hub.url : hub.cdnUrl, it)),
		},
		[Symbol.asyncDispose]: () => Promise.resolve(hub.stop()),
	};
}

function startHttpSubject(directory: string, { bytes, other }: Content): Subject {
	write(directory, bytes);
	const server = startFileServer({ dir: directory });
	const elsewhere = startFileServer({ dir: directory });
	server.set({ redirects: { "/moved.safetensors": `${elsewhere.url}/${FILE}` } });
	const credentials = (origin: string) => Promise.resolve(origin === server.url ? SECRET : undefined);
	const open = (uri: string) => openSource(uri, context([server.url, elsewhere.url]));
	return {
		open: () => open(`${server.url}/${FILE}`),
		reopen: open,
		change() {
			writeFileSync(join(directory, FILE), other);
			utimesSync(join(directory, FILE), 1_700_000_000, 1_700_000_000);
		},
		set: ({ ignoreRange, wrongRange, cutAfterBytes, stallAfterBytes }) =>
			server.set({
				acceptRange: ignoreRange === true ? false : undefined,
				headers: wrongRange === true ? { "content-range": `bytes 1-10/${bytes.length}` } : undefined,
				cutAfterBytes,
				stallAfterBytes,
			}),
		withName: () => undefined,
		secret: {
			value: SECRET,
			at: server.url,
			open: () =>
				openSource(`${server.url}/moved.safetensors`, context([server.url, elsewhere.url], { credentials })),
			seen: () => [server, elsewhere].flatMap(({ url, exchanges }) => exchanges.map((it) => seen(url, it))),
		},
		async [Symbol.asyncDispose]() {
			server.stop();
			elsewhere.stop();
		},
	};
}

function startRegistrySubject(_directory: string, { bytes, other }: Content): Subject {
	const open = startRegistry({ redirect: true });
	const closed = startRegistry({ redirect: true, auth: { login: `ann:${SECRET}` } });
	const layer = (title: string, content: Uint8Array | string) => ({
		mediaType: "application/x",
		title,
		content,
	});
	const push = (content: Uint8Array, ...more: ReturnType<typeof layer>[]): void => {
		for (const registry of [open, closed])
			registry.push("acme/tiny", "v1", {
				layers: [layer(FILE, content), layer("config.json", "{}"), ...more],
			});
	};
	push(bytes);
	const at = (uri: string, more: Partial<SourceContext> = {}) =>
		openSource(uri, context([open.url, open.cdnUrl, closed.url, closed.cdnUrl], more));
	const credentials = (origin: string) =>
		Promise.resolve(origin === closed.url ? `ann:${SECRET}` : undefined);
	return {
		open: () => at(`oci://${open.host}/acme/tiny:v1`),
		reopen: at,
		change: () => push(other),
		set: ({ ignoreRange, wrongRange, cutAfterBytes, stallAfterBytes }) =>
			open.set({
				acceptRange: ignoreRange === true ? false : undefined,
				contentRange: wrongRange === true ? `bytes 1-10/${bytes.length}` : undefined,
				cutAfterBytes,
				stallAfterBytes,
			}),
		withName(name) {
			push(bytes, layer(name, "x"));
			return at(`oci://${open.host}/acme/tiny:v1`);
		},
		secret: {
			value: SECRET,
			at: closed.url,
			open: () => at(`oci://${closed.host}/acme/tiny:v1`, { credentials }),
			seen: () => closed.log().map((it) => seen(it.server === "registry" ? closed.url : closed.cdnUrl, it)),
		},
		async [Symbol.asyncDispose]() {
			open.stop();
			closed.stop();
		},
	};
}

async function startBucketSubject(_directory: string, { bytes, other }: Content): Promise<Subject> {
	const keys = { accessKeyId: "AKIATEST", secretAccessKey: SECRET };
	const s3 = startS3({ keys });
	const proxy = await startFaultProxy(Number(new URL(s3.url).port));
	const put = (content: Uint8Array): void => {
		s3.put("models", `acme/tiny/${FILE}`, content);
		s3.put("models", "acme/tiny/config.json", "{}");
	};
	put(bytes);
	const open = (uri = "s3://models/acme/tiny") =>
		openSource(uri, {
			...context([proxy.url]),
			buckets: { s3: { endpoint: proxy.url, region: "us-east-1", pathStyle: true, credentials: keys } },
		});
	return {
		open,
		reopen: open,
		change: () => put(other),
		set: ({ ignoreRange, wrongRange, cutAfterBytes, stallAfterBytes }) => {
			s3.set({ ignoreRange, contentRange: wrongRange === true ? `bytes 1-10/${bytes.length}` : undefined });
			// The proxy counts heads too, and stalls from the start.
			proxy.set({ cutAfterBytes, stall: stallAfterBytes !== undefined });
		},
		withName(name) {
			s3.put("models", `acme/tiny/${name}`, "x");
			return open();
		},
		secret: {
			value: SECRET,
			// The key itself goes nowhere: only signatures do.
			at: "nowhere",
			open,
			seen: () =>
				s3.requests.map(({ path, query, headers }) => ({
					origin: s3.url,
					text: JSON.stringify([path, query, headers]),
				})),
		},
		async [Symbol.asyncDispose]() {
			proxy.stop();
			s3.stop();
		},
	};
}

function startFileSubject(directory: string, { bytes, other }: Content): Subject {
	const folder = join(directory, "import/tiny");
	write(folder, bytes);
	const open = (uri = `file://${folder}`) =>
		openSource(uri, context([], { importDirectories: [join(directory, "import")] }));
	return {
		open,
		reopen: open,
		change: () => writeFileSync(join(folder, FILE), other),
		set: undefined,
		withName(name) {
			rmSync(join(folder, "link"), { force: true });
			// A name on a disk cannot leave its folder, a link can.
			if (name.includes("/")) symlinkSync("/etc/hostname", join(folder, "link"));
			else writeFileSync(join(folder, name), "x");
			return open();
		},
		secret: undefined,
		[Symbol.asyncDispose]: () => Promise.resolve(),
	};
}

function startPeerSubject(directory: string, { bytes, other }: Content): Subject {
	const files = [
		{ path: "config.json", content: Buffer.from("{}") },
		{ path: FILE, content: Buffer.from(bytes) },
	];
	const manifestOf = (list: typeof files): Manifest => ({
		files: list.map(({ path, content }) => ({
			path,
			size_bytes: content.length,
			sha256: sha256Hex(content),
			part_size_bytes: 8 * 1024 * 1024,
			xxh64: [xxh64Hex(content)],
		})),
		total_bytes: list.reduce((sum, { content }) => sum + content.length, 0),
	});
	const manifest = manifestOf(files);
	const parts = join(directory, "parts", sha256Hex(canonicalManifest(manifest)));
	mkdirSync(parts, { recursive: true });
	for (const [index, { content }] of files.entries()) writeFileSync(join(parts, String(index)), content);
	const server = startFileServer({ dir: directory, authorization: `Bearer ${SECRET}` });
	const elsewhere = startFileServer({ dir: directory });
	const open = (told = manifest) =>
		peerSource(
			{ clock: systemClock },
			{
				baseUrl: server.url,
				grant: SECRET,
				manifest: told,
				model: parseModelName("acme/tiny"),
				revision: parseRevision("c0ffee"),
			},
		);
	return {
		open: () => open(),
		reopen: undefined,
		// What a manifest seals cannot change; another length is what a peer with a damaged file has.
		change: () => writeFileSync(join(parts, "1"), other.subarray(1)),
		set: ({ ignoreRange, wrongRange, cutAfterBytes, stallAfterBytes }) =>
			server.set({
				acceptRange: ignoreRange === true ? false : undefined,
				headers: wrongRange === true ? { "content-range": `bytes 1-10/${bytes.length}` } : undefined,
				cutAfterBytes,
				stallAfterBytes,
			}),
		withName: (name) => open(manifestOf([...files, { path: name, content: Buffer.from("x") }])),
		secret: {
			value: SECRET,
			at: server.url,
			open() {
				server.set({ redirects: { [`/parts/${parts.split("/").at(-1)}/0`]: `${elsewhere.url}/x` } });
				return open();
			},
			seen: () => [server, elsewhere].flatMap(({ url, exchanges }) => exchanges.map((it) => seen(url, it))),
		},
		async [Symbol.asyncDispose]() {
			server.stop();
			elsewhere.stop();
		},
	};
}

function seen(
	origin: string,
	exchange: { target: string; headers: Record<string, string>; authorization: string | undefined },
): Seen {
	const login = /^Basic (.+)$/.exec(exchange.authorization ?? "")?.[1];
	const read = login === undefined ? "" : Buffer.from(login, "base64").toString();
	return { origin, text: JSON.stringify([exchange.target, exchange.headers, exchange.authorization, read]) };
}
