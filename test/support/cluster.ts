/**
 * A host and nodes in this one process, wired as `gswarm agent` wires them: real HTTP on loopback, real SQLite, real
 * files, a stand-in of the hub. Any of them can be stopped and started again on what it left on the disk.
 */
import { randomFillSync } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { openHost, type HostRole } from "../../src/agent/host/host.ts";
import { createApp } from "../../src/agent/http/app.ts";
import { allowedHosts } from "../../src/agent/http/browser-guard.ts";
import { type ListenerTls, type OpenListener, openListener } from "../../src/agent/http/listener.ts";
import { type NodeGpus, openNode, type NodeOptions, type NodeRole } from "../../src/agent/node/node.ts";
import { databaseModules } from "../../src/agent/database-modules.ts";
import { openSecretsOf } from "../../src/agent/secret-file.ts";
import { type ApiClient, createApiClient } from "../../src/api/client.ts";
import {
	createAudit,
	createIdentity,
	formatToken,
	generateKeyPair,
	type Identity,
	keyPem,
	makeToken,
	nodeServerName,
	parseJoinString,
	signAssertion,
	type TlsTrust,
} from "../../src/core/identity/identity.ts";
import { HOST_SERVER_NAME } from "../../src/schema/names.ts";
import type { SourceContext } from "../../src/core/source/source.ts";
import { type Clock, systemClock } from "../../src/platform/clock.ts";
import { openInlineDatabase } from "../../src/platform/database.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { createLog, type Log } from "../../src/platform/log.ts";
import { createOutbound } from "../../src/platform/outbound.ts";
import { PROTOCOL_VERSION } from "../../src/schema/node.ts";
import { isTerminal, type TaskDocument } from "../../src/schema/task.ts";
import { HOLDER_COMMAND } from "./accelerator.ts";
import { memoryPems, testCredentials, testRequest } from "./credentials.ts";
import { type Hub, startHub } from "./loopback-hub.ts";
import { tempDir } from "./temp-dir.ts";
import { until } from "./until.ts";

const BIND = "127.0.0.1";
const DRAM_BYTES = 16 * 1024 * 1024;
/** So long that no compressor finds it again. */
const NOISE = randomFillSync(new Uint8Array(4 * 1024 * 1024));

/** A model of two files, `bytes` in all but for a few; another seed, other bytes. */
export function modelFiles(bytes: number, seed = 0): Record<string, Uint8Array | string> {
	const weights = new Uint8Array(bytes);
	for (let at = 0; at < bytes; at += NOISE.length) {
		weights.set(NOISE.subarray(0, Math.min(NOISE.length, bytes - at)), at);
		new DataView(weights.buffer).setUint32(at, at ^ seed);
	}
	return { "config.json": "{}", "model.safetensors": weights };
}

/** The system's time, and as much more as the test lets pass at once. */
export interface ShiftedClock extends Clock {
	shift(ms: number): void;
}

export interface LocalHost {
	/** As an admin. */
	client: ApiClient;
	/** The admin's bearer. */
	admin: string;
	/** With what the host calls a node. */
	assertionFor(node: string): string;
	url: string;
	/** Whom to meet there, where the cluster speaks TLS. */
	trust: TlsTrust;
	listener: OpenListener;
	role: HostRole;
	identity: Identity;
	clock: ShiftedClock;
	stop(): Promise<void>;
	start(): Promise<void>;
	/** Lets the host believe that so much time has passed, awake all the while. */
	pass(ms: number): void;
}

export interface LocalNode {
	name: string;
	/** As an admin of that node. */
	client: ApiClient;
	/** The bearer of that admin. */
	admin: string;
	url: string;
	peerUrl: string;
	/** Whom to meet at both, where the cluster speaks TLS. */
	trust: TlsTrust;
	listener: OpenListener;
	peerListener: OpenListener;
	/** What both show. */
	tls: ListenerTls | undefined;
	/** What it was given when it joined. */
	token: string;
	role: NodeRole;
	stop(): Promise<void>;
	start(): Promise<void>;
	/** Relative paths of all files on a tier, those in staging and trash too. */
	files(tier?: string): string[];
}

export interface CopyOptions {
	bandwidth_limit?: number;
	keep_source?: boolean;
}

