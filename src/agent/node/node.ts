/** The node role: the rooms of one machine, wired. Knows the host only through its URL and its contract. */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { availableParallelism } from "node:os";
import {
	type Accelerator,
	type AcceleratorOptions,
	openAccelerator,
} from "../../core/accelerator/accelerator.ts";
import { type Audit, type PushedTokens, type TlsTrust } from "../../core/identity/identity.ts";
import { openPreload } from "../../core/preload/preload.ts";
import { type Queue, openQueue } from "../../core/queue/queue.ts";
import type { Activity } from "../../core/registry/registry.ts";
import { createGateway, createLlamaEngine, openServices } from "../../core/service/service.ts";
import type { Front, Services } from "../../core/service/service.ts";
import { createOffers, type SourceContext } from "../../core/source/source.ts";
import { type Storage, type TierOptions, openStorage } from "../../core/storage/storage.ts";
import {
	type Transfers,
	createBandwidth,
	createDataPlane,
	createGrants,
	createShares,
	createTags,
	createTransfers,
	hasPartsSince,
	openKeptLimits,
} from "../../core/transfer/transfer.ts";
import { createBoundedCache } from "../../platform/bounded-cache.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Database } from "../../platform/database.ts";
import { readBootId } from "../../platform/filesystem.ts";
import type { Ids } from "../../platform/ids.ts";
import { createIoPool } from "../../platform/io-pool.ts";
import type { Log } from "../../platform/log.ts";
import { createBusyWatch, createLoadSampler } from "../../platform/machine-load.ts";
import { createMemoryReader } from "../../platform/memory.ts";
import { version } from "../../platform/version.ts";
import { asGswarmError, invalid } from "../../schema/errors.ts";
import { parseModelName, parseRevision } from "../../schema/names.ts";
import type { ModelCopy } from "../../schema/model.ts";
import { type HeartbeatAnswer, PROTOCOL_VERSION } from "../../schema/node.ts";
import type { TaskDocument } from "../../schema/task.ts";
import { isTerminal } from "../../schema/task.ts";
import { type GrantedParts, grantedParts } from "../granted-parts.ts";
import type { Handlers } from "../http/app.ts";
import { createDetection } from "./detection.ts";
import { createCredentialLookUp } from "./credential-look-up.ts";
import { type DeviceWork, createDeviceWork } from "./device-work.ts";
import { createGpuEviction } from "./gpu-eviction.ts";
import { type Holdings, createHoldings, isGpu } from "./holdings.ts";
import { createEviction } from "./eviction.ts";
import { type HostLink, createHostLink, hostUnreachable } from "./host-link.ts";
import { watchAdopted } from "./adopted-watch.ts";
import { createHostedWork } from "./hosted-work.ts";
import { nodeHandlers } from "./node-routes.ts";
import { peerHandlers } from "./peer-routes.ts";
import { createRates } from "./rates.ts";
import { readResources } from "./resources.ts";
import { createPreloading, type Preloading, type PreloadOptions } from "./preloading.ts";
import { type CondemnOptions, createRemoval } from "./removal.ts";
import { createRoom } from "./room.ts";
import type { SwarmAnswer, SwarmQuestion } from "./swarm-task.ts";
import { createNodeTasks } from "./tasks.ts";
import type { RepairPlace } from "./verification.ts";
import { DEFAULT_WATERMARKS, type Watermarks } from "./watermark-sweep.ts";

export interface NodeOptions {
	name: string;
	dataDir: string;
	tiers: readonly TierOptions[];
	maxConcurrentTasks: number;
	sources: SourceContext;
	host: {
		/** The host of one's own process is where this machine is, and that may change. */
		url: () => string;
		nodeToken: string;
		clusterId: string;
		/** Whom to meet there; other nodes have certificates of the same CA. */
		trust: TlsTrust;
	};
	incarnation: number;
	/** The agent's environment, of which engines get the few variables that they need. */
	environment: Readonly<Record<string, string | undefined>>;
	/** Up to and including `__engine`. */
	engineCommand: readonly string[];
	/** The node's GPUs; undefined: none is looked for. */
	gpus?: NodeGpus | undefined;
	/** Up to and including `__data`; undefined: no process of its own receives parts. */
	dataCommand?: readonly string[] | undefined;
	/** As they really are, once the listeners are open. */
	listeners: () => { port: number; tls: boolean; peerPort: number; peerTls: boolean };
	/** Bytes per second that it may receive and send, at the start. */
	bandwidth?: { down?: number | undefined; up?: number | undefined };
	/** `transfer.verify: sha256` of the configuration. */
	verifySha256?: boolean;
	/** When copies go by themselves; default: on dram where room is needed, on disk never. */
	watermarks?: Readonly<Record<"disk" | "dram", Watermarks>> | undefined;
	/** `preload` of the configuration; left out: nothing is brought ahead of its use. */
	preload?: Pick<PreloadOptions, "mode" | "share">;
	/** What the host answered to a heartbeat. */
	onHostAnswer?: (answer: HeartbeatAnswer) => Promise<void>;
	urlOf: (port: number | undefined) => string;
	openFront: (port: number, handler: (request: Request) => Promise<Response>) => Front;
}

