import { expect, test } from "bun:test";
import { Database } from "bun:sqlite";
import { readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ClusterFile, NodeFile } from "../../src/agent/data-dir.ts";
import { createApiClient } from "../../src/api/client.ts";
import { generateKeyPair, isTlsKey, pin } from "../../src/core/identity/identity.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";
import { type RunningAgent, startAgent } from "./start-agent.ts";

const CERTIFICATES = ["ca.key", "ca.pem", "host.key", "host.pem"];

const parsed = (dataDir: string, name: string): unknown =>
	JSON.parse(readFileSync(join(dataDir, name), "utf8"));
const nodeOf = (dataDir: string): NodeFile => parsed(dataDir, "node.json") as NodeFile;
const clusterOf = (dataDir: string): ClusterFile => parsed(dataDir, "cluster.json") as ClusterFile;

const asAdmin = (agent: RunningAgent, dataDir: string) =>
	createApiClient({
		baseUrl: agent.file.host_url ?? "",
		token: () => readFileSync(join(dataDir, "admin.token"), "utf8").trim(),
	});

/** The directory as a version left it that had no certificates: Ed25519 keys in its files and rows. */
function takeBack(dataDir: string): void {
	const node = nodeOf(dataDir);
	const { publicKey, privateKey } = generateKeyPair();
	const earlier = { ...node, public_key: publicKey, private_key: privateKey };
	writeFileSync(join(dataDir, "node.json"), JSON.stringify(earlier), { mode: 0o600 });
	using db = new Database(join(dataDir, "agent.sqlite"));
	db.query("UPDATE cluster_node SET public_key = ?1").run(publicKey);
	for (const name of CERTIFICATES) rmSync(join(dataDir, name), { force: true });
}

test("a one-machine cluster of a version without certificates goes on as itself, with a CA and a new key", async () => {
	using dir = tempDir();
	const options = { dataDir: dir.path, role: { host: true, node: true }, nodeName: "node1" };
	{
		await using agent = await startAgent(options);
		await asAdmin(agent, dir.path).call("registerModel", { body: { model_name: "acme/tiny" } });
		expect(await agent.stop()).toBe(0);
	}
	takeBack(dir.path);
	const [node, cluster] = [nodeOf(dir.path), clusterOf(dir.path)];

	await using agent = await startAgent(options);
	const api = asAdmin(agent, dir.path);
	await until("its node reports", async () => {
		const { nodes } = await api.call("listNodes", {});
		return nodes.some((it) => it.name === "node1" && it.status === "alive" && it.last_seen_s !== null);
	});
	expect((await api.call("listModels", {})).models.map((it) => it.model_name)).toEqual(["acme/tiny"]);
	const now = nodeOf(dir.path);
	expect([now.name, now.node_id, now.in_use]).toEqual([node.name, node.node_id, true]);
	expect(isTlsKey(now.public_key)).toBe(true);
	expect(clusterOf(dir.path)).toEqual(cluster);
	for (const name of ["ca.key", "ca.pem", "host.key"])
		expect([name, statSync(join(dir.path, name)).mode & 0o777]).toEqual([name, 0o600]);
	const { token } = await api.call("createToken", { body: { kind: "join" } });
	expect(token).toStartWith(`GSW10${pin(readFileSync(join(dir.path, "ca.pem"), "utf8"))}::`);
}, 60_000);

test("a restart keeps the CA, the host's key and the node's: whoever pinned them meets the same cluster", async () => {
	using dir = tempDir();
	const options = { dataDir: dir.path, role: { host: true, node: true }, nodeName: "node1" };
	const files = ["ca.key", "ca.pem", "host.key", "node.json"];
	const all = (): string[] => files.map((name) => readFileSync(join(dir.path, name), "utf8"));
	const first = await startAgent(options);
	const before = all();
	expect(await first.stop("SIGKILL")).not.toBe(0);
	await using _second = await startAgent(options);
	expect(all()).toEqual(before);
}, 60_000);

test("a node of such a version goes on with its bearer, and has a certificate for its new key", async () => {
	using dir = tempDir();
	const [home, dataDir] = [join(dir.path, "host"), join(dir.path, "node2")];
	await using host = await startAgent({ dataDir: home, role: { host: true, node: true }, nodeName: "node1" });
	const api = asAdmin(host, home);
	const { token } = await api.call("createToken", { body: { kind: "join" } });
	const joinUrl = host.file.host_url ?? "";
	const options = { dataDir, role: { host: false, node: true }, nodeName: "node2" };
	const first = await startAgent({ ...options, joinUrl, joinString: token });
	expect(await first.stop()).toBe(0);
	const { joined, ...node } = nodeOf(dataDir);
	const { ca_certificate, certificate, join_token, ...earlier } = joined ?? ({} as never);
	expect([ca_certificate, certificate, join_token].every((it) => it !== undefined)).toBe(true);
	const { publicKey, privateKey } = generateKeyPair();
	const keys = { public_key: publicKey, private_key: privateKey };
	writeFileSync(join(dataDir, "node.json"), JSON.stringify({ ...node, ...keys, joined: earlier }));
	using db = new Database(join(home, "agent.sqlite"));
	expect(
		db.query("UPDATE cluster_node SET public_key = ?1 WHERE name = 'node2'").run(publicKey).changes,
	).toBe(1);
	await host.stop("SIGKILL");

	await using again = await startAgent({
		dataDir: home,
		role: { host: true, node: true },
		hostPort: Number(new URL(joinUrl).port),
	});
	await using second = await startAgent({ ...options, role: { host: false, node: true } });
	expect(second.file.name).toBe("node2");
	const now = nodeOf(dataDir);
	expect(now.joined?.node_token).toBe(earlier.node_token);
	expect(now.joined?.ca_certificate).toBe(readFileSync(join(home, "ca.pem"), "utf8"));
	expect(isTlsKey(now.public_key)).toBe(true);
	await until("it reports", async () => {
		const { nodes } = await asAdmin(again, home).call("listNodes", {});
		return nodes.some((it) => it.name === "node2" && it.last_seen_s !== null);
	});
}, 60_000);