export interface LocalCluster extends AsyncDisposable {
	host: LocalHost;
	hub: Hub;
	/** A node by name, joined and reporting. */
	node(name: string): LocalNode;
	join(name: string): Promise<LocalNode>;
	/** Lines of all agents' logs. */
	log: Record<string, unknown>[];
	/** The task when it has ended, as the host tells it. */
	ended(taskId: string): Promise<TaskDocument>;
	/** Submits and waits for a good end. */
	done(submitted: Promise<{ task_id: string }>): Promise<TaskDocument>;
	/** Brings a model of the hub to a device. */
	download(model: string, device: string): Promise<TaskDocument>;
	/** Submits a copy through the host. */
	copy(model: string, from: string, to: string, more?: CopyOptions): Promise<{ task_id: string }>;
	move(model: string, from: string, to: string, more?: CopyOptions): Promise<{ task_id: string }>;
	/** Submits a removal through the host: of one copy, or without a device of the whole model. */
	remove(model: string, device?: string, more?: { force?: boolean }): Promise<{ task_id: string }>;
	/** Devices on which the host knows a ready copy. */
	ready(model: string): Promise<string[]>;
}

export async function localCluster({
	nodes = ["node1", "node2"],
	files = {},
	privateTo,
	dramBytes = DRAM_BYTES,
	diskBytes,
	watermarks,
	tls = false,
	buckets = {},
	importDirectories = [],
	simulatedGpus,
	gpus = simulatedGpus && { simulatedBytes: simulatedGpus },
	engineCommand = ["/bin/false"],
}: {
	nodes?: readonly string[];
	/** By repository. */
	files?: Record<string, Record<string, Uint8Array | string>>;
	/** The token that one needs to see any of them. */
	privateTo?: string;
	/** Each node's budget. */
	dramBytes?: number;
	/** The budget of each of their disks. */
	diskBytes?: number;
	/** When copies go by themselves. */
	watermarks?: NonNullable<NodeOptions["watermarks"]>;
	/** Everything that listens speaks TLS. */
	tls?: boolean;
	/** Services of buckets that the nodes are configured for. */
	buckets?: NonNullable<SourceContext["buckets"]>;
	/** Import folders of every node. */
	importDirectories?: readonly string[];
	/** Sizes of the simulated GPUs of every node; left out: none, and none is looked for. */
	simulatedGpus?: readonly number[];
	/** More of how the nodes find GPUs. */
	gpus?: Partial<NodeGpus> | undefined;
	/** Up to and including `__engine`. */
	engineCommand?: readonly string[];
} = {}): Promise<LocalCluster> {
	const stack = new AsyncDisposableStack();
	const home = stack.use(tempDir());
	const memory = stack.use(tempDir(existsSync("/dev/shm") ? "/dev/shm" : undefined));
	const lines: Record<string, unknown>[] = [];
	const log = createLog({ clock: systemClock, write: (line) => void lines.push(JSON.parse(line)) });
	const publish = (repository: string, content: Record<string, Uint8Array | string>): string => {
		const dir = join(home.path, "hub", repository);
		for (const [path, bytes] of Object.entries(content)) {
			mkdirSync(dirname(join(dir, path)), { recursive: true });
			writeFileSync(join(dir, path), bytes);
		}
		return dir;
	};
	const isPrivate = privateTo !== undefined;
	const repositories = Object.entries(files).map(([id, content]) => [
		id,
		{ dir: publish(id, content), private: isPrivate },
	]);
	const tokens = isPrivate ? { [privateTo]: Object.keys(files) } : {};
	const hub = startHub({ repositories: Object.fromEntries(repositories), tokens });
	stack.defer(() => hub.stop());
	const host = await startHost(join(home.path, "host"), log, tls);
	stack.defer(() => host.stop());
	const known = new Map<string, LocalNode>();
	const cluster: LocalCluster = {
		host,
		hub,
		log: lines,
		node(name) {
			const node = known.get(name);
			if (node === undefined) throw new Error(`no node ${name} in this test`);
			return node;
		},
		async join(name) {
			const places = { home: join(home.path, name), dram: join(memory.path, name) };
			const node = await startNode({
				name,
				...places,
				dramBytes,
				diskBytes,
				watermarks,
				host,
				hub,
				log,
				tls,
				buckets,
				importDirectories,
				gpus,
				engineCommand,
			});
			stack.defer(() => node.stop());
			known.set(name, node);
			await until(`${name} is alive`, async () => {
				const { nodes: all } = await host.client.call("listNodes", {});
				return all.some((it) => it.name === name && it.last_seen_s !== null);
			});
			return node;
		},
		ended: (taskId) =>
			until(
				`${taskId} has ended`,
				async () => {
					const task = await host.client.call("getTask", { params: { task_id: taskId } });
					return isTerminal(task.status) ? task : undefined;
				},
				60_000,
			),
		async done(submitted) {
			const task = await cluster.ended((await submitted).task_id);
			if (task.status !== "completed") throw new Error(`${task.task_id}: ${JSON.stringify(task.error)}`);
			return task;
		},
		download: (model, device) =>
			cluster.done(
				host.client.call("downloadModel", { params: { model_name: model }, body: { target_device: device } }),
			),
		copy: (model, from, to, more = {}) =>
			host.client.call("copyModel", {
				params: { model_name: model },
				body: { source_device: from, target_device: to, ...more },
			}),
		move: (model, from, to, more = {}) =>
			host.client.call("moveModel", {
				params: { model_name: model },
				body: { source_device: from, target_device: to, ...more },
			}),
		remove: (model, device, { force = false } = {}) =>
			host.client.call("deleteModel", {
				params: { model_name: model },
				query: { force: force ? "true" : "false", ...(device === undefined ? {} : { device }) },
			}),
		async ready(model) {
			const { location_details: all } = await host.client.call("getModel", { params: { model_name: model } });
			return all.filter((it) => it.status === "ready").map((it) => it.device);
		},
		[Symbol.asyncDispose]: () => stack.disposeAsync(),
	};
	for (const name of nodes) await cluster.join(name);
	return cluster;
}

