// A host and two nodes that meet each other over TLS: what they say, whom they refuse, how often they shake hands.
import { expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { createApiClient } from "../../src/api/client.ts";
import { sha256Hex, xxh64Hex } from "../../src/platform/hash.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { canonicalManifest } from "../../src/schema/manifest.ts";
import type { TaskDocument } from "../../src/schema/task.ts";
import { keyPem, parseJoinString } from "../../src/core/identity/identity.ts";
import { PROTOCOL_VERSION } from "../../src/schema/node.ts";
import { localCluster, type LocalCluster, modelFiles } from "../support/cluster.ts";
import { testRequest } from "../support/credentials.ts";
import { until } from "../support/until.ts";
import { testAuthority } from "./test-certificates.ts";

const MODEL = "acme/tiny";
const files = { [MODEL]: modelFiles(1_500_000) };
const BIND = "127.0.0.1";
const LIMIT_MS = 90_000;

async function reasonOf(run: Promise<unknown>): Promise<string> {
	try {
		await run;
	} catch (error) {
		const { status, reason } = asGswarmError(error);
		return `${status} ${reason}`;
	}
	return "accepted";
}

async function copied(c: LocalCluster, more: { verify_checksum?: boolean } = {}): Promise<TaskDocument> {
	const { task_id } = await c.host.client.call("copyModel", {
		params: { model_name: MODEL },
		body: { source_device: "node1:disk", target_device: "node2:disk", ...more },
	});
	return c.ended(task_id);
}

/** How many connections this machine has had with a port lately: one that was closed is remembered for a minute. */
function connectionsWith(port: number): number {
	const others = new Set<number>();
	for (const line of readFileSync("/proc/net/tcp", "utf8").split("\n").slice(1)) {
		const [, local = "", remote = "", state] = line.trim().split(/\s+/);
		const [from, to] = [local, remote].map((it) => Number.parseInt(it.split(":")[1] ?? "0", 16));
		// 0A is the listener itself.
		if (state === "0A") continue;
		if (from === port && to !== undefined) others.add(to);
		else if (to === port && from !== undefined) others.add(from);
	}
	return others.size;
}

test(
	"a model goes from the hub to a node and on to another, all of it over TLS",
	async () => {
		await using c = await localCluster({ files, tls: true });
		for (const url of [c.host.url, c.node("node1").url, c.node("node1").peerUrl]) {
			expect(url).toStartWith("https://127.0.0.1:");
		}
		await c.download(MODEL, "node1:disk");
		expect(await copied(c)).toMatchObject({ status: "completed", result: { device: "node2:disk" } });
		expect(await c.ready(MODEL)).toEqual(["node1:disk", "node2:disk"]);
		expect(c.node("node2").files()).toEqual(c.node("node1").files());
	},
	LIMIT_MS,
);

test(
	"over TLS the digests of the parts are enough; sha256 is read once more only where that is asked for",
	async () => {
		await using c = await localCluster({ files, tls: true });
		await c.download(MODEL, "node1:disk");
		const { storage } = c.node("node1").role;
		const [honest] = storage.copies();
		const manifest = storage.manifest(honest?.content_id ?? "");
		if (honest === undefined || manifest === undefined) throw new Error("the copy is missing");
		const path = join(storage.pathOf(honest), "model.safetensors");
		const bytes = readFileSync(path);
		bytes.writeUInt8(bytes.readUInt8(1000) ^ 1, 1000);
		writeFileSync(path, bytes);
		// A node that has credentials and lies: only reading the bytes again can tell.
		const forged = {
			...manifest,
			files: manifest.files.map((f) =>
				f.path === "model.safetensors" ? { ...f, xxh64: [xxh64Hex(bytes)] } : f,
			),
		};
		const copy = { ...honest, content_id: sha256Hex(canonicalManifest(forged)) };
		Object.assign(storage, {
			copies: () => [copy],
			copy: () => copy,
			manifest: () => forged,
			pathOf: () => dirname(path),
		});
		const checked = await copied(c, { verify_checksum: true });
		expect(checked.error?.details).toMatchObject({ reason: "checksum_mismatch" });
		expect(c.node("node2").files()).toEqual([]);
		expect((await copied(c)).status).toBe("completed");
	},
	LIMIT_MS,
);

test(
	"parts are taken from nobody but the node that the host named",
	async () => {
		await using c = await localCluster({ files, tls: true });
		await c.download(MODEL, "node1:disk");
		const other = await testAuthority();
		const { peerListener } = c.node("node1");
		// The name is right and the authority is another one.
		peerListener.replace({ bind: BIND, tls: [await other.node("node1")] });
		expect((await copied(c)).error?.details).toMatchObject({ reason: "tls_failed" });
		// The authority is ours and it is another node, or nobody at all.
		peerListener.replace({ bind: BIND, tls: c.node("node2").tls });
		expect((await copied(c)).error?.details).toMatchObject({ reason: "tls_failed" });
		expect(c.node("node2").files()).toEqual([]);
		peerListener.replace({ bind: BIND, tls: c.node("node1").tls });
		expect((await copied(c)).status).toBe("completed");
	},
	LIMIT_MS,
);

test(
	"a host says nothing to a node that is another, and a node nothing to a host that is none",
	async () => {
		await using c = await localCluster({ files, tls: true });
		const [node1, node2] = [c.node("node1"), c.node("node2")];
		const ask = (): Promise<string> =>
			reasonOf(c.host.client.call("queueStatus", { query: { node: "node1" } }));
		expect(await ask()).toBe("accepted");
		node1.listener.replace({ bind: BIND, tls: node2.tls });
		expect(await ask()).toBe("502 tls_failed");
		node1.listener.replace({ bind: BIND, tls: node1.tls });
		expect(await ask()).toBe("accepted");

		const heard = () => c.log.filter((it) => it["event"] === "host_link.lost").length;
		// A node of the cluster that stands where the host was: its certificate is of the same authority.
		c.host.listener.replace({ bind: BIND, tls: node2.tls });
		node1.role.report();
		await until("node1 refuses it", () => heard() > 0);
		const answered = createApiClient({ baseUrl: c.host.url, token: () => undefined, tls: node2.trust });
		expect(await answered.call("health", {})).toMatchObject({ status: "ok" });
	},
	LIMIT_MS,
);

/** An admin forgets a node's key, and another machine joins under its name: what its listeners show. */
async function joinedAnew(c: LocalCluster, node: string) {
	await c.host.client.call("resetNode", { params: { node } });
	const { token } = await c.host.client.call("createToken", { body: { kind: "join" } });
	const { tokenId, secret } = parseJoinString(token);
	const { key, certificate_request } = await testRequest(node);
	const stranger = createApiClient({ baseUrl: c.host.url, token: () => undefined, tls: c.host.trust });
	const answer = await stranger.call("join", {
		body: {
			node,
			secret: `${tokenId}.${secret}`,
			certificate_request,
			protocol_version: PROTOCOL_VERSION,
			version: "test",
		},
	});
	if (answer.status !== "joined") throw new Error(`${node} has to wait`);
	return [{ certificate: answer.certificate, privateKey: keyPem(key.privateKey) }] as const;
}

test(
	"the certificate of a key that a node no longer has is good for nothing, neither for calls nor for parts",
	async () => {
		await using c = await localCluster({ files, tls: true });
		await c.download(MODEL, "node1:disk");
		const node1 = c.node("node1");
		const ask = (): Promise<string> =>
			reasonOf(c.host.client.call("queueStatus", { query: { node: "node1" } }));
		expect(await ask()).toBe("accepted");
		const anew = await joinedAnew(c, "node1");
		// Not on the connection either that is still open from before.
		expect(await ask()).toBe("502 tls_failed");
		node1.listener.replace({ bind: BIND, tls: anew });
		expect(await ask()).toBe("accepted");
		// The peer listener still shows the earlier one.
		expect((await copied(c)).error?.details).toMatchObject({ reason: "tls_failed" });
		node1.peerListener.replace({ bind: BIND, tls: anew });
		expect((await copied(c)).status).toBe("completed");
	},
	LIMIT_MS,
);

test(
	"plain HTTP to a port of TLS is closed without a word",
	async () => {
		await using c = await localCluster({ nodes: ["node1"], tls: true });
		for (const url of [c.host.url, c.node("node1").url, c.node("node1").peerUrl]) {
			const plain = fetch(url.replace("https:", "http:")).then(
				(response) => `answered ${response.status}`,
				(error: NodeJS.ErrnoException) => error.code,
			);
			expect(await plain).toBe("ECONNRESET");
		}
	},
	LIMIT_MS,
);

test(
	"agents shake hands once and stay connected",
	async () => {
		await using c = await localCluster({ nodes: ["node1"], tls: true });
		const { listener } = c.node("node1");
		const before = { host: connectionsWith(c.host.listener.port), node: connectionsWith(listener.port) };
		for (let call = 0; call < 30; call++) {
			await c.host.client.call("queueStatus", { query: { node: "node1" } });
			expect(await c.node("node1").role.reportNow(5_000)).toBe(true);
		}
		const after = { host: connectionsWith(c.host.listener.port), node: connectionsWith(listener.port) };
		// Two that call at the same moment need two; thirty that come one by one need none.
		expect(after.node - before.node).toBeLessThan(4);
		expect(after.host - before.host).toBeLessThan(4);
	},
	LIMIT_MS,
);
