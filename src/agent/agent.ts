/**
 * The composition root: `gswarm agent` by its flags is host, node, or both. Order of a start: options → configuration
 * → data directory and its lock → database → identity → join → roles → listeners → `agent.json` → queues.
 * Order of a stop is the reverse, within 10 s.
 */
import { chmodSync, closeSync, openSync, statSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { createIdentity } from "../core/identity/identity.ts";
import type { TierOptions } from "../core/storage/storage.ts";
import { ensureBallast } from "../platform/ballast.ts";
import { systemClock } from "../platform/clock.ts";
import { type Config, loadConfig, readAgentEnvironment, readProcessEnvironment } from "../platform/config.ts";
import { openWorkerDatabase } from "../platform/database.ts";
import { systemIds } from "../platform/ids.ts";
import { type Log, createLog } from "../platform/log.ts";
import { createOutbound } from "../platform/outbound.ts";
import { version } from "../platform/version.ts";
import { invalid } from "../schema/errors.ts";
import { banner } from "./banner.ts";
import { type AgentFile, type DataDir, type NodeFile, openDataDir } from "./data-dir.ts";
import { type HostRole, openHost } from "./host/host.ts";
import { type App, createApp } from "./http/app.ts";
import { allowedHosts } from "./http/browser-guard.ts";
import { createFrontApp } from "./http/front.ts";
import { type OpenListener, openListener, urlOf } from "./http/listener.ts";
import { refuseOpenBind } from "./loopback.ts";
import { ensureNode, joinHost, joinOwnHost, keepName, roleOf } from "./membership.ts";
import { type NodeRole, openNode } from "./node/node.ts";
import { AGENT_DEFAULTS, type AgentOptions } from "./options.ts";

const STOP_DEADLINE_MS = 9_000;

/**
 * Runs the agent until it is told to stop; resolves to the exit code.
 * @throws GswarmError for what makes a start impossible; nothing is left running then
 */
export async function runAgent(options: AgentOptions): Promise<number> {
	const bind = options.bind ?? AGENT_DEFAULTS.bind;
	refuseOpenBind(bind);
	const log = createLog(
		{ clock: systemClock, write: (line) => void process.stderr.write(line) },
		{ level: options.logLevel },
	);
	const config = loadConfig(options.dataDir);
	await using stack = new AsyncDisposableStack();
	const dataDir = stack.use(openDataDir(options.dataDir, systemIds));
	const agent = await startAgent({ options, bind, config, dataDir, log }, stack);
	process.stdout.write(banner({ ...agent, dataDir: dataDir.path }));
	const signal = await stopSignal();
	log.info("agent.stopping", { signal });
	dataDir.removeAgent();
	// What does not end in time ends with the process; every journal is durable.
	const deadline = systemClock.sleep(STOP_DEADLINE_MS).then(() => "late");
	const ended = await Promise.race([stack.disposeAsync().then(() => "ended"), deadline]);
	if (ended === "late") log.warn("agent.stop_was_slow", {});
	return 0;
}

interface Start {
	options: AgentOptions;
	bind: string;
	config: Config;
	dataDir: DataDir;
	log: Log;
}

interface Started {
	file: AgentFile;
	tiers: readonly TierOptions[];
	joined: string | undefined;
}

async function startAgent(
	{ options, bind, config, dataDir, log }: Start,
	stack: AsyncDisposableStack,
): Promise<Started> {
	const [clock, ids] = [systemClock, systemIds];
	ensureBallast(dataDir.path);
	const path = join(dataDir.path, "agent.sqlite");
	// SQLite gives its WAL the mode that the database has when it is opened.
	closeSync(openSync(path, "a", 0o600));
	chmodSync(path, 0o600);
	const worker = new Worker(new URL("./database-worker.ts", import.meta.url));
	const db = stack.use(await openWorkerDatabase(path, worker));
	const identity = createIdentity({ db, clock, ids });
	await identity.setAdmin(dataDir.adminToken);
	const nodeFile = ensureNode(options, dataDir);
	const role = options.role ?? roleOf(nodeFile);
	const incarnation = dataDir.nextIncarnation();

	let hostListener: OpenListener | undefined;
	let nodeListener: OpenListener | undefined;
	let peerListener: OpenListener | undefined;
	const names = [hostname(), nodeFile.name];
	const appFor = (port: () => number): Parameters<typeof createApp>[2] => ({
		identity,
		clock,
		ids,
		log,
		allowedHosts: () => allowedHosts([...names, bind], port()),
	});
	const listen = (port: number, app: App): OpenListener => {
		const listener = openListener({ bind, port, app });
		stack.defer(() => listener.close());
		return listener;
	};

	let host: HostRole | undefined;
	if (role.host) {
		const cluster = dataDir.ensureCluster();
		host = stack.use(
			await openHost(
				{ db, clock, ids, log, identity },
				{
					name: "host",
					clusterId: cluster.cluster_id,
					publicKey: cluster.public_key,
					privateKey: cluster.private_key,
					maxConcurrentTasks: config.queue.max_concurrent_tasks,
					hostUrl: () => hostListener?.url ?? "",
				},
			),
		);
		const app = createApp(
			"host",
			host.handlers,
			appFor(() => hostListener?.port ?? 0),
		);
		hostListener = listen(options.hostPort ?? config.cluster.port ?? AGENT_DEFAULTS.hostPort, app);
	}

	let node: NodeRole | undefined;
	let tiers: readonly TierOptions[] = [];
	if (role.node) {
		const membership =
			host !== undefined && hostListener !== undefined
				? await joinOwnHost({
						host,
						dataDir,
						nodeFile,
						bind,
						hostUrl: hostListener.url,
						makeBearer: (name) => identity.createNodeBearer(name),
					})
				: await joinHost(options, dataDir, nodeFile);
		tiers = tiersOf(options, config, dataDir, nodeFile);
		const environment = readAgentEnvironment();
		const outbound = createOutbound(
			{ clock, log },
			{
				allow: [...config.sources.allow, environment.hubEndpoint],
				allowPrivate: config.sources.allow_private,
			},
		);
		node = stack.use(
			await openNode(
				{
					db,
					clock,
					ids,
					log,
					onLink: (link) =>
						identity.trustHost({
							nodeName: nodeFile.name,
							hostPublicKey: membership.host_public_key,
							hostNowMs: () => link.hostNowMs(),
						}),
				},
				{
					name: nodeFile.name,
					dataDir: dataDir.path,
					tiers,
					maxConcurrentTasks: config.queue.max_concurrent_tasks,
					sources: {
						outbound,
						clock,
						hub: { endpoint: environment.hubEndpoint, token: environment.hubToken },
						importDirectories: config.import_folders,
					},
					host: {
						url: membership.host_url,
						nodeToken: membership.node_token,
						clusterId: membership.cluster_id,
					},
					incarnation,
					environment: readProcessEnvironment(),
					engineCommand: engineCommand(),
					ports: () => ({ node: nodeListener?.port ?? 0, peer: peerListener?.port ?? 0 }),
					urlOf: (port) => (port === undefined ? (nodeListener?.url ?? "") : urlOf(bind, port, false)),
					openFront: (port, handler) =>
						openListener({
							bind,
							port,
							app: createFrontApp(handler, {
								identity,
								clock,
								ids,
								allowedHosts: () => allowedHosts([...names, bind], port),
							}),
						}),
				},
			),
		);
		nodeListener = listen(
			options.nodePort ?? AGENT_DEFAULTS.nodePort,
			createApp(
				"node",
				node.handlers,
				appFor(() => nodeListener?.port ?? 0),
			),
		);
		peerListener = listen(
			options.peerPort ?? AGENT_DEFAULTS.peerPort,
			createApp(
				"peer",
				node.peerHandlers,
				appFor(() => peerListener?.port ?? 0),
			),
		);
	}

	host?.start();
	await node?.start();
	const file: AgentFile = {
		pid: process.pid,
		role: role.host && role.node ? "host+node" : role.host ? "host" : "node",
		name: nodeFile.name,
		version,
		started_at: clock.nowMs() / 1000,
		...(hostListener === undefined ? {} : { host_url: hostListener.url }),
		...(nodeListener === undefined ? {} : { node_url: nodeListener.url }),
		...(peerListener === undefined ? {} : { peer_url: peerListener.url }),
	};
	keepName(dataDir);
	dataDir.writeAgent(file);
	log.info("agent.ready", { ...file });
	return { file, tiers, joined: role.host ? undefined : (options.joinUrl ?? nodeFile.joined?.host_url) };
}

function tiersOf(options: AgentOptions, config: Config, dataDir: DataDir, nodeFile: NodeFile): TierOptions[] {
	const budget = config.nodes.find((n) => n.name === nodeFile.name)?.capabilities?.storage;
	const floorBytes = config.storage.free_space_floor;
	const own = `gswarm-${nodeFile.node_id}`;
	const disks: TierOptions[] = [
		{ name: "disk", kind: "disk", root: join(dataDir.path, "disk"), limitBytes: budget?.disk, floorBytes },
		...options.disks.map(({ path, sizeBytes }, i): TierOptions => {
			requireDirectory(path);
			return { name: `disk${i + 1}`, kind: "disk", root: join(path, own), limitBytes: sizeBytes, floorBytes };
		}),
	];
	if (process.platform !== "linux") return disks;
	const dram: TierOptions = {
		name: "dram",
		kind: "dram",
		root: join("/dev/shm", own),
		limitBytes: options.dramBytes ?? budget?.dram,
		floorBytes,
	};
	return [...disks, dram];
}

/** A disk that is not mounted must not silently become a directory of the disk below it. */
function requireDirectory(path: string): void {
	if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) return;
	throw invalid(
		"no_such_directory",
		`--disk ${path}: there is no such directory.`,
		{ path },
		"Mount the disk, or make the directory first.",
	);
}

/** This very program, as the engine: compiled it is one file, from source bun runs its entry. */
function engineCommand(): string[] {
	return Bun.main.startsWith("/$bunfs/")
		? [process.execPath, "__engine"]
		: [process.execPath, Bun.main, "__engine"];
}

async function stopSignal(): Promise<string> {
	const { promise, resolve } = Promise.withResolvers<string>();
	for (const name of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(name, () => resolve(name));
	return promise;
}
