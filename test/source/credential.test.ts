import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type CredentialLookUp, openSource, type Source } from "../../src/core/source/source.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { createLog } from "../../src/platform/log.ts";
import { createOutbound } from "../../src/platform/outbound.ts";
import { startByteServer } from "../support/byte-server.ts";
import { type Hub, startHub } from "../support/loopback-hub.ts";
import { tempDir } from "../support/temp-dir.ts";

const SECRET = "hf_canary_4711";
const dir = tempDir();
let hub: Hub;
/** A web server that lets in who has the secret. */
let web: ReturnType<typeof startByteServer>;
/** Where its /elsewhere leads. */
let other: ReturnType<typeof startByteServer>;

beforeAll(() => {
	mkdirSync(join(dir.path, "tiny"));
	writeFileSync(join(dir.path, "tiny/config.json"), "{}\n");
	writeFileSync(join(dir.path, "tiny/model.safetensors"), "weights");
	const tiny = { dir: join(dir.path, "tiny") };
	hub = startHub({
		repositories: {
			"acme/tiny": tiny,
			"acme/gated": { ...tiny, gated: true },
			"acme/private": { ...tiny, private: true },
		},
		tokens: { [SECRET]: ["acme/gated", "acme/private"], hf_own: ["acme/private"] },
	});
	other = startByteServer({
		answer: () => ({ status: 200, headers: { "content-length": "4" }, body: "away" }),
	});
	web = startByteServer({
		answer: (request) => {
			if (request.target === "/elsewhere.gguf")
				return { status: 302, headers: { location: `${other.url}/model.gguf` }, body: "" };
			const may =
				request.target === "/open.gguf" || request.headers.get("authorization") === `Bearer ${SECRET}`;
			return may
				? { status: 200, headers: { "content-length": "7" }, body: "weights" }
				: { status: request.target === "/forbidden.gguf" ? 403 : 401, headers: {}, body: `say ${SECRET}` };
		},
	});
});
afterAll(() => {
	hub.stop();
	web.stop();
	other.stop();
	dir[Symbol.dispose]();
});

let asked: string[];
let lines: string[];
beforeEach(() => {
	asked = [];
	lines = [];
	hub.clearLog();
	web.exchanges.length = 0;
	other.exchanges.length = 0;
});

const has: CredentialLookUp = async (origin) => {
	asked.push(origin);
	return await Promise.resolve(origin === web.url || origin === hub.url ? SECRET : undefined);
};
const hasNone: CredentialLookUp = async (origin) => {
	asked.push(origin);
	return await Promise.resolve(undefined);
};
const isAway: CredentialLookUp = async (origin) => {
	asked.push(origin);
	return await Promise.reject(new Error("connection refused"));
};

const signal = (): AbortSignal => AbortSignal.timeout(20_000);
function open(uri: string, credentials: CredentialLookUp, token?: string): Source {
	const log = createLog({ clock: systemClock, write: (line) => void lines.push(line) }, { level: "debug" });
	const allow = [hub.url, hub.cdnUrl, web.url, other.url];
	const outbound = createOutbound({ clock: systemClock, log }, { allow });
	return openSource(uri, { outbound, clock: systemClock, hub: { endpoint: hub.url, token }, credentials });
}
async function fetchAll(source: Source): Promise<string[]> {
	const { files } = await source.describe(signal());
	const texts: string[] = [];
	for (const file of files)
		texts.push(await new Response(await source.read(file, undefined, signal())).text());
	expect(lines.join("")).not.toContain(SECRET);
	return texts;
}
async function refusal(source: Source): Promise<Record<string, unknown>> {
	try {
		await fetchAll(source);
		return { reason: "nothing was refused" };
	} catch (error) {
		const { message, hint, details, code, reason, retryable } = error as Record<string, unknown>;
		expect(JSON.stringify([message, hint, details])).not.toContain(SECRET);
		return { code, reason, retryable, hint };
	}
}