export interface NodeGpus
	extends Pick<AcceleratorOptions, "simulatedBytes" | "holderCommand" | "probeCommand" | "places"> {
	/** GPUs that the configuration says are there. */
	named?: readonly string[];
}

export interface NodeRole extends AsyncDisposable {
	handlers: Handlers<"node">;
	peerHandlers: Handlers<"peer">;
	storage: Storage;
	accelerator: Accelerator;
	/** Starts the queue, adopts engines and begins to report; call it once the listeners are open. */
	start(): Promise<void>;
	/** Something that the host is told with a heartbeat has changed. */
	report(): void;
	/** Tells it now; false when the host has not taken it within `timeoutMs`. */
	reportNow(timeoutMs: number): Promise<boolean>;
	/** Stops without ending engines, so that the next agent adopts them. */
	detachEngines(): Promise<void>;
}

interface Dependencies {
	db: Database;
	clock: Clock;
	ids: Ids;
	log: Log;
	audit: Audit;
	/** Hears the host's clock and key once the node reports. */
	onLink: (link: HostLink) => void;
	/** Tokens of people, as the host pushes them. */
	pushed: PushedTokens;
}

/** Of sources; each has some hundred bytes. */
const MAX_KEPT_INSPECTIONS = 500;
/** How long a finished task waits for the host to have heard of it before it is shown as finished. */
const REPORT_TIMEOUT_MS = 2_000;

