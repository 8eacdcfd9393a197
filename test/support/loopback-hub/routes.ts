// The paths of the hub: model information, the paged tree, and resolving a file.
import type { ByteReply, ByteRequest } from "../byte-server/messages.ts";
import { rangedReply } from "../ranged-reply.ts";
import type { Cdn } from "./cdn.ts";
import type { HubFaults } from "./faults.ts";
import type { Repository } from "./repository.ts";
import type { Snapshot, SnapshotFile } from "./snapshot.ts";

export interface HubPolicy {
	/** Known tokens and the gated or private repositories that each may read. */
	tokens?: Record<string, string[]>;
	/** Entries of a tree page when the request names no limit. */
	pageSize?: number;
	/** The real hub redirects small files of public repositories to a relative, cacheable address. */
	redirectSmallFiles?: boolean;
}

const PAGE_SIZE = 1000;

export interface Call {
	request: ByteRequest;
	policy: HubPolicy;
	shelf: Map<string, Repository>;
	cdn: Cdn;
	faults: HubFaults;
}

/** The hub itself; large files are left to the CDN. */
export function answerHub(call: Call): ByteReply {
	const { request } = call;
	const refused = refusal(call.faults);
	if (refused) return refused;
	if (request.method !== "GET" && request.method !== "HEAD") return problem(405, "Method Not Allowed");
	const url = new URL(request.target, "http://hub");
	const words = url.pathname.split("/").slice(1).map(decodeURIComponent);
	if (words[0] === "api" && words[1] === "resolve-cache" && words[2] === "models") {
		const [owner, name, sha = "", ...path] = words.slice(3);
		return withRepository(call, `${owner}/${name}`, (repository) =>
			withFile(repository, sha, path, (snapshot, file) => smallFile(request, snapshot, file)),
		);
	}
	if (words[0] === "api" && words[1] === "models") {
		const [owner, name, kind, revision = "main", ...path] = words.slice(2);
		return withRepository(call, `${owner}/${name}`, (repository) => {
			const snapshot = repository.at(revision);
			if (!snapshot) return problem(404, `Invalid rev id: ${revision}`, "RevisionNotFound");
			if (kind === "tree") return tree(call, url, snapshot, path.join("/"));
			return kind === undefined || kind === "revision"
				? json(modelInfo(repository, snapshot))
				: problem(404, "Sorry, we can't find the page you are looking for.");
		});
	}
	const [owner, name, resolve, revision = "", ...path] = words;
	if (resolve !== "resolve") return problem(404, "Sorry, we can't find the page you are looking for.");
	return withRepository(call, `${owner}/${name}`, (repository) => {
		if (repository.gated && !mayRead(call, repository)) {
			const message = `Access to model ${repository.id} is restricted. You must have access to it and be authenticated.`;
			return problem(tokenOf(request) ? 403 : 401, message, "GatedRepo");
		}
		return withFile(repository, revision, path, (snapshot, file) =>
			resolved(call, repository, snapshot, file),
		);
	});
}

function withRepository(call: Call, id: string, answer: (repository: Repository) => ByteReply): ByteReply {
	const token = tokenOf(call.request);
	if (token !== undefined && !call.policy.tokens?.[token]) {
		return problem(401, "Invalid credentials in Authorization header");
	}
	const repository = call.shelf.get(id);
	if (repository && (!repository.private || mayRead(call, repository))) return answer(repository);
	// Without a token nobody learns whether the repository is missing or private.
	return token === undefined
		? problem(401, "Invalid username or password.")
		: problem(404, "Repository not found", "RepoNotFound");
}

function withFile(
	repository: Repository,
	revision: string,
	path: string[],
	answer: (snapshot: Snapshot, file: SnapshotFile) => ByteReply,
): ByteReply {
	const snapshot = repository.at(revision);
	if (!snapshot) return problem(404, `Invalid rev id: ${revision}`, "RevisionNotFound");
	const file = snapshot.files.find((it) => it.path === path.join("/"));
	return file ? answer(snapshot, file) : problem(404, "Entry not found", "EntryNotFound");
}

function tokenOf(request: ByteRequest): string | undefined {
	return request.headers.get("authorization")?.replace(/^Bearer /i, "");
}

function mayRead(call: Call, repository: Repository): boolean {
	return call.policy.tokens?.[tokenOf(call.request) ?? ""]?.includes(repository.id) ?? false;
}

