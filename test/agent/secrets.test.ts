/** Secrets between a person, the host's file, and the task of a node. */
import { describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { secretRoutes } from "../../src/agent/host/secret-routes.ts";
import { createCredentialLookUp } from "../../src/agent/node/credential-look-up.ts";
import { openSecretsOf } from "../../src/agent/secret-file.ts";
import { createApiClient } from "../../src/api/client.ts";
import type { Secrets } from "../../src/core/identity/identity.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { localCluster } from "../support/cluster.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const SECRET = "hf_canary_4711";
const HUB = "https://hub.example";
const signal = (): AbortSignal => AbortSignal.timeout(20_000);
const reasonOf = (work: Promise<unknown>): Promise<unknown> =>
	work.then(
		() => "nothing was refused",
		(error: unknown) => asGswarmError(error).reason,
	);

describe("the file of the secrets", () => {
	const open = (path: string) => openSecretsOf(path, { clock: systemClock, hubEndpoint: `${HUB}/hf/` });

	test("is made for this user alone, whole, and nothing else is left beside it", async () => {
		using dir = tempDir();
		await open(dir.path).set({ name: "hf", value: SECRET, origins: undefined, setBy: "ann" });
		expect(readdirSync(dir.path)).toEqual(["secrets.json"]);
		expect((statSync(join(dir.path, "secrets.json")).mode & 0o777).toString(8)).toBe("600");
		expect(open(dir.path).valueFor(HUB)).toBe(SECRET);
	});

	test.each([0o644, 0o640, 0o604, 0o666])(
		"with mode %o stops the start, and says what to do",
		async (mode) => {
			using dir = tempDir();
			await open(dir.path).set({ name: "hf", value: SECRET, origins: undefined, setBy: "ann" });
			chmodSync(join(dir.path, "secrets.json"), mode);
			expect(await reasonOf(Promise.try(() => open(dir.path)))).toBe("unsafe_secret_file");
		},
	);

	test("that cannot be replaced is told as such, keeps what it had, and leaves nothing half written", async () => {
		using dir = tempDir();
		const secrets = open(dir.path);
		await secrets.set({ name: "hf", value: "before", origins: undefined, setBy: "ann" });
		// What cannot be replaced by a file is a directory in its place.
		rmSync(join(dir.path, "secrets.json"));
		mkdirSync(join(dir.path, "secrets.json", "in-the-way"), { recursive: true });
		await expect(
			secrets.set({ name: "hf", value: SECRET, origins: undefined, setBy: "ann" }),
		).rejects.toThrow();
		expect(secrets.valueFor(HUB)).toBe("before");
		expect(readdirSync(dir.path)).toEqual(["secrets.json"]);
	});

	test("that a crash left beside it is gone after the next start", async () => {
		using dir = tempDir();
		writeFileSync(join(dir.path, "secrets.json.new"), SECRET, { mode: 0o600 });
		open(dir.path);
		expect(readdirSync(dir.path)).toEqual([]);
	});
});

describe("the way of a secret to a node", () => {
	test.each([
		["http://10.0.0.7:8000", false],
		["http://gpu1.example:8000", false],
		["http://0.0.0.0:8000", false],
		["https://10.0.0.7:8000", true],
		["http://127.0.0.1:8000", true],
		["http://[::1]:8000", true],
	])("to a host at %s is asked for: %p", async (baseUrl, isAsked) => {
		let sent = 0;
		const client = createApiClient({
			baseUrl,
			token: () => "gsw_node_x",
			send: () => {
				sent++;
				return Promise.resolve(Response.json({ bearer: SECRET }));
			},
		});
		const asked = createCredentialLookUp(() => ({ client, flush: () => Promise.resolve(true) }))(
			HUB,
			signal(),
		);
		if (isAsked) expect(await asked).toBe(SECRET);
		else expect(await reasonOf(asked)).toBe("plain_http");
		expect(sent).toBe(isAsked ? 1 : 0);
	});

	test("before there is a line to the host it fails as a host that is away", async () => {
		const asked = createCredentialLookUp(() => undefined)(HUB, signal());
		expect(await reasonOf(asked)).toBe("host_unreachable");
	});

	test.each([
		["http://10.0.0.7:8000/api/v1/credentials", "10.0.0.8", false],
		["http://localhost:8000/api/v1/credentials", "10.0.0.8", false],
		["http://10.0.0.7:8000/api/v1/credentials", "", false],
		["/api/v1/credentials", "10.0.0.8", false],
		["https://10.0.0.7:8000/api/v1/credentials", "10.0.0.8", true],
		["http://127.0.0.1:8000/api/v1/credentials", "127.0.0.1", true],
		["http://127.0.0.1:8000/api/v1/credentials", "::ffff:127.0.0.1", true],
	])("the host answers %s from %j: %p", async (url, address, isAnswered) => {
		const secrets = { valueFor: () => SECRET } as unknown as Secrets;
		const cluster = { view: () => ({ beat: { tasks: { running: 1 } } }) } as never;
		const inspections = { has: () => false };
		const { lookUpCredential } = secretRoutes({ secrets, cluster, inspections });
		// A URL without a host is what Bun makes of a request whose Host is none.
		const call = { body: { origin: HUB }, request: { url }, address } as Parameters<
			typeof lookUpCredential
		>[0];
		const asked = Promise.try(() => lookUpCredential(call));
		if (isAnswered) expect(await asked).toEqual({ bearer: SECRET });
		else expect(await reasonOf(asked)).toBe("insecure_line");
	});
});

test("a private model comes with the secret that an admin stored, which is forgotten when it is removed", async () => {
	const files = { "acme/private": { "config.json": "{}", "model.safetensors": "weights" } };
	await using cluster = await localCluster({ nodes: ["node1"], files, privateTo: SECRET });
	const { host, hub } = cluster;
	const download = async (): Promise<string> => {
		const { task_id } = await host.client.call("downloadModel", {
			params: { model_name: "acme/private" },
			body: { target_device: "node1:disk" },
		});
		const task = await cluster.ended(task_id);
		return task.error === null ? task.status : String(task.error.details["reason"]);
	};
	expect(await download()).toBe("auth");
	const set = host.client.call("setSecret", {
		params: { secret_name: "hf" },
		body: { value: SECRET, origins: [hub.url] },
	});
	expect(await set).toMatchObject({ name: "hf", origins: [hub.url] });
	await host.stop();
	await host.start();
	await until("the node is heard of again", async () => {
		const [node] = (await host.client.call("listNodes", {})).nodes;
		return node?.last_seen_s !== null;
	});
	expect((await host.client.call("listSecrets", {})).secrets).toMatchObject([{ name: "hf" }]);
	expect(await download()).toBe("completed");
	// No task runs: it is this question of the host that lets the node have it.
	const asked = { source_url: `${hub.url}/acme/private` };
	expect(await host.client.call("inspectSource", { body: asked })).toMatchObject({ file_count: 2 });
	await cluster.done(cluster.remove("acme/private"));
	await host.client.call("removeSecret", { params: { secret_name: "hf" } });
	expect(await download()).toBe("auth");
	const lookUps = (await host.client.call("listAudit", { query: { action: "lookUpCredential" } })).entries;
	expect(lookUps.map(({ actor, target, status }) => [actor.name, target["origin"], status])).toEqual(
		[1, 2, 3, 4].map(() => ["node1", hub.url, 200]),
	);
	expect(JSON.stringify([cluster.log, lookUps])).not.toContain(SECRET);
}, 60_000);

test("only nodes may ask for a credential, and they learn nothing of other origins", async () => {
	await using cluster = await localCluster({ nodes: ["node1"] });
	const { host } = cluster;
	const node = createApiClient({ baseUrl: host.url, token: () => cluster.node("node1").token });
	await host.client.call("setSecret", {
		params: { secret_name: "lab" },
		body: { value: SECRET, origins: [HUB] },
	});
	const asks = (origin: string) => node.call("lookUpCredential", { body: { origin } });
	// Nothing runs there.
	expect(await reasonOf(asks(HUB))).toBe("no_task");
	const seen = host.role.cluster.view("node1").beat;
	if (seen === undefined) throw new Error("node1 has not reported");
	await cluster.node("node1").stop();
	const working = { ...seen, seq: seen.seq + 99, tasks: { ...seen.tasks, running: 1 } };
	await host.role.cluster.beat("node1", working, "127.0.0.1");
	expect(await asks(HUB)).toEqual({ bearer: SECRET });
	for (const other of ["https://other.example", `${HUB}:8443`, `${HUB}/`, "http://hub.example", "*"]) {
		expect(await asks(other)).toEqual({ bearer: null });
	}
	const asAdmin = host.client.call("lookUpCredential", { body: { origin: HUB } });
	expect(await reasonOf(asAdmin)).toBe("role_not_allowed");
	expect(await reasonOf(node.call("listSecrets", {}))).toBe("role_not_allowed");
	const put = node.call("setSecret", {
		params: { secret_name: "lab" },
		body: { value: "x", origins: [HUB] },
	});
	expect(await reasonOf(put)).toBe("role_not_allowed");
}, 60_000);