export async function openNode(
	{ db, clock, ids, log, audit, onLink, pushed }: Dependencies,
	options: NodeOptions,
): Promise<NodeRole> {
	const { name } = options;
	const startedMs = clock.monotonicMs();
	const io = createIoPool();
	const bootId = readBootId() ?? `boot-${ids.short(8)}`;
	const storage = await openStorage({ db, clock, ids, log, io }, { tiers: options.tiers, bootId });
	const { dataCommand: command, environment } = options;
	const plane = command && createDataPlane({ clock, log }, { command, environment });
	const { down = null, up = null } = options.bandwidth ?? {};
	const kept = openKeptLimits(db, "node", { down, up });
	const limits = kept.read();
	const bandwidth = {
		down: createBandwidth({ clock }, limits.down ?? undefined),
		up: createBandwidth({ clock }, limits.up ?? undefined),
		kept,
	};
	const tags = createTags({ storage, io, ids });
	const tagging = { store: tags, isWanted: () => !options.listeners().peerTls };
	const rates = createRates();
	const load = createLoadSampler({ clock });
	// One of its own: who asks for figures is told of a time of his own.
	const isBusy = createBusyWatch(createLoadSampler({ clock }), availableParallelism());
	const memory = createMemoryReader();
	const awaited = () => queue.list({ limit: 1000 }).flatMap((task) => awaitedBy(task, name));
	const eviction = createEviction({
		nodeName: name,
		clock,
		log,
		storage,
		removal: { remove: (copy, how) => removal.remove(copy, how) },
		rates,
		async whereabouts(revisions) {
			try {
				const answer = await link?.client.call("findCopies", { body: { revisions: [...revisions] } });
				return answer?.copies ?? [];
			} catch (error) {
				// Away: what only others hold is not counted on.
				log.debug("storage.whereabouts_unknown", { error });
				return [];
			}
		},
		awaited,
		wantedSoon: ({ model_name }) => preloading.wanted(model_name),
		watermarks: options.watermarks ?? DEFAULT_WATERMARKS,
		onRoom: () => queue.roomChanged(),
	});
	const received = { db, storage, io, clock, ids, log, plane, tags: tagging };
	const transfers = await createTransfers({
		...received,
		bandwidth: bandwidth.down,
		makeRoom: (request) => eviction.makeRoom(request),
	});
	const room = createRoom({ storage, eviction });
	const queue = await openQueue(
		{ db, clock, ids, log },
		{
			queue: "node",
			capacity: room.capacity,
			node: name,
			maxConcurrentTasks: options.maxConcurrentTasks,
			hasProgressSince: (taskId, sinceMs) => hasPartsSince(db, taskId, sinceMs),
		},
	);
	const grants = createGrants({ clock, ids });
	const offers = createOffers({ clock });
	const shares = createShares({ storage, ids, clock });
	const accelerator = await openAccelerator(
		{ clock, log },
		{ simulatedBytes: [], holderCommand: [], ...options.gpus, nodeName: name, environment },
	);
	requireNamed(accelerator, options.gpus?.named ?? [], name);
	const services: Services = openServices(
		{
			db,
			clock,
			ids,
			log,
			engines: {
				llama: createLlamaEngine({
					command: options.engineCommand,
					cacheDir: join(options.dataDir, "cache"),
				}),
			},
			hold: (served, why) =>
				isGpu(served.tier)
					? devices.holdServed(served, why)
					: storage.hold(served.model, served.revision, served.tier, why, "serve"),
			used(model, revision, tier) {
				const copy = isGpu(tier)
					? holdings.fileCopy(model, undefined, revision)
					: storage.copy(model, tier, revision);
				if (copy !== undefined) storage.touch(copy, "serve");
			},
			openFront: options.openFront,
		},
		{
			nodeName: name,
			directory: join(options.dataDir, "logs"),
			environment: options.environment,
			urlOf: options.urlOf,
			isSimulated: (tier) => devices.isSimulated(tier),
		},
	);
	const holdings: Holdings = createHoldings({ nodeName: name, storage, accelerator, services });
	const gateway = createGateway({ clock, log, local: services });
	let link: HostLink | undefined;
	/** As the host said last: parts may go over plain HTTP. */
	let trustedNetwork = false;

	const requestGrant = async (operationId: string): Promise<GrantedParts> => {
		if (link === undefined) throw hostUnreachable(undefined);
		const answer = await link.client.call("requestGrant", { body: { operation_id: operationId } });
		return grantedParts(answer, { ca: options.host.trust.ca, trustedNetwork });
	};
	const findSwarm = async (body: SwarmQuestion): Promise<SwarmAnswer> => {
		if (link === undefined) throw hostUnreachable(undefined);
		const answer = await link.client.call("findSwarm", { body });
		return { ...answer, ca: options.host.trust.ca, trustedNetwork };
	};
	const findRepair = async (copy: ModelCopy, taskId: string): Promise<RepairPlace | undefined> => {
		if (link === undefined) throw hostUnreachable(undefined);
		const { model_name, revision, content_id, tier } = copy;
		const body = { task_id: taskId, model_name, revision, content_id, tier };
		const { place } = await link.client.call("findRepair", { body });
		if (place === null) return undefined;
		const { node, device } = place;
		return { node, device, ...grantedParts(place, { ca: options.host.trust.ca, trustedNetwork }) };
	};
	const endRepair = async ({ node }: RepairPlace, taskId: string): Promise<void> => {
		try {
			await link?.client.call("endRepair", { params: { task_id: taskId }, query: { source: node } });
		} catch (error) {
			// The grant lapses by itself.
			log.debug("verify.release_skipped", { node, error });
		}
	};
	const verifySha256 = options.verifySha256 ?? false;
	const hosted = createHostedWork({
		clock,
		log,
		queue,
		hostNowMs: () => link?.hostNowMs() ?? clock.nowMs(),
		ask: (token) => {
			if (link === undefined) throw hostUnreachable(undefined);
			return link.client.call("confirmPart", { query: token });
		},
	});
	const condemn = async (copy: ModelCopy, { force, dryRun, operation }: CondemnOptions) => {
		if (link === undefined) throw hostUnreachable(undefined);
		const { model_name, revision, tier } = copy;
		try {
			return await link.client.call("condemn", {
				body: { model_name, revision, tier, force, dry_run: dryRun, operation },
			});
		} catch (error) {
			if (asGswarmError(error).code === "NETWORK_ERROR") throw hostUnreachable(error);
			throw error;
		}
	};
	const activities = (): Activity[] => queue.list({ limit: 1000 }).flatMap((task) => activityOf(task, name));
	const reportNow = async (timeoutMs = REPORT_TIMEOUT_MS): Promise<boolean> =>
		(await link?.flush(timeoutMs)) ?? false;
	const gpuEviction = createGpuEviction({
		nodeName: name,
		clock,
		log,
		accelerator,
		holdings,
		rates,
		awaited,
	});
	const removal = createRemoval({
		nodeName: name,
		storage,
		gpus: {
			owns: ({ tier }) => isGpu(tier),
			copies: () => holdings.onGpus(),
			version: () => holdings.gpuVersion(),
			async remove({ model_name, revision, tier, size_bytes }) {
				const [model, rev] = [parseModelName(model_name), parseRevision(revision)];
				// An engine had it there, and has ended.
				if (accelerator.residency(model, tier, rev) === undefined) return { freedBytes: size_bytes };
				return accelerator.unload(model, rev, tier);
			},
		},
		condemn,
		reportNow,
	});
	const devices: DeviceWork = createDeviceWork({
		nodeName: name,
		storage,
		accelerator,
		holdings,
		services,
		removal,
		eviction: gpuEviction,
		clock,
		reportNow,
	});
	const sources = { ...options.sources, credentials: createCredentialLookUp(() => link) };
	const tasks = createNodeTasks({
		nodeName: name,
		storage,
		transfers,
		services,
		sources,
		requestGrant,
		ids,
		io,
		shares,
		findSwarm,
		findRepair,
		endRepair,
		verifySha256,
		offers,
		up: bandwidth.up,
		removal,
		room,
		holdings,
		devices,
		eviction,
		gpuEviction,
		rates,
		hosted,
		reportNow,
	});
	await discardEnded(queue, transfers);
	const detection = createDetection({ storage, io, log });
	const preload = openPreload({ db, clock, log });
	const preloading: Preloading = createPreloading(
		{ nodeName: name, preload, storage, queue, removal, rates, clock, log },
		{ mode: "off", share: 0, ...options.preload, fillTo: fillTo(options.watermarks ?? DEFAULT_WATERMARKS) },
	);
	const poke = (): void => link?.poke();
	const subscriptions = [
		storage.onChange(poke),
		storage.onChange(() => queue.roomChanged()),
		services.onChange(poke),
		accelerator.onChange(poke),
		queue.onEvent(({ kind, taskId, status }) => {
			if (kind !== "state") return;
			poke();
			if (isTerminal(status)) for (const one of [bandwidth.down, bandwidth.up]) one.forget(taskId);
			// A task that ended without its copy will not run again: nothing of it stays in staging.
			if (status === "failed" || status === "cancelled") {
				transfers
					.discard(taskId)
					.catch((error: unknown) => log.error("transfer.discard_failed", { task_id: taskId, error }));
			}
		}),
	];

	return {
		storage,
		accelerator,
		handlers: nodeHandlers({
			nodeName: name,
			dataDir: options.dataDir,
			clusterId: options.host.clusterId,
			clock,
			storage,
			sources,
			inspections: createBoundedCache({ name: "inspections", limit: MAX_KEPT_INSPECTIONS }),
			queue,
			hosted,
			services,
			gateway,
			grants,
			tags,
			removal,
			room,
			accelerator,
			holdings,
			devices,
			eviction,
			resources: () =>
				readResources({
					nodeName: name,
					storage,
					accelerator,
					eviction,
					gpuEviction,
					bandwidth,
					load,
					memory,
				}),
			gpuEviction,
			verifySha256,
			preloading,
			bandwidth,
			offers,
			audit,
			pushed,
			uptimeS: () => Math.round((clock.monotonicMs() - startedMs) / 1000),
			activities,
			hostUrl: options.host.url,
			problems: () => link?.problems() ?? ["the host does not answer"],
		}),
		peerHandlers: peerHandlers({ shares, grants, tags, storage, io, clock, isBusy, up: bandwidth.up }),
		async start() {
			link = createHostLink(
				{ clock, ids, log },
				{
					hostUrl: options.host.url,
					trust: options.host.trust,
					nodeToken: options.host.nodeToken,
					incarnation: options.incarnation,
					inventory: () => removal.inventory(),
					onAnswer(answer) {
						pushed.confirm(answer.auth_version);
						trustedNetwork = answer.trusted_network === true;
						bandwidth.down.setNode({ share: answer.bandwidth?.down ?? undefined });
						bandwidth.up.setNode({ share: answer.bandwidth?.up ?? undefined });
						void options.onHostAnswer?.(answer);
					},
					report: () => ({
						protocol_version: PROTOCOL_VERSION,
						version,
						...endpointsOf(options.listeners()),
						tiers: {
							...Object.fromEntries(storage.tiers().map((tier) => [tier.name, eviction.usage(tier.name)])),
							...Object.fromEntries(holdings.gpus().map((gpu) => [gpu, gpuEviction.usage(gpu)])),
						},
						cpus: availableParallelism(),
						gpus: accelerator.summaries(),
						tasks: queue.counters(),
						activities: activities(),
						services: services.list(),
						models: removal.inventory().length,
						inventory_version: removal.inventoryVersion(),
						auth_version: pushed.version(),
					}),
				},
			);
			onLink(link);
			await services.recover();
			queue.start(tasks);
			subscriptions.push(watchAdopted({ nodeName: name, storage, queue, log }));
			hosted.start();
			eviction.start();
			preloading.start();
		},
		report: poke,
		reportNow,
		detachEngines: () => services.detach(),
		async [Symbol.asyncDispose]() {
			for (const subscription of subscriptions) subscription[Symbol.dispose]();
			await eviction[Symbol.asyncDispose]();
			await hosted[Symbol.asyncDispose]();
			await detection[Symbol.asyncDispose]();
			await preloading[Symbol.asyncDispose]();
			await preload[Symbol.asyncDispose]();
			await queue[Symbol.asyncDispose]();
			await services[Symbol.asyncDispose]();
			await accelerator[Symbol.asyncDispose]();
			await link?.[Symbol.asyncDispose]();
			grants[Symbol.dispose]();
			await transfers[Symbol.asyncDispose]();
			await plane?.[Symbol.asyncDispose]();
			const unused = storage.tiers().filter((tier) => tier.kind === "dram" && isEmpty(storage, tier.name));
			await storage[Symbol.asyncDispose]();
			// A directory in memory without a model would stay until the machine restarts.
			for (const { root } of unused) rmSync(root, { recursive: true, force: true });
			await io[Symbol.asyncDispose]();
		},
	};
}