test("the host is asked once a task, for the origin of the source, and the hub's files come with the secret", async () => {
	expect(await fetchAll(open("acme/gated", has))).toEqual(["{}\n", "weights"]);
	expect(await fetchAll(open("hf:acme/private", has))).toEqual(["{}\n", "weights"]);
	expect(asked).toEqual([hub.url, hub.url]);
	const sent = hub.log().map(({ server, authorization }) => `${server} ${authorization}`);
	expect([...new Set(sent)].sort()).toEqual(["cdn undefined", `hub Bearer ${SECRET}`]);
});

test("the token of the agent's own environment wins, and the host is not asked", async () => {
	expect(await fetchAll(open("acme/private", has, "hf_own"))).toEqual(["{}\n", "weights"]);
	expect(asked).toEqual([]);
	expect(JSON.stringify(hub.log())).not.toContain(SECRET);
});

test("a file of a web server comes with the secret that is bound to its origin", async () => {
	expect(await fetchAll(open(`${web.url}/model.gguf`, has))).toEqual(["weights"]);
	expect(asked).toEqual([web.url]);
});

test("a redirect to another origin goes on without the secret", async () => {
	expect(await fetchAll(open(`${web.url}/elsewhere.gguf`, has))).toEqual(["away"]);
	expect(web.exchanges.every(({ authorization }) => authorization === `Bearer ${SECRET}`)).toBe(true);
	expect(other.exchanges.length).toBeGreaterThan(0);
	expect(JSON.stringify(other.exchanges)).not.toContain(SECRET);
});

test.each([
	["acme/gated", "gated", "`gswarm secret set hf --origin"],
	["acme/private", "auth", "`gswarm secret set hf --origin"],
])("without a secret %s is refused as %s, and it says how one is stored", async (uri, reason, hint) => {
	expect(await refusal(open(uri, hasNone))).toEqual({
		code: "TASK_FAILED",
		reason,
		retryable: false,
		hint: expect.stringContaining(hint),
	});
});

test.each(["model.gguf", "forbidden.gguf"])(
	"a web server that wants credentials for %s: it says how they are stored",
	async (path) => {
		expect(await refusal(open(`${web.url}/${path}`, hasNone))).toEqual({
			code: "TASK_FAILED",
			reason: "auth",
			retryable: false,
			hint: expect.stringContaining(`gswarm secret set NAME --origin ${web.url}`),
		});
	},
);

test("a host that cannot be asked is no trouble for a source that wants nothing", async () => {
	expect(await fetchAll(open("acme/tiny", isAway))).toEqual(["{}\n", "weights"]);
	expect(await fetchAll(open(`${web.url}/open.gguf`, isAway))).toEqual(["weights"]);
	expect(asked.length).toBe(2);
});

test("a host that cannot be asked is told of when the source wants credentials, and it is tried again", async () => {
	for (const uri of ["acme/gated", "acme/private", `${web.url}/model.gguf`, `${web.url}/forbidden.gguf`]) {
		expect(await refusal(open(uri, isAway))).toMatchObject({
			code: "RESOURCE_UNAVAILABLE",
			reason: "host_unreachable",
			retryable: true,
		});
	}
});

test("an abort while the host is asked ends the work with its own reason, and is no answer for later", async () => {
	const stop = new AbortController();
	const waitsOnce: CredentialLookUp = async (origin, aborted) => {
		if (asked.length > 0) return await has(origin, aborted);
		asked.push(origin);
		return await new Promise((_resolve, reject) =>
			aborted.addEventListener("abort", () => reject(new Error("cut"))),
		);
	};
	const source = open("acme/private", waitsOnce);
	const described = source.describe(stop.signal);
	stop.abort(new Error("cancelled by ann"));
	await expect(described).rejects.toThrow("cancelled by ann");
	expect(await fetchAll(source)).toEqual(["{}\n", "weights"]);
});
