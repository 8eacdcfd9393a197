/** A bundle of a person's machine, sent through the host to a node that cannot read the file itself. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { closeSync, openSync, readFileSync, statSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { type ApiClient, createApiClient } from "../../src/api/client.ts";
import { openBundleFile } from "../../src/cli/bundle-file.ts";
import { sendBundle } from "../../src/cli/send-bundle.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { type LocalCluster, localCluster, modelFiles } from "../support/cluster.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const BYTES = 20_000_000;
const folder = tempDir();
const bundle = join(folder.path, "tiny.tar");
let cluster: LocalCluster;
let contentId: string;

beforeAll(async () => {
	const many = Object.fromEntries(
		Array.from({ length: 40 }, (_, at) => [`notes/${"long ".repeat(30)}${at}.txt`, `note ${at}`]),
	);
	cluster = await localCluster({
		nodes: ["node1", "node2"],
		files: { "acme/tiny": { ...modelFiles(BYTES), ...many } },
	});
	const done = await cluster.download("acme/tiny", "node1:disk");
	contentId = String(done.result?.["content_id"]);
	const response = await cluster.host.client.open("exportModel", {
		params: { model_name: "acme/tiny" },
		query: {},
	});
	writeFileSync(bundle, new Uint8Array(await response.arrayBuffer()));
}, 60_000);

afterAll(async () => {
	await cluster?.[Symbol.asyncDispose]();
	folder[Symbol.dispose]();
}, 60_000);

async function offer(
	file: string,
	more: { model_name?: string; bandwidth_limit?: number } = {},
	client: ApiClient = cluster.host.client,
): Promise<{ task_id: string }> {
	await using opened = await openBundleFile(file);
	const body = { ...opened.announced, target_device: "node2:disk", ...more };
	return await client.call("offerBundle", { body });
}

/** Sends until the task has ended or the signal says so; what was sent. */
async function send(file: string, taskId: string, signal = AbortSignal.timeout(50_000)): Promise<number> {
	await using opened = await openBundleFile(file);
	let sent = 0;
	const counting = {
		...opened,
		async read(piece: Parameters<typeof opened.read>[0]) {
			const bytes = await opened.read(piece);
			sent += bytes.length;
			return bytes;
		},
	};
	await sendBundle({ api: cluster.host.client, clock: systemClock }, taskId, counting, signal);
	return sent;
}

const failure = (work: Promise<unknown>): Promise<Record<string, unknown>> =>
	work.then(
		() => ({ reason: "nothing was refused" }),
		(error: unknown) => asGswarmError(error) as unknown as Record<string, unknown>,
	);

test("it arrives as the same content, every byte sent once, and needs no more room than the model", async () => {
	const { task_id } = await offer(bundle, { model_name: "sent" });
	const sent = await send(bundle, task_id);
	const task = await cluster.ended(task_id);
	expect([task.status, task.result?.["content_id"]]).toEqual(["completed", contentId]);
	expect(task.progress).toMatchObject({ bytes_done: task.progress.bytes_total });
	expect(sent).toBeLessThan(statSync(bundle).size);
	expect(await cluster.ready("sent")).toEqual(["node2:disk"]);
	// What is there already would not be sent again.
	await cluster.done(cluster.remove("sent"));
}, 60_000);

test("whoever stops and comes back sends the rest, to the same task", async () => {
	const { task_id } = await offer(bundle, { model_name: "again", bandwidth_limit: 8_000_000 });
	const gone = new AbortController();
	const first = send(bundle, task_id, gone.signal);
	await until("some of it is there", async () => {
		const { progress } = await cluster.host.client.call("getTask", { params: { task_id } });
		return progress.bytes_done > BYTES / 4;
	});
	gone.abort();
	const before = await first;
	expect((await offer(bundle, { model_name: "again", bandwidth_limit: 8_000_000 })).task_id).toBe(task_id);
	await cluster.host.client.call("setTaskBandwidth", {
		params: { task_id },
		body: { bandwidth_limit: null },
	});
	const after = await send(bundle, task_id);
	const task = await cluster.ended(task_id);
	expect([task.status, task.result?.["content_id"]]).toEqual(["completed", contentId]);
	// What was on its way when the first one went comes again.
	expect(before + after).toBeLessThan(statSync(bundle).size + 12 * 1024 * 1024);
	expect(before).toBeGreaterThan(BYTES / 4);
	await cluster.done(cluster.remove("again"));
}, 60_000);

