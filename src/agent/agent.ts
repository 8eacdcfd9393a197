/**
 * The composition root: `gswarm agent` by its flags is host, node, or both. Order of a start: options → configuration
 * → data directory and its lock → database → identity → join → roles → listeners → `agent.json` → queues.
 * Order of a stop is the reverse, within 10 s.
 */
import { chmodSync, closeSync, openSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import {
	type Audit,
	type Identity,
	certificateNames,
	createAudit,
	createIdentity,
	isCertificateName,
	keyedServerName,
	nodeServerName,
} from "../core/identity/identity.ts";
import { HOST_SERVER_NAME } from "../schema/names.ts";
import type { TierOptions } from "../core/storage/storage.ts";
import { ensureBallast } from "../platform/ballast.ts";
import { type Clock, systemClock } from "../platform/clock.ts";
import {
	type AgentEnvironment,
	type Config,
	loadConfig,
	readAgentEnvironment,
	readProcessEnvironment,
} from "../platform/config.ts";
import { type Database, openWorkerDatabase } from "../platform/database.ts";
import { type Ids, systemIds } from "../platform/ids.ts";
import { type Log, createLog } from "../platform/log.ts";
import { LOG_LIMIT_BYTES, keepTrimmed } from "../platform/log-file.ts";
import { createOutbound } from "../platform/outbound.ts";
import { version } from "../platform/version.ts";
import type { GpuSummary } from "../schema/accelerator.ts";
import { createAgentClient } from "./agent-client.ts";
import { banner } from "./banner.ts";
import { bucketServices, ownOrigins } from "./bucket-services.ts";
import { hostCredentials, nodeCredentials } from "./credentials.ts";
import { type AgentFile, type DataDir, type NodeFile, openDataDir } from "./data-dir.ts";
import { gpusOf } from "./gpus.ts";
import { type HostRole, openHost } from "./host/host.ts";
import { createApp } from "./http/app.ts";
import { createAttempts } from "./http/attempts.ts";
import type { DoorDependencies } from "./http/door.ts";
import { createFrontApp } from "./http/front.ts";
import type { ListenerCertificate } from "./http/listener.ts";
import { hostOrigin, joinHost } from "./join-host.ts";
import { type AgentListener, type Listening, createListening } from "./listening.ts";
import { type Membership, ensureNode, joinOwnHost, keepName, roleOf } from "./membership.ts";
import { openNode } from "./node/node.ts";
import { AGENT_DEFAULTS, type AgentOptions } from "./options.ts";
import { readOwnCertificate } from "./own-certificate.ts";
import { type Reach, checkBind, createReach } from "./reach.ts";
import { openSecretsOf } from "./secret-file.ts";
import { surroundings } from "./surroundings.ts";
import { tiersOf } from "./tiers.ts";

const STOP_DEADLINE_MS = 9_000;
const TRIM_EVERY_MS = 60_000;

/**
 * Runs the agent until it is told to stop; resolves to the exit code.
 * @throws GswarmError for what makes a start impossible; nothing is left running then
 */
export async function runAgent(options: AgentOptions): Promise<number> {
	if (options.bind !== undefined) checkBind(options.bind);
	certificateNames(options.advertise ?? []);
	ownCertificate(options)?.();
	const log = createLog(
		{ clock: systemClock, write: (line) => void process.stderr.write(line) },
		{ level: options.logLevel },
	);
	const config = loadConfig(options.dataDir);
	await using stack = new AsyncDisposableStack();
	const dataDir = stack.use(openDataDir(options.dataDir, systemIds));
	dataDir.removeStarting();
	const trimming = new AbortController();
	stack.defer(() => trimming.abort());
	void keepTrimmed(
		{ clock: systemClock, everyMs: TRIM_EVERY_MS, limitBytes: LOG_LIMIT_BYTES },
		join(dataDir.path, "agent.log"),
		trimming.signal,
	);
	const agent = await startAgent({ options, config, dataDir, log }, stack);
	process.stdout.write(banner({ ...agent, dataDir: dataDir.path }));
	const signal = await stopSignal();
	log.info("agent.stopping", { signal });
	agent.forget();
	// What does not end in time ends with the process; every journal is durable.
	const deadline = systemClock.sleep(STOP_DEADLINE_MS).then(() => "late");
	const ended = await Promise.race([stack.disposeAsync().then(() => "ended"), deadline]);
	if (ended === "late") log.warn("agent.stop_was_slow", {});
	return 0;
}

interface Start {
	options: AgentOptions;
	config: Config;
	dataDir: DataDir;
	log: Log;
}

/** What both roles are made of. */
interface Base extends Start {
	clock: Clock;
	ids: Ids;
	db: Database;
	identity: Identity;
	audit: Audit;
	environment: AgentEnvironment;
	nodeFile: NodeFile;
	reach: Reach;
	listening: Listening;
	/** For the door of a listener, whose port is known once it is open. */
	door: (port: () => number) => DoorDependencies;
	stack: AsyncDisposableStack;
}

interface OpenedHost {
	role: HostRole;
	listener: AgentListener;
	/** Makes the host's own node a member; its certificate comes from the CA here. */
	letOwnNodeIn: () => Promise<Member>;
}

/** A node of a cluster, and how it gets its certificates. */
interface Member {
	membership: Membership;
	hostUrl: () => string;
	renew: (request: string, addresses: readonly string[]) => Promise<string>;
	keep: (certificate: string) => void;
}

interface OpenedNode {
	start: () => Promise<void>;
	listener: AgentListener;
	peer: AgentListener;
	tiers: readonly TierOptions[];
	gpus: readonly GpuSummary[];
}

interface Started {
	file: AgentFile;
	urls: { host: string | undefined; node: string | undefined };
	tiers: readonly TierOptions[];
	gpus: readonly GpuSummary[];
	joined: string | undefined;
	/** No command is to find this agent any more. */
	forget: () => void;
}

async function startAgent(start: Start, stack: AsyncDisposableStack): Promise<Started> {
	const { options, config, dataDir, log } = start;
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
	const audit = stack.use(createAudit({ db, clock, log }));
	const attempts = createAttempts({ clock });
	const environment = readAgentEnvironment();
	const nodeFile = ensureNode(options, dataDir);
	const role = options.role ?? roleOf(nodeFile);

	/** Tells the CLI where this agent is, once it is ready and until it stops. */
	let tell = (): void => {};
	const { reach, listening } = await openListening(start, {
		clock,
		nodeFile,
		hostUrl: role.host ? undefined : hostUrlOf(options, nodeFile),
		onChange: () => tell(),
	});
	stack.use(listening);
	const door = (port: () => number): DoorDependencies => ({
		identity,
		clock,
		ids,
		log,
		audit,
		attempts,
		allowedHosts: () => listening.allowedHosts(port()),
		trustedProxies: config.cluster.trusted_proxies,
	});
	const base: Base = {
		...start,
		clock,
		ids,
		db,
		identity,
		audit,
		environment,
		nodeFile,
		reach,
		listening,
		door,
		stack,
	};
	const host = role.host ? await openHostRole(base) : undefined;
	const node = role.node ? await openNodeRole(base, await memberOf(base, host)) : undefined;
	host?.role.start();
	await node?.start();

	const startedAt = clock.nowMs() / 1000;
	const describe = (): AgentFile => ({
		pid: process.pid,
		role: role.host && role.node ? "host+node" : role.host ? "host" : "node",
		name: nodeFile.name,
		version,
		started_at: startedAt,
		...(host === undefined ? {} : { host_url: reach.urlHere(host.listener.port) }),
		...(host === undefined || options.tlsFiles === undefined
			? {}
			: { advertised_url: reach.urlForOthers(host.listener.port) }),
		...(node === undefined ? {} : { node_url: reach.urlHere(node.listener.port) }),
		...(node === undefined ? {} : { peer_url: reach.urlHere(node.peer.port) }),
		...(reach.tls
			? {
					ca_file: join(dataDir.path, "ca.pem"),
					server_name: role.host ? HOST_SERVER_NAME : nodeServerName(nodeFile.name),
				}
			: {}),
	});
	keepName(dataDir);
	tell = () => dataDir.writeAgent(describe());
	tell();
	const file = describe();
	log.info("agent.ready", { ...file });
	return {
		file,
		urls: {
			host: host && reach.urlForOthers(host.listener.port),
			node: node && reach.urlForOthers(node.listener.port),
		},
		tiers: node?.tiers ?? [],
		gpus: node?.gpus ?? [],
		joined: role.host ? undefined : hostUrlOf(options, nodeFile),
		forget() {
			tell = () => {};
			dataDir.removeAgent();
		},
	};
}

async function openListening(
	{ options, config, log }: Start,
	d: { clock: Clock; nodeFile: NodeFile; hostUrl: string | undefined; onChange: () => void },
): Promise<{ reach: Reach; listening: Listening }> {
	const { bind } = options;
	const given = options.advertise ?? [];
	const survey = (fallback: string) => surroundings({ bind, hostUrl: d.hostUrl, fallback });
	const reach = createReach(
		{
			tls: options.tls === true || options.tlsFiles !== undefined,
			advertise: given.length > 0 ? given : config.cluster.advertise,
			machineNames: [hostname(), d.nodeFile.name],
			certifyMachineNames: d.hostUrl === undefined,
		},
		await survey(AGENT_DEFAULTS.bind),
	);
	const listening = createListening(
		{ clock: d.clock, log },
		{ reach, survey: async () => reach.update(await survey(reach.bind)), onChange: d.onChange },
	);
	return { reach, listening };
}

async function openHostRole(base: Base): Promise<OpenedHost> {
	const { options, config, dataDir, log, clock, ids, db, identity, audit, nodeFile, reach } = base;
	const { cluster_id: clusterId, public_key: publicKey, private_key: privateKey } = dataDir.ensureCluster();
	const credentials = await hostCredentials({ dataDir, clusterId, clock, ids });
	const { hubEndpoint } = base.environment;
	let listener: AgentListener | undefined;
	const port = (): number => listener?.port ?? 0;
	const role = base.stack.use(
		await openHost(
			{
				db,
				clock,
				ids,
				log,
				identity,
				audit,
				secrets: openSecretsOf(dataDir.path, { clock, hubEndpoint }),
			},
			{
				name: "host",
				clusterId,
				publicKey,
				privateKey,
				maxConcurrentTasks: config.queue.max_concurrent_tasks,
				credentials,
				trustedNetwork: config.cluster.trusted_network,
				bandwidth: {
					down: config.transfer.cluster_down ?? null,
					up: config.transfer.cluster_up ?? null,
				},
				epoch: { before: dataDir.hostEpoch(), keep: (epoch) => dataDir.keepHostEpoch(epoch) },
				approveJoins: config.cluster.approve_joins,
				hostUrl: () => reach.urlForOthers(port()),
			},
		),
	);
	const own = ownCertificate(options);
	listener = listen(base, {
		port: options.hostPort ?? config.cluster.port ?? AGENT_DEFAULTS.hostPort,
		app: createApp("host", role.handlers, base.door(port)),
		shown: await base.listening.certificates({ credentials, serverNames: [HOST_SERVER_NAME], own }),
	});
	const letOwnNodeIn = async (): Promise<Member> => {
		const hostUrl = (): string => reach.urlOutside(port());
		return {
			membership: await joinOwnHost({
				host: role,
				dataDir,
				nodeFile,
				bind: new URL(hostUrl()).hostname.replace(/^\[(.*)\]$/, "$1"),
				hostUrl: hostUrl(),
				credentials,
				makeBearer: (name) => identity.createNodeBearer(name),
			}),
			hostUrl,
			renew: (request, addresses) => credentials.issue(request, { node: nodeFile.name, addresses }),
			keep: () => {},
		};
	};
	return { role, listener, letOwnNodeIn };
}

/** Whose node this machine is: of the host beside it, or of one that it joins or has joined. */
async function memberOf(base: Base, host: OpenedHost | undefined): Promise<Member> {
	if (host !== undefined) return host.letOwnNodeIn();
	const { options, dataDir, nodeFile, clock, log, reach } = base;
	const { dns, addresses } = reach.names();
	const membership = await joinHost({
		options,
		dataDir,
		nodeFile,
		clock,
		log,
		addresses: [...dns, ...addresses].filter(isCertificateName),
		onWaiting: (waits_for) => dataDir.writeStarting({ pid: process.pid, name: nodeFile.name, waits_for }),
	});
	dataDir.removeStarting();
	const { host_url: baseUrl, node_token: bearer, ca_certificate: ca } = membership;
	const trust = { ca, serverName: HOST_SERVER_NAME };
	const client = createAgentClient({ baseUrl, token: () => bearer, trust });
	return {
		membership,
		hostUrl: () => baseUrl,
		async renew(request, wanted) {
			const body = { certificate_request: request, addresses: [...wanted] };
			const { certificate } = await client.call("renewCertificate", { body });
			return certificate;
		},
		keep(certificate) {
			const file = dataDir.readNode();
			if (file?.joined !== undefined) dataDir.writeNode({ ...file, joined: { ...file.joined, certificate } });
		},
	};
}

async function openNodeRole(base: Base, member: Member): Promise<OpenedNode> {
	const { options, config, dataDir, log, clock, ids, identity, nodeFile, reach, listening } = base;
	const { membership } = member;
	const { name } = nodeFile;
	const gpus = gpusOf(options, { config, nodeFile });
	const tiers = tiersOf(options, { config, dataDir: dataDir.path, nodeFile });
	const { hubEndpoint, hubToken, aws } = base.environment;
	const { allow, allow_private: allowPrivate, ollama, token_realms: tokenRealms } = config.sources;
	const own = [hubEndpoint, ...ownOrigins(config.sources, aws)];
	const outbound = createOutbound({ clock, log }, { allow: [...allow, ...own], allowPrivate });
	const credentials = nodeCredentials({
		clock,
		log,
		node: name,
		privateKey: nodeFile.private_key,
		caCertificate: membership.ca_certificate,
		certificate: membership.certificate,
		renew: member.renew,
		keep: member.keep,
	});
	const serverNames = [nodeServerName(name), keyedServerName(name, nodeFile.public_key)];
	const shown = await listening.certificates({ credentials, serverNames, own: ownCertificate(options) });
	let listener: AgentListener | undefined;
	let peer: AgentListener | undefined;
	const [port, peerPort] = [() => listener?.port ?? 0, () => peer?.port ?? 0];
	/** As the host says: nobody else is on this network, and parts need no TLS. */
	let plainParts = false;
	const node = base.stack.use(
		await openNode(
			{
				db: base.db,
				clock,
				ids,
				log,
				audit: base.audit,
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
				dataDir: dataDir.path,
				tiers,
				maxConcurrentTasks: config.queue.max_concurrent_tasks,
				sources: {
					outbound,
					clock,
					hub: { endpoint: hubEndpoint, token: hubToken },
					registries: { ollama, tokenRealms },
					buckets: bucketServices(config.sources, aws),
					importDirectories: config.import_folders,
				},
				host: {
					url: member.hostUrl,
					nodeToken: membership.node_token,
					clusterId: membership.cluster_id,
					trust: { ca: membership.ca_certificate, serverName: HOST_SERVER_NAME },
				},
				incarnation: dataDir.nextIncarnation(),
				bandwidth: config.transfer,
				verifySha256: config.transfer.verify === "sha256",
				watermarks: config.storage.eviction,
				preload: config.preload,
				environment: readProcessEnvironment(),
				engineCommand: ownCommand("__engine"),
				gpus: {
					simulatedBytes: gpus.simulatedBytes,
					holderCommand: ownCommand("__holder"),
					probeCommand: gpus.none ? undefined : ownCommand("__probe"),
					named: gpus.named,
				},
				dataCommand: config.transfer.plane === "portable" ? undefined : ownCommand("__data"),
				listeners: () => ({
					port: port(),
					tls: listener?.tls ?? false,
					peerPort: peerPort(),
					peerTls: peer?.tls ?? false,
				}),
				async onHostAnswer({ trusted_network: trusted = false }) {
					if (trusted === plainParts) return;
					plainParts = trusted;
					log.info("listener.trusted_network", { trusted });
					await listening.settle();
					node.report();
				},
				urlOf: (servicePort) => reach.urlForOthers(servicePort ?? port()),
				openFront: (servicePort, handler) =>
					listening.open({
						port: servicePort,
						app: createFrontApp(
							handler,
							base.door(() => servicePort),
						),
						shown,
					}),
			},
		),
	);
	listener = listen(base, {
		port: options.nodePort ?? AGENT_DEFAULTS.nodePort,
		app: createApp("node", node.handlers, base.door(port)),
		shown,
	});
	peer = listen(base, {
		port: options.peerPort ?? AGENT_DEFAULTS.peerPort,
		app: createApp("peer", node.peerHandlers, base.door(peerPort)),
		// Only agents come here: they all ask for the cluster's certificate.
		shown: await listening.certificates({ credentials, serverNames }),
		plain: () => plainParts,
	});
	return { start: () => node.start(), listener, peer, tiers, gpus: node.accelerator.summaries() };
}

/** Opens a listener that ends with the agent. */
function listen({ listening, stack }: Base, options: Parameters<Listening["open"]>[0]): AgentListener {
	const listener = listening.open(options);
	stack.defer(() => listener.close());
	return listener;
}

/** Where the host is that this node joins or has joined. @throws 400 bad_url */
function hostUrlOf({ joinUrl }: AgentOptions, { joined }: NodeFile): string | undefined {
	return joinUrl === undefined ? joined?.host_url : hostOrigin(joinUrl);
}

/** Reads the operator's certificate each time it is called; undefined where there is none. */
function ownCertificate({ tlsFiles }: AgentOptions): (() => ListenerCertificate) | undefined {
	return tlsFiles && (() => readOwnCertificate(tlsFiles, systemClock.nowMs()));
}

/** This very program in another role: compiled it is one file, from source bun runs its entry. */
function ownCommand(role: "__engine" | "__data" | "__holder" | "__probe"): string[] {
	return Bun.main.startsWith("/$bunfs/") ? [process.execPath, role] : [process.execPath, Bun.main, role];
}

async function stopSignal(): Promise<string> {
	const { promise, resolve } = Promise.withResolvers<string>();
	for (const name of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(name, () => resolve(name));
	return promise;
}