/** @throws 400 no_such_gpu: the configuration names one that the machine lacks */
function requireNamed(accelerator: Accelerator, named: readonly string[], nodeName: string): void {
	const there = accelerator.devices().map((device) => device.name);
	const missing = named.find((gpu) => !there.includes(gpu.replace(/^gpu:/, "gpu")));
	if (missing === undefined) return;
	const found = there.length === 0 ? "it has no GPU" : `it has ${there.join(", ")}`;
	throw invalid(
		"no_such_gpu",
		`The configuration says that ${nodeName} has ${missing}, and ${found}.`,
		{ gpu: missing, found: there },
		"Take it out of `nodes` in config.yaml, or simulate it there: `accelerator: {driver: sim, memory: 8GB}`.",
	);
}

/** Above it copies go from memory by themselves. */
function fillTo({ dram }: Pick<NonNullable<NodeOptions["watermarks"]>, "dram">): number {
	return dram.automatic ? dram.high : 1;
}

function endpointsOf({ port, tls, peerPort, peerTls }: ReturnType<NodeOptions["listeners"]>) {
	return { api_port: port, tls, peer_port: peerPort, peer_tls: peerTls };
}

/** What a task does to a model's status while it waits or runs. */
function activityOf(task: TaskDocument, nodeName: string): Activity[] {
	const { task_type: type, status } = task;
	if (isTerminal(status) || (type !== "download" && type !== "copy" && type !== "move")) return [];
	const { model_name, target_device } = task.request;
	if (typeof model_name !== "string" || typeof target_device !== "string") return [];
	const doing = type === "download" ? "downloading" : "moving";
	const tier = target_device.replace(`${nodeName}:`, "");
	return [{ model_name, tier, status: status === "pending" ? "queued" : doing }];
}

/** The copy on this node that a task reads, or will. */
function awaitedBy(task: TaskDocument, nodeName: string): { model: string; tier: string; why: string }[] {
	const { model_name: model, device, source_device: source } = task.request;
	const place = task.task_type === "serve" ? device : source;
	if (typeof model !== "string" || typeof place !== "string" || !place.startsWith(`${nodeName}:`)) return [];
	return [{ model, tier: place.slice(nodeName.length + 1), why: `task ${task.task_id}` }];
}

/** Transfers whose task ended while the agent was dying. */
async function discardEnded(queue: Queue, transfers: Transfers): Promise<void> {
	const isLive = (taskId: string): boolean => {
		try {
			return !isTerminal(queue.get(taskId).status);
		} catch (error) {
			if (asGswarmError(error).code === "NOT_FOUND") return false;
			throw error;
		}
	};
	for (const id of transfers.known()) if (!isLive(id)) await transfers.discard(id);
}

function isEmpty(storage: Storage, tier: string): boolean {
	return !storage.copies().some((c) => c.tier === tier) && !storage.staged().some((s) => s.tier === tier);
}
