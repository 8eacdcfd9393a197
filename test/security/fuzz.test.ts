/**
 * A host and a node as `gswarm agent` wires them, asked everything that the contract's schemas can say and their
 * neighbours. Whatever is asked: no 5xx but the designed ones, the design's body, under a second, bounded memory,
 * nothing written where nothing of ours is, and no secret told again. What ever broke a rule is in corpus/ and is
 * asked again in every run. LONG=1 asks many more, with another seed each time, and keeps what it finds.
 */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { sha256Hex } from "../../src/platform/hash.ts";
import { type LocalCluster, localCluster, modelFiles } from "../support/cluster.ts";
import { CANARY, ESCAPED, fuzzRequests, type FuzzRequest } from "../support/contract-fuzz.ts";
import { type TempDir, tempDir } from "../support/temp-dir.ts";

const CORPUS = join(import.meta.dir, "corpus");
const LONG = process.env.LONG !== undefined;
/** One seed for the gate, so that a failure is one for everybody. */
const SEED = 20_261_123;
const RUNS = LONG ? 100_000 : 2500;
const MAX_MS = 1000;
const MAX_GROWTH_BYTES = 256 * 1024 * 1024;
/** Unavailable, another machine's fault, no room: each with a body that says so. */
const DESIGNED: readonly number[] = [502, 503, 507];

setDefaultTimeout(LONG ? 3_600_000 : 120_000);

let outside: TempDir;
let cluster: LocalCluster;
let before: string[];
const temporary = process.env.TMPDIR;

beforeAll(async () => {
	outside = tempDir();
	mkdirSync(join(outside.path, "sentinel"));
	writeFileSync(join(outside.path, "sentinel", "file"), "untouched");
	// The cluster's directories are made below this one, so that leaving them by a step or two is seen.
	process.env.TMPDIR = outside.path;
	cluster = await localCluster({ nodes: ["node1"], files: { "acme/tiny": modelFiles(100_000) } });
	await cluster.download("acme/tiny", "node1:disk");
	before = beside(outside.path);
});
afterAll(async () => {
	if (temporary === undefined) delete process.env.TMPDIR;
	else process.env.TMPDIR = temporary;
	await cluster?.[Symbol.asyncDispose]();
	outside?.[Symbol.dispose]();
});

/** What lies beside and above the data directories. */
function beside(root: string): string[] {
	const isData = (path: string): boolean => /\/(host|node\d+)\//.test(path);
	return readdirSync(root, { recursive: true, encoding: "utf8" })
		.filter((path) => !isData(`/${path}/`) || path.includes(ESCAPED))
		.sort();
}

async function send({ listener, as, method, path, headers, body }: FuzzRequest): Promise<Response> {
	const node = cluster.node("node1");
	const base = { host: cluster.host.url, node: node.url, peer: node.peerUrl }[listener];
	const bearers = {
		admin: listener === "host" ? cluster.host.admin : node.admin,
		node: node.token,
		host: cluster.host.assertionFor("node1"),
		canary: `gsw_admin_k3v9x2ma_${CANARY}`,
		nobody: undefined,
	};
	const all = new Headers(headers);
	const bearer = bearers[as];
	if (bearer !== undefined) all.set("authorization", `Bearer ${bearer}`);
	return await fetch(`${base}${path}`, {
		method,
		headers: all,
		redirect: "manual",
		signal: AbortSignal.timeout(20_000),
		...(body === null ? {} : { body }),
	});
}

/** The body; of a stream that goes on, what there is of it. */
async function textOf(answer: Response): Promise<string> {
	if (answer.headers.get("content-type") !== "text/event-stream") return await answer.text();
	const reader = answer.body?.getReader();
	const { value } = (await reader?.read()) ?? {};
	await reader?.cancel();
	return new TextDecoder().decode(value);
}

/** What is wrong with the answer, or undefined. */
async function fault(request: FuzzRequest): Promise<string | undefined> {
	const startedMs = performance.now();
	const answer = await send(request);
	const text = await textOf(answer);
	const ms = performance.now() - startedMs;
	const { status } = answer;
	if (ms > MAX_MS) return `took ${Math.round(ms)} ms`;
	if (status >= 500 && !DESIGNED.includes(status)) return `answered ${status} ${text.slice(0, 300)}`;
	if (text.includes(CANARY)) return `told the canary: ${text.slice(0, 300)}`;
	if (/node_modules|\.ts:\d|at async|SQLITE|gswarm-test-/.test(text) && !request.path.includes("openapi"))
		return `told of its inside: ${text.slice(0, 300)}`;
	// Bun's own answers to what is no proper HTTP have no body.
	const isOurs = answer.headers.has("x-request-id");
	if (!isOurs && ![400, 413, 431].includes(status)) return `answered ${status} without a request id`;
	if (status < 400 || !isOurs || request.method === "HEAD") return undefined;
	return shapeProblem(text, request.path.startsWith("/v1/"), answer.headers.get("x-request-id"));
}

