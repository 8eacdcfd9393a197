/** A name goes from one revision to another while requests come. */
import { afterEach, expect, test } from "bun:test";
import type { ServiceDocument } from "../../src/schema/service.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import { parseRevision, parseServiceId } from "../../src/schema/names.ts";
import { fixtureEngine } from "../support/fixture-engine.ts";
import { type TempDir, tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";
import { chat, MODEL, type Node, type NodeOptions, openNode, request } from "./harness.ts";

const cleanUps: (() => unknown)[] = [];
afterEach(async () => {
	for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

function workDir(): TempDir {
	const dir = tempDir();
	cleanUps.push(() => dir[Symbol.dispose]());
	return dir;
}

function node(options: NodeOptions = {}, directory = workDir().path): Node {
	const opened = openNode(directory, options);
	cleanUps.push(() => opened[Symbol.asyncDispose]());
	return opened;
}

const OLD = parseServiceId("svc-old");
const NEW = parseServiceId("svc-new");
const first = { serviceId: OLD, revision: parseRevision("one") };
const second = { serviceId: NEW, revision: parseRevision("two") };
const replaceOld = (n: Node, fields = {}): Promise<ServiceDocument> =>
	n.services.replace(request({ ...second, ...fields }), OLD, { timeoutMs: 20_000 });

/** Asks for the model again and again in some lanes until it is told to stop; what was answered. */
function askAllTheTime(url: string): { stop(): Promise<number[]>; count(): number } {
	const statuses: number[] = [];
	let isOver = false;
	const lane = async (at: number): Promise<void> => {
		while (!isOver) {
			const stream = at % 2 === 0;
			const answer = await chat(url, "hello", { wait_ms: 5, stream });
			const text = await answer.text();
			statuses.push(answer.status === 200 && !text.includes("hello") ? 599 : answer.status);
		}
	};
	const lanes = Promise.all([0, 1, 2, 3].map(lane));
	return {
		count: () => statuses.length,
		async stop() {
			isOver = true;
			await lanes;
			return statuses;
		},
	};
}

test("no request fails while a name goes to another revision, and only that is served afterwards", async () => {
	const n = node();
	await n.start(first);
	const asking = askAllTheTime(n.url);
	await until("some were answered", () => asking.count() > 20);
	const served = await replaceOld(n);
	expect(served).toMatchObject({ service_id: NEW, revision: "two", served_name: MODEL, state: "ready" });
	const before = asking.count();
	await until("more were answered", () => asking.count() > before + 20);
	expect(new Set(await asking.stop())).toEqual(new Set([200]));
	expect(n.services.list().map((s) => s.service_id)).toEqual([NEW]);
	expect(n.held).toEqual([`${MODEL}@two disk service ${NEW}`]);
	// Back again, the way it came.
	await n.services.replace(request(first), NEW, { timeoutMs: 20_000 });
	expect(n.services.list().map((s) => [s.service_id, s.served_name])).toEqual([[OLD, MODEL]]);
});

test("what the old one has begun it finishes, and new requests go to the new one at once", async () => {
	const n = node();
	await n.start(first);
	const slow = chat(n.url, "slow", { wait_ms: 1500 });
	await until("it is under way", () => n.services.upstreams(MODEL)[0]?.load?.outstanding === 1);
	const replacing = replaceOld(n);
	await until("the name has gone", () => n.services.get(NEW).served_name === MODEL);
	expect(n.services.upstreams(MODEL).map((one) => one.key)).toEqual([NEW]);
	expect(n.services.get(OLD)).toMatchObject({ served_name: null });
	expect((await chat(n.url, "hello")).status).toBe(200);
	expect((await slow).status).toBe(200);
	await replacing;
});

test("two revisions stand side by side, each asked for by its own name", async () => {
	const n = node();
	await n.start(first);
	await n.start({ ...second, hasName: false });
	const status = async (model: string): Promise<number> => (await chat(n.url, "hello", { model })).status;
	expect(n.services.upstreams(MODEL).map((one) => one.key)).toEqual([OLD]);
	expect(n.services.upstreams(`${MODEL}@two`).map((one) => one.key)).toEqual([NEW]);
	expect([
		await status(`${MODEL}@one`),
		await status(`${MODEL}@two`),
		await status(`${MODEL}@three`),
	]).toEqual([200, 200, 404]);
	expect(n.services.models().map((one) => one.id)).toEqual([MODEL, `${MODEL}@two`]);
});

test("when the new one does not come up, the old one goes on as if nothing had been", async () => {
	const directory = workDir().path;
	const before = openNode(directory);
	await before.start(first);
	await before.leave();
	const n = node({ command: fixtureEngine({ exitCode: 3, message: "no such luck" }) }, directory);
	await n.services.recover();
	const error = await replaceOld(n).then(
		() => undefined,
		(reason: unknown) => reason,
	);
	expect(error).toBeInstanceOf(GswarmError);
	expect((await chat(n.url, "hello")).status).toBe(200);
	expect(n.services.get(OLD)).toMatchObject({ served_name: MODEL, state: "ready" });
});

test("a port of its own goes with the name", async () => {
	const probe = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response() });
	const port = probe.port ?? 0;
	await probe.stop(true);
	const n = node();
	await n.start({ ...first, port });
	const url = `http://127.0.0.1:${port}`;
	const asking = askAllTheTime(url);
	await until("some were answered", () => asking.count() > 10);
	expect(await replaceOld(n)).toMatchObject({ port, service_id: NEW });
	const before = asking.count();
	await until("more were answered", () => asking.count() > before + 10);
	expect(new Set(await asking.stop())).toEqual(new Set([200]));
	await n.services.stop(NEW, { timeoutMs: 1000 });
	expect(
		await fetch(url).then(
			() => "open",
			() => "closed",
		),
	).toBe("closed");
});

test("asked again after a crash between the two, it goes on where it was", async () => {
	const directory = workDir().path;
	const before = openNode(directory);
	await before.start(first);
	await before.start({ ...second, hasName: false });
	await before.leave();
	const n = node({}, directory);
	await n.services.recover();
	expect(n.services.get(NEW).served_name).toBeNull();
	await replaceOld(n);
	await replaceOld(n);
	expect(n.services.list().map((s) => [s.service_id, s.served_name])).toEqual([[NEW, MODEL]]);
});