function resolved(call: Call, repository: Repository, snapshot: Snapshot, file: SnapshotFile): ByteReply {
	const commit = { "x-repo-commit": snapshot.sha, "accept-ranges": "bytes" };
	if (file.lfs) {
		const headers = {
			...commit,
			location: call.faults.redirectTo ?? call.cdn.signedUrl(file),
			"x-linked-size": String(file.sizeBytes),
			"x-linked-etag": `"${file.lfs.sha256}"`,
		};
		return { status: 302, headers, body: "Found. Redirecting" };
	}
	const direct = call.policy.redirectSmallFiles === false || repository.gated || repository.private;
	if (direct || file.sizeBytes === 0) return smallFile(call.request, snapshot, file);
	const path = file.path.split("/").map(encodeURIComponent).join("/");
	const location = `/api/resolve-cache/models/${repository.id}/${snapshot.sha}/${path}?etag=%22${file.oid}%22`;
	return { status: 307, headers: { ...commit, location }, body: "Temporary Redirect" };
}

function smallFile(request: ByteRequest, snapshot: Snapshot, file: SnapshotFile): ByteReply {
	return rangedReply(request, {
		file: file.file,
		sizeBytes: file.sizeBytes,
		etag: `"${file.oid}"`,
		headers: { "x-repo-commit": snapshot.sha, "content-type": "text/plain; charset=utf-8" },
	});
}

function modelInfo(repository: Repository, snapshot: Snapshot): object {
	return {
		_id: snapshot.sha.slice(0, 24),
		id: repository.id,
		modelId: repository.id,
		sha: snapshot.sha,
		private: repository.private,
		gated: repository.gated ? "manual" : false,
		disabled: false,
		downloads: 0,
		likes: 0,
		tags: [],
		lastModified: "2026-01-01T00:00:00.000Z",
		createdAt: "2026-01-01T00:00:00.000Z",
		siblings: snapshot.files.map(({ path }) => ({ rfilename: path })),
	};
}

/** Entries below `folder`, page by page: the cursor is the place of the next entry. */
function tree(call: Call, url: URL, snapshot: Snapshot, folder: string): ByteReply {
	const prefix = folder === "" ? "" : `${folder}/`;
	const recursive = ["true", "1", "True"].includes(url.searchParams.get("recursive") ?? "");
	const entries = [...folders(snapshot), ...snapshot.files.map(fileEntry)]
		.filter(({ path }) => path.startsWith(prefix))
		.filter(({ path }) => recursive || !path.slice(prefix.length).includes("/"));
	if (entries.length === 0)
		return problem(404, `${folder} does not exist on the repository`, "EntryNotFound");
	const limit = Number(url.searchParams.get("limit") ?? call.policy.pageSize ?? PAGE_SIZE);
	const first = Number(atob(url.searchParams.get("cursor") ?? ""));
	const page = entries.slice(first, first + limit);
	if (first + limit >= entries.length) return json(page);
	const next = new URL(url.pathname + url.search, `http://${call.request.headers.get("host")}`);
	next.searchParams.set("limit", String(limit));
	next.searchParams.set("cursor", btoa(String(first + limit)));
	return json(page, { link: `<${next.href}>; rel="next"` });
}

function fileEntry({ path, oid, sizeBytes, lfs }: SnapshotFile) {
	const pointer = lfs && { oid: lfs.sha256, size: sizeBytes, pointerSize: lfs.pointerSizeBytes };
	return { type: "file", oid, size: sizeBytes, path, ...(pointer ? { lfs: pointer } : {}) };
}

function folders(snapshot: Snapshot) {
	const paths = new Set<string>();
	for (const { path } of snapshot.files) {
		const words = path.split("/");
		for (let depth = 1; depth < words.length; depth++) paths.add(words.slice(0, depth).join("/"));
	}
	return [...paths].sort().map((path) => ({ type: "directory", oid: "0".repeat(40), size: 0, path }));
}

function refusal(faults: HubFaults): ByteReply | undefined {
	const seconds = faults.retryAfterSeconds ?? 1;
	const retry = { "retry-after": String(seconds) };
	if (faults.status429Times) {
		faults.status429Times -= 1;
		const limit = {
			ratelimit: `"resolvers";r=0;t=${seconds}`,
			"ratelimit-policy": '"fixed window";"resolvers";q=3000;w=300',
		};
		return problem(429, "We had to rate limit your IP.", undefined, { ...retry, ...limit });
	}
	if (faults.status503Times) {
		faults.status503Times -= 1;
		return problem(503, "Service Unavailable", undefined, retry);
	}
	return undefined;
}

function json(value: unknown, headers: Record<string, string> = {}): ByteReply {
	const type = { "content-type": "application/json; charset=utf-8" };
	return { status: 200, headers: { ...type, ...headers }, body: JSON.stringify(value) };
}

function problem(
	status: number,
	message: string,
	code?: string,
	headers: Record<string, string> = {},
): ByteReply {
	return {
		...json(
			{ error: message },
			{ ...(code ? { "x-error-code": code } : {}), "x-error-message": message, ...headers },
		),
		status,
	};
}