function shiftedClock(): ShiftedClock {
	let offsetMs = 0;
	return {
		nowMs: () => systemClock.nowMs() + offsetMs,
		monotonicMs: () => systemClock.monotonicMs() + offsetMs,
		bootMs: () => systemClock.bootMs() + offsetMs,
		sleep: (ms, signal) => systemClock.sleep(ms, signal),
		shift(ms) {
			offsetMs += ms;
		},
	};
}

async function startHost(path: string, log: Log, tls: boolean): Promise<LocalHost> {
	mkdirSync(path, { recursive: true });
	const clock = shiftedClock();
	const keys = generateKeyPair();
	const pems = memoryPems();
	const admin = formatToken(makeToken(systemIds, "admin"));
	let running: AsyncDisposableStack | undefined;
	let port = 0;
	const host = {
		admin,
		assertionFor: (node: string) => signAssertion(keys.privateKey, node, clock.nowMs()),
		clock,
		async start() {
			const stack = new AsyncDisposableStack();
			const db = stack.use(openInlineDatabase(join(path, "agent.sqlite"), databaseModules));
			const identity = createIdentity({ db, clock, ids: systemIds });
			const audit = stack.use(createAudit({ db, clock, log }));
			const secrets = openSecretsOf(path, { clock, hubEndpoint: "https://huggingface.co" });
			await identity.setAdmin(admin);
			const credentials = await testCredentials(clock, pems);
			const trust = { ca: credentials.caCertificate, serverName: HOST_SERVER_NAME };
			let listener: OpenListener | undefined;
			const role = stack.use(
				await openHost(
					{ db, clock, ids: systemIds, log, identity, audit, secrets },
					{
						name: "host",
						clusterId: "test",
						publicKey: keys.publicKey,
						privateKey: keys.privateKey,
						maxConcurrentTasks: 4,
						credentials,
						trustedNetwork: false,
						hostUrl: () => listener?.url ?? "",
					},
				),
			);
			const app = createApp("host", role.handlers, {
				identity,
				clock,
				ids: systemIds,
				log,
				audit,
				allowedHosts: () => allowedHosts([], listener?.port ?? 0),
			});
			const own = tls ? await credentials.serverIdentity({ dns: [], addresses: [] }) : undefined;
			listener = openListener({ bind: BIND, port, app, tls: own && [own] });
			({ port } = listener);
			stack.defer(() => listener?.close());
			role.start();
			const client = createApiClient({ baseUrl: listener.url, token: () => admin, tls: trust });
			Object.assign(host, { role, identity, url: listener.url, client, trust, listener });
			running = stack;
		},
		async stop() {
			await running?.disposeAsync();
			running = undefined;
		},
		pass(ms: number) {
			for (let left = ms; left > 0; left -= 5000) {
				clock.shift(Math.min(5000, left));
				host.role.cluster.tick();
			}
		},
	} as LocalHost;
	await host.start();
	return host;
}

