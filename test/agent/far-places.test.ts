/** Models that come from buckets and registries and go to buckets, through host and node as people ask for it. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "bun:test";
import { createApiClient } from "../../src/api/client.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { type LocalCluster, localCluster, modelFiles } from "../support/cluster.ts";
import { tempDir } from "../support/temp-dir.ts";
import { type LoopbackS3, startS3 } from "../support/loopback-s3.ts";

const KEYS = { accessKeyId: "AKIATEST", secretAccessKey: "canary-far-4711" };
const TARGET = "s3://models/acme/tiny";
let cluster: LocalCluster;
let s3: LoopbackS3;
const folder = tempDir();

beforeAll(async () => {
	s3 = startS3({ keys: KEYS, buckets: ["models"], minPartBytes: 5 * 1024 * 1024 });
	cluster = await localCluster({
		nodes: ["node1", "node2"],
		files: { "acme/tiny": modelFiles(9_000_000) },
		importDirectories: [folder.path],
		buckets: { s3: { endpoint: s3.url, region: "us-east-1", pathStyle: true, credentials: KEYS } },
	});
	await cluster.download("acme/tiny", "node1:disk");
}, 60_000);
afterAll(async () => {
	await cluster[Symbol.asyncDispose]();
	s3.stop();
	folder[Symbol.dispose]();
});

const upload = (
	body: { target_url: string; source_device?: string; overwrite?: boolean },
	model = "acme/tiny",
) => cluster.host.client.call("uploadModel", { params: { model_name: model }, body });
const failure = (work: Promise<unknown>): Promise<Record<string, unknown>> =>
	work.then(
		() => ({ reason: "nothing was refused" }),
		(error: unknown) => asGswarmError(error) as unknown as Record<string, unknown>,
	);

test("a model goes to a bucket and comes back to another node as the same content", async () => {
	const done = await cluster.done(upload({ target_url: TARGET }));
	expect(done).toMatchObject({
		task_type: "upload",
		node: "node1",
		result: { target_url: TARGET, files: 2, already_there_bytes: 0 },
	});
	expect(done.progress.bytes_done).toBe(done.progress.bytes_total);
	const looked = await cluster.host.client.call("inspectSource", { body: { source_url: TARGET } });
	expect(looked).toMatchObject({ suggested_name: "tiny", file_count: 2 });
	expect(looked.files.every(({ digest }) => digest?.startsWith("sha256:") === true)).toBe(true);
	const back = await cluster.done(
		cluster.host.client.call("downloadModel", {
			params: { model_name: "back" },
			body: { source_url: TARGET, target_device: "node2:disk", verify_checksum: true },
		}),
	);
	expect(back.result?.["content_id"]).toBe(done.result?.["content_id"] as string);
	expect(JSON.stringify([done, back, cluster.log])).not.toContain(KEYS.secretAccessKey);
}, 60_000);

test("an upload that is asked for twice while it runs is one task; again later it sends nothing", async () => {
	const twice = await Promise.all([
		upload({ target_url: `${TARGET}-2` }),
		upload({ target_url: `${TARGET}-2` }),
	]);
	for (const { task_id } of twice) expect((await cluster.ended(task_id)).status).toBe("completed");
	const later = await cluster.done(upload({ target_url: `${TARGET}-2` }));
	expect(later.result?.["already_there_bytes"]).toBe(later.result?.["size_bytes"] as number);
}, 60_000);

test.each<[string, Parameters<typeof upload>, number, string]>([
	["a scheme of no bucket", [{ target_url: "hf:acme/tiny" }], 400, "bad_target"],
	[
		"a bucket of a service that is not configured",
		[{ target_url: "gs://models/x" }],
		400,
		"scheme_not_allowed",
	],
	["a name of no bucket", [{ target_url: "s3://../x" }], 400, "bad_source"],
	["keys in the address", [{ target_url: "s3://a:b@models/x" }], 400, "credentials_in_url"],
	["a model that is not there", [{ target_url: TARGET }, "acme/none"], 404, "model_not_found"],
	["a device that has it not", [{ target_url: TARGET, source_device: "node2:disk" }], 404, "model_not_found"],
])("%s is refused at once", async (_what, asked, status, reason) => {
	const refused = await failure(upload(...asked));
	expect([refused["status"], refused["reason"]]).toEqual([status, reason]);
});

test("what is in the bucket already stays, and the task says so", async () => {
	s3.put("models", "taken/config.json", "somebody's");
	const { task_id } = await upload({ target_url: "s3://models/taken" });
	const task = await cluster.ended(task_id);
	expect([task.status, task.error?.details["reason"]]).toEqual(["failed", "target_not_empty"]);
	expect(s3.text("models", "taken/config.json")).toBe("somebody's");
}, 60_000);

test("who may only use models does not send them away", async () => {
	const { token } = await cluster.host.client.call("createToken", {
		body: { kind: "user", role: "user", name: "ann" },
	});
	const user = createApiClient({ baseUrl: cluster.host.url, token: () => token });
	const refused = await failure(
		user.call("uploadModel", { params: { model_name: "acme/tiny" }, body: { target_url: `${TARGET}-3` } }),
	);
	expect(refused).toMatchObject({ status: 403, reason: "role_not_allowed" });
});

test("a bundle of the host is imported elsewhere under its own name and revision", async () => {
	const { host } = cluster;
	const response = await host.client.open("exportModel", { params: { model_name: "acme/tiny" }, query: {} });
	expect(response.headers.get("content-type")).toBe("application/x-tar");
	const file = join(folder.path, "tiny.tar");
	writeFileSync(file, new Uint8Array(await response.arrayBuffer()));
	const bring = (more: { model_name?: string } = {}) =>
		host.client.call("importModel", {
			body: { source_url: `file://${file}`, target_device: "node2:disk", ...more },
		});
	const submitted = await bring();
	expect(submitted).toMatchObject({ model_name: "acme/tiny", revision: cluster.hub.commitOf("acme/tiny") });
	const done = await cluster.done(Promise.resolve(submitted));
	expect(done.result?.["content_id"]).toBe(response.headers.get("x-gswarm-content-id") as string);
	const { source_url } = await host.client.call("getModel", { params: { model_name: "acme/tiny" } });
	expect(source_url).toStartWith("hf:acme/tiny");
	expect(await cluster.ready("acme/tiny")).toEqual(["node1:disk", "node2:disk"]);
	await cluster.done(bring({ model_name: "other" }));
	expect(await cluster.ready("other")).toEqual(["node2:disk"]);
}, 60_000);

test.each<[string, string, number, string]>([
	["a file outside of the import folders", "file:///etc/passwd", 400, "scheme_not_allowed"],
	["a file that is not there", "none.tar", 404, "file_not_found"],
	["a file that is no bundle", "plain.tar", 400, "not_a_bundle"],
	["an address of this machine", "http://127.0.0.1:1/tiny.tar", 403, "address_blocked"],
])("the import of %s is refused at once", async (_what, name, status, reason) => {
	writeFileSync(join(folder.path, "plain.tar"), "x".repeat(4096));
	const source_url = name.includes(":") ? name : `file://${join(folder.path, name)}`;
	const body = { source_url, target_device: "node2:disk" };
	const refused = await failure(cluster.host.client.call("importModel", { body }));
	expect([refused["status"], refused["reason"]]).toEqual([status, reason]);
});

test("an export of what is not there is refused", async () => {
	const client = cluster.host.client;
	const of = (model_name: string, query: { device?: string } = {}) =>
		failure(client.open("exportModel", { params: { model_name }, query }));
	expect(await of("acme/none")).toMatchObject({ status: 404, reason: "model_not_found" });
	expect(await of("acme/tiny", { device: "node2:dram" })).toMatchObject({ status: 404 });
});