function shapeProblem(text: string, openAi: boolean, id: string | null): string | undefined {
	let body: { error?: Record<string, unknown> };
	try {
		body = JSON.parse(text) as typeof body;
	} catch {
		return `has no JSON body: ${text.slice(0, 200)}`;
	}
	const { error = {} } = body;
	const said = `answered ${text.slice(0, 300)}`;
	if (openAi) return typeof error["message"] === "string" && "type" in error ? undefined : said;
	const details = error["details"] as Record<string, unknown> | undefined;
	const isRight =
		Object.keys(body).join() === "error" &&
		Object.keys(error).sort().join() === "code,details,message,request_id,timestamp" &&
		error["request_id"] === id &&
		typeof error["message"] === "string" &&
		typeof details?.["reason"] === "string";
	return isRight ? undefined : said;
}

/** The fault as an error that holds the request, to be kept. */
async function expectFine(request: FuzzRequest): Promise<void> {
	const found = await fault(request).catch((error: unknown) => `got no answer: ${String(error)}`);
	if (found === undefined) return;
	const text = `${JSON.stringify(request, null, "\t")}\n`;
	if (LONG) writeFileSync(join(CORPUS, `found-${sha256Hex(text).slice(0, 12)}.json`), text);
	throw new Error(`${found}\nKeep it in test/security/corpus: ${JSON.stringify(request)}`);
}

test("what ever broke a rule does not any more", async () => {
	const files = readdirSync(CORPUS).filter((name) => name.endsWith(".json"));
	expect(files.length).toBeGreaterThan(0);
	for (const name of files) {
		await expectFine(JSON.parse(readFileSync(join(CORPUS, name), "utf8")) as FuzzRequest);
	}
});

test("whatever is asked of a host, a node and its parts, the answer keeps the rules", async () => {
	const rssBefore = process.memoryUsage.rss();
	const statuses = new Map<number, number>();
	await fc.assert(
		fc.asyncProperty(fuzzRequests(), async (request) => {
			await expectFine(request);
			statuses.set(0, (statuses.get(0) ?? 0) + 1);
		}),
		{ numRuns: RUNS, ...(LONG ? {} : { seed: SEED }), endOnFailure: true },
	);
	expect(process.memoryUsage.rss() - rssBefore).toBeLessThan(MAX_GROWTH_BYTES);
	expect(statuses.get(0)).toBeGreaterThanOrEqual(RUNS);
});

test("afterwards both still answer, nothing lies outside their directories, and no log has the canary", async () => {
	expect((await send({ ...QUIET, listener: "host" })).status).toBe(200);
	expect((await send({ ...QUIET, listener: "node" })).status).toBe(200);
	expect(beside(outside.path)).toEqual(before);
	expect(readFileSync(join(outside.path, "sentinel", "file"), "utf8")).toBe("untouched");
	for (const folder of ["/tmp", "/", process.cwd()])
		expect(readdirSync(folder).filter((name) => name.includes(ESCAPED))).toEqual([]);
	expect(({} as { x?: unknown }).x).toBeUndefined();
	for (const path of [
		"/api/v1/queue",
		"/api/v1/queue/history?limit=200",
		"/api/v1/models",
		"/api/v1/status",
	]) {
		for (const listener of ["host", "node"] as const) {
			const answer = await send({ ...QUIET, listener, path, as: "admin" });
			expect([path, answer.status]).toEqual([path, 200]);
			expect(await answer.text()).not.toContain(CANARY);
		}
	}
	expect(JSON.stringify(cluster.log)).not.toContain(CANARY);
	expect(cluster.log.filter(({ event }) => event === "http.internal_error")).toEqual([]);
});

const QUIET: Omit<FuzzRequest, "listener"> = {
	as: "nobody",
	method: "GET",
	path: "/api/v1/health",
	headers: {},
	body: null,
};