test("a bundle whose bytes were changed is refused, and nothing of it stays", async () => {
	const bad = join(folder.path, "bad.tar");
	writeFileSync(bad, readFileSync(bundle));
	const fd = openSync(bad, "r+");
	writeSync(fd, Uint8Array.of(1, 2, 3, 4), 0, 4, 15_000_000);
	closeSync(fd);
	const { task_id } = await offer(bad, { model_name: "bad" });
	await send(bad, task_id);
	const task = await cluster.ended(task_id);
	expect([task.status, task.error?.details["reason"]]).toEqual(["failed", "checksum_mismatch"]);
	expect(cluster.node("node2").role.storage.staged()).toEqual([]);
}, 60_000);

test("a bundle that was cut off, and a file that is none, are refused before anything is asked", async () => {
	const cut = join(folder.path, "cut.tar");
	writeFileSync(cut, readFileSync(bundle));
	truncateSync(cut, 10_000_000);
	expect(await failure(openBundleFile(cut))).toMatchObject({ reason: "bad_bundle" });
	writeFileSync(cut, "x".repeat(4096));
	expect(await failure(openBundleFile(cut))).toMatchObject({ reason: "not_a_bundle" });
	writeFileSync(cut, "x");
	expect(await failure(openBundleFile(cut))).toMatchObject({ reason: "bad_bundle" });
});

test("what does not fit is refused at once, what lies about itself when it is looked at", async () => {
	await using opened = await openBundleFile(bundle);
	const { announced } = opened;
	const say = (change: object) =>
		cluster.host.client.call("offerBundle", {
			body: { ...announced, model_name: "liar", target_device: "node2:disk", ...change },
		});
	expect(await failure(say({ size_bytes: 1e15 }))).toMatchObject({
		status: 507,
		reason: "insufficient_space",
	});
	expect(await failure(say({ content_id: "../x" }))).toMatchObject({ status: 400 });
	expect(await failure(say({ model_name: "../../x" }))).toMatchObject({ status: 400 });
	for (const change of [{ size_bytes: 1000 }, { content_id: "0".repeat(64) }]) {
		const { task_id } = await say(change);
		await send(bundle, task_id);
		const task = await cluster.ended(task_id);
		expect([task.status, task.error?.details["reason"]]).toEqual(["failed", "bad_bundle"]);
	}
	expect(cluster.node("node2").role.storage.staged()).toEqual([]);
}, 60_000);

test("a cancelled import ends its sender; a user sends to their own task alone, and keeps it", async () => {
	const { token } = await cluster.host.client.call("createToken", {
		body: { kind: "user", role: "user", name: "ann" },
	});
	const ann = createApiClient({ baseUrl: cluster.host.url, token: () => token });
	const { task_id } = await offer(bundle, { model_name: "mine", bandwidth_limit: 1_000_000 });
	const params = { task_id };
	expect(await failure(ann.call("wantedPiece", { params, query: {} }))).toMatchObject({
		status: 403,
		reason: "not_your_task",
	});
	const sending = send(bundle, task_id);
	await cluster.host.client.call("cancelTask", { params });
	await sending;
	expect((await cluster.ended(task_id)).status).toBe("cancelled");
	const own = await offer(bundle, { model_name: "hers", bandwidth_limit: 1_000_000 }, ann);
	const of = { params: { task_id: own.task_id } };
	await ann.call("setTaskBandwidth", { ...of, body: { bandwidth_limit: 2_000_000 } });
	await ann.call("wantedPiece", { ...of, query: {} });
	expect(await ann.call("cancelTask", of)).toMatchObject({ task_id: own.task_id });
}, 60_000);