async function startNode(d: {
	name: string;
	home: string;
	dram: string;
	dramBytes: number;
	diskBytes: number | undefined;
	watermarks: NodeOptions["watermarks"];
	host: LocalHost;
	hub: Hub;
	log: Log;
	tls: boolean;
	buckets: NonNullable<SourceContext["buckets"]>;
	importDirectories: readonly string[];
	gpus: Partial<NodeGpus> | undefined;
	engineCommand: readonly string[];
}): Promise<LocalNode> {
	const { name, home, host } = d;
	mkdirSync(home, { recursive: true });
	const { key, certificate_request } = await testRequest(name);
	const admin = formatToken(makeToken(systemIds, "admin"));
	const joinString = (await host.client.call("createToken", { body: { kind: "join" } })).token;
	const { tokenId, secret } = parseJoinString(joinString);
	const stranger = createApiClient({ baseUrl: host.url, token: () => undefined, tls: host.trust });
	const membership = await stranger.call("join", {
		body: {
			node: name,
			secret: `${tokenId}.${secret}`,
			certificate_request,
			protocol_version: PROTOCOL_VERSION,
			version: "test",
		},
	});
	if (membership.status !== "joined") throw new Error(`${name} has to wait`);
	const { certificate, ca_certificate: ca } = membership;
	const tls = d.tls ? ([{ certificate, privateKey: keyPem(key.privateKey) }] as const) : undefined;
	const trust = { ca, serverName: nodeServerName(name) };
	const roots: Record<string, string> = {
		disk: join(home, "disk"),
		disk1: join(home, "disk1"),
		dram: d.dram,
	};
	let running: AsyncDisposableStack | undefined;
	let incarnation = 0;
	const tiers = Object.entries(roots).map(([tier, root]) => ({
		name: tier,
		kind: tier === "dram" ? ("dram" as const) : ("disk" as const),
		root,
		floorBytes: 0,
		limitBytes: tier === "dram" ? d.dramBytes : d.diskBytes,
	}));
	const node = {
		name,
		tls,
		trust,
		admin,
		token: membership.node_token,
		async start() {
			const stack = new AsyncDisposableStack();
			const log = d.log.with({ node: name });
			const db = stack.use(openInlineDatabase(join(home, "agent.sqlite"), databaseModules));
			const identity = createIdentity({ db, clock: systemClock, ids: systemIds });
			const audit = stack.use(createAudit({ db, clock: systemClock, log }));
			await identity.setAdmin(admin);
			const own = Object.values(d.buckets).map(({ endpoint }) => endpoint);
			const allow = [d.hub.url, d.hub.cdnUrl, ...own];
			const outbound = createOutbound({ clock: systemClock, log }, { allow });
			const listeners: OpenListener[] = [];
			const role = stack.use(
				await openNode(
					{
						db,
						clock: systemClock,
						ids: systemIds,
						log,
						audit,
						pushed: identity.pushed,
						onLink: (link) =>
							identity.trustHost({
								nodeName: name,
								hostPublicKey: membership.host_public_key,
								hostNowMs: () => link.hostNowMs(),
							}),
					},
					{
						name,
						dataDir: home,
						tiers,
						watermarks: d.watermarks,
						maxConcurrentTasks: 4,
						sources: {
							outbound,
							clock: systemClock,
							hub: { endpoint: d.hub.url },
							buckets: d.buckets,
							importDirectories: d.importDirectories,
						},
						host: {
							url: () => host.url,
							nodeToken: membership.node_token,
							clusterId: membership.cluster_id,
							trust: host.trust,
						},
						incarnation: ++incarnation,
						environment: {},
						engineCommand: d.engineCommand,
						gpus: d.gpus && { simulatedBytes: [], holderCommand: HOLDER_COMMAND, ...d.gpus },
						listeners: () => ({
							port: listeners[0]?.port ?? 0,
							tls: d.tls,
							peerPort: listeners[1]?.port ?? 0,
							peerTls: d.tls,
						}),
						urlOf: () => listeners[0]?.url ?? "",
						openFront: () => {
							throw new Error("no service has a port of its own here");
						},
					},
				),
			);
			const dependencies = (at: number) => ({
				identity,
				clock: systemClock,
				ids: systemIds,
				log,
				audit,
				allowedHosts: () => allowedHosts([], listeners[at]?.port ?? 0),
			});
			const place = { bind: BIND, port: 0, tls };
			listeners.push(
				openListener({ ...place, app: createApp("node", role.handlers, dependencies(0)) }),
				openListener({ ...place, app: createApp("peer", role.peerHandlers, dependencies(1)) }),
			);
			for (const listener of listeners) stack.defer(() => listener.close());
			await role.start();
			const [api, peer] = listeners.map((it) => it.url);
			const client = createApiClient({ baseUrl: api ?? "", token: () => admin, tls: trust });
			const [listener, peerListener] = listeners;
			Object.assign(node, { role, client, url: api, peerUrl: peer, listener, peerListener });
			running = stack;
		},
		async stop() {
			await running?.disposeAsync();
			running = undefined;
		},
		files(tier = "disk") {
			const root = roots[tier] ?? "";
			const entries = readdirSync(root, { recursive: true, withFileTypes: true });
			return entries
				.filter((it) => it.isFile() && !it.name.startsWith(".gswarm"))
				.map((it) => join(it.parentPath, it.name).slice(root.length + 1))
				.sort();
		},
	} as LocalNode;
	await node.start();
	return node;
}
