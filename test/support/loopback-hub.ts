// A stand-in of the Hugging Face hub on this machine: the wire format that clients of the real one meet, serving
// directories of the test. It shows that a client speaks this format, never that the real hub still does.
// Kept faithful where clients fall: the revision is pinned by a commit, the tree is paged, large files redirect to
// another origin with a signed address whose ETag is *not* the hash, small files redirect within the hub by a
// relative address, a missing repository looks like a private one to somebody without a token.
import { startByteServer } from "./byte-server.ts";
import type { Exchange } from "./byte-server/messages.ts";
import { startCdn } from "./loopback-hub/cdn.ts";
import type { HubFaults } from "./loopback-hub/faults.ts";
import { type HubRepository, Repository } from "./loopback-hub/repository.ts";
import { answerHub, type HubPolicy } from "./loopback-hub/routes.ts";

export interface HubOptions extends HubPolicy {
	/** By name, such as "acme/tiny". */
	repositories: Record<string, HubRepository>;
	/** Loopback address of the CDN; 127.0.0.1 unless told, which some clients take for the same host as the hub. */
	cdnAddress?: string;
	signedUrlSeconds?: number;
	/** As the real CDN, which answers 400 to a GET of a very large file without a range. */
	rangelessLimitBytes?: number;
}

export interface HubExchange extends Exchange {
	server: "hub" | "cdn";
	/** File of the repository, where the request was for one. */
	path: string | undefined;
}

export interface Hub {
	/** For HF_ENDPOINT. */
	url: string;
	cdnUrl: string;
	/** Every request since the start or the last `clearLog`, oldest first; a copy of this moment. */
	log(): HubExchange[];
	clearLog(): void;
	/** Switches faults; those not named stay, undefined turns one off. */
	set(faults: HubFaults): void;
	clearFaults(): void;
	/** Refuses the signed addresses handed out so far; new ones work. */
	expireSignedUrls(): void;
	/** Points `revision` (main unless told) at what `dir` holds now; earlier commits stay reachable. */
	publish(id: string, dir: string, revision?: string): string;
	/** The commit that a revision points to. */
	commitOf(id: string, revision?: string): string;
	stop(): void;
}

const RANGELESS_LIMIT_BYTES = 32 * 1024 * 1024;

export function startHub(options: HubOptions): Hub {
	const faults: HubFaults = {};
	const shelf = new Map(Object.entries(options.repositories).map(([id, it]) => [id, new Repository(id, it)]));
	const cdn = startCdn(faults, {
		address: options.cdnAddress ?? "127.0.0.1",
		signedUrlSeconds: options.signedUrlSeconds ?? 3600,
		rangelessLimitBytes: options.rangelessLimitBytes ?? RANGELESS_LIMIT_BYTES,
	});
	const server = startByteServer({
		answer: (request) => answerHub({ request, policy: options, shelf, cdn, faults }),
	});
	const repository = (id: string) => {
		const found = shelf.get(id);
		if (!found) throw new Error(`the loopback hub has no repository ${id}`);
		return found;
	};
	return {
		url: server.url,
		cdnUrl: cdn.server.url,
		log() {
			const ofHub = server.exchanges.map((it) => ({
				...it,
				server: "hub" as const,
				path: resolvedPath(it.target),
			}));
			const ofCdn = cdn.server.exchanges.map((it) => ({
				...it,
				server: "cdn" as const,
				path: cdn.pathOf(it.target),
			}));
			return [...ofHub, ...ofCdn].sort((one, other) => one.atMs - other.atMs);
		},
		clearLog() {
			server.exchanges.length = 0;
			cdn.server.exchanges.length = 0;
		},
		set: (changed) => Object.assign(faults, structuredClone(changed)),
		clearFaults() {
			for (const name of Object.keys(faults) as (keyof HubFaults)[]) delete faults[name];
		},
		expireSignedUrls: () => cdn.expireSignedUrls(),
		publish: (id, dir, revision = "main") => repository(id).publish(revision, dir),
		commitOf: (id, revision = "main") => repository(id).at(revision)?.sha ?? "",
		stop() {
			server.stop();
			cdn.server.stop();
		},
	};
}

function resolvedPath(target: string): string | undefined {
	const { pathname } = new URL(target, "http://hub");
	const path = /^\/(?:api\/resolve-cache\/models\/[^/]+\/[^/]+|[^/]+\/[^/]+\/resolve)\/[^/]+\/(.+)$/.exec(
		pathname,
	)?.[1];
	return path === undefined ? undefined : decodeURIComponent(path);
}
