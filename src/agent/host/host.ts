/** The host role: registry, cluster, operations and gateway, wired. Knows nodes only through their contract. */
import { type Cluster, createCluster, isReachable } from "../../core/cluster/cluster.ts";
import { type Audit, type Identity, type Secrets, createJoining } from "../../core/identity/identity.ts";
import { openQueue } from "../../core/queue/queue.ts";
import { type Registry, createRegistry } from "../../core/registry/registry.ts";
import { type Upstream, type UpstreamSource, createGateway } from "../../core/service/service.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Database } from "../../platform/database.ts";
import type { Ids } from "../../platform/ids.ts";
import type { Log } from "../../platform/log.ts";
import { isOpenHttp } from "../../platform/plain-http.ts";
import { answersTo, type ServiceDocument } from "../../schema/service.ts";
import { asGswarmError } from "../../schema/errors.ts";
import { SENT_HEADER } from "../../schema/operation.ts";
import type { HostCredentials } from "../credentials.ts";
import type { Handlers } from "../http/app.ts";
import { createClusterBandwidth } from "./cluster-bandwidth.ts";
import { createAuthPush } from "./auth-push.ts";
import { condemnModule } from "./condemn-store.ts";
import { type PartLine, createDispatcher } from "./dispatch.ts";
import { hostHandlers } from "./host-routes.ts";
import { type Nodes, createNodes } from "./nodes.ts";
import { createOperations } from "./operations.ts";
import { type Limits, openKeptLimits } from "../../core/transfer/transfer.ts";
import { createSwarms } from "./swarms.ts";
import { createTaskFinder } from "./task-finder.ts";
import { keepHearing } from "./task-order.ts";

export interface HostOptions {
	name: string;
	clusterId: string;
	publicKey: string;
	privateKey: string;
	maxConcurrentTasks: number;
	/** Of all nodes together, at the start. */
	bandwidth?: Limits;
	/** The cluster's CA, and what it signs. */
	credentials: HostCredentials;
	/** Parts go over plain HTTP between nodes: the operator says that nobody else is on their network. */
	trustedNetwork: boolean;
	/** As other machines reach it. */
	hostUrl: () => string;
	/** The highest epoch that a host of this cluster had, kept outside the database. */
	epoch?: { before: number; keep(epoch: number): void };
	/** Nodes wait for an admin's approval; default false. */
	approveJoins?: boolean;
}

export interface HostRole extends AsyncDisposable {
	handlers: Handlers<"host">;
	cluster: Cluster;
	registry: Registry;
	start(): void;
}

interface Dependencies {
	db: Database;
	clock: Clock;
	ids: Ids;
	log: Log;
	identity: Identity;
	audit: Audit;
	secrets: Secrets;
}

const TICK_MS = 1_000;
const NO_LIMITS: Limits = { down: null, up: null };

export async function openHost(
	{ db, clock, ids, log, identity, audit, secrets }: Dependencies,
	options: HostOptions,
): Promise<HostRole> {
	const startedMs = clock.monotonicMs();
	const cluster = createCluster({ db, clock, log });
	const registry = createRegistry({
		db,
		clock,
		facts: {
			activities: () => cluster.views().flatMap((v) => v.beat?.activities ?? []),
			services: () => cluster.services(),
			nodeStatus: (node) => cluster.views().find((v) => v.name === node)?.liveness ?? "dead",
			isSimulated: (node, tier) => cluster.tier(node, tier)?.simulated === true,
		},
	});
	const queue = await openQueue(
		{ db, clock, ids, log },
		{
			queue: "host",
			node: options.name,
			maxConcurrentTasks: options.maxConcurrentTasks,
			epochAbove: options.epoch?.before,
		},
	);
	// Before anything is dispatched under it.
	options.epoch?.keep(queue.epoch);
	const { credentials, trustedNetwork, privateKey } = options;
	const { caCertificate } = credentials;
	const nodes = createNodes({ cluster, registry, clock, privateKey, caCertificate });
	identity.keepPeople();
	const authPush = createAuthPush({ cluster, nodes, people: identity.people, clock, log });
	const dispatcher = createDispatcher({
		clock,
		log,
		line: (node) => partLine({ nodes, clock }, node),
		operation(taskId) {
			try {
				return queue.get(taskId);
			} catch (error) {
				if (asGswarmError(error).code === "NOT_FOUND") return undefined;
				throw error;
			}
		},
	});
	const swarms = createSwarms({ cluster, registry, nodes, trustedNetwork, log });
	const operationDependencies = { clock, cluster, registry, nodes, dispatcher, swarms, trustedNetwork };
	const gateway = createGateway({ clock, log, local: servicesOfNodes(cluster, nodes) });
	const inventoryVersions = new Map<string, string>();
	const removeFrom = async (
		node: string,
		model_name: string,
		tier: string,
		revision: string,
	): Promise<void> => {
		const query = { device: `${node}:${tier}`, revision, force: "true" as const };
		await nodes.client(node).call("deleteModel", { params: { model_name }, query });
	};
	const stop = new AbortController();
	let ticking: Promise<void> | undefined;
	let hearing: Promise<void> | undefined;

	return {
		cluster,
		registry,
		handlers: hostHandlers({
			...operationDependencies,
			hostName: options.name,
			clusterId: options.clusterId,
			publicKey: options.publicKey,
			credentials,
			identity,
			authPush,
			bandwidth: createClusterBandwidth(
				cluster,
				openKeptLimits(db, "cluster", options.bandwidth ?? NO_LIMITS),
			),
			audit,
			secrets,
			joining: createJoining({ db, clock }),
			approveJoins: options.approveJoins ?? false,
			queue,
			tasks: createTaskFinder({ queue, nodes, hostName: options.name }),
			gateway,
			log,
			uptimeS: () => Math.round((clock.monotonicMs() - startedMs) / 1000),
			hostUrl: options.hostUrl,
			inventoryVersions,
			condemn: (input) => db.writer(condemnModule).condemn(input),
			removeAgain(copies) {
				for (const { model_name, node, tier, revision } of copies) {
					removeFrom(node, model_name, tier, revision).catch((error: unknown) => {
						log.warn("registry.tombstone_pending", { model_name, node, tier, error });
						// The next beat is asked for the inventory again, and so this is tried again.
						inventoryVersions.delete(node);
					});
				}
			},
		}),
		start() {
			queue.start(createOperations(operationDependencies));
			hearing = keepHearing({ queue, nodes, clock, log }, stop.signal);
			ticking = (async () => {
				while (!stop.signal.aborted) {
					cluster.tick();
					await clock.sleep(TICK_MS, stop.signal);
				}
			})();
		},
		async [Symbol.asyncDispose]() {
			stop.abort();
			await ticking;
			await hearing;
			await authPush[Symbol.asyncDispose]();
			await queue[Symbol.asyncDispose]();
		},
	};
}

/** Calls about parts of operations; the node is looked up for each, because one that restarted may have another port. */
function partLine({ nodes, clock }: { nodes: Nodes; clock: Clock }, node: string): PartLine {
	return {
		follow: (token, signal) =>
			nodes.client(node).call("followPart", {
				query: token,
				headers: { [SENT_HEADER]: String(clock.nowMs()) },
				signal,
			}),
		revoke: (token, signal) => nodes.client(node).call("revokePart", { body: token, signal }),
	};
}

/** The gateways of nodes as upstreams: requests go to a node's own gateway, which knows its engines. */
function servicesOfNodes(cluster: Cluster, nodes: Nodes): UpstreamSource {
	return {
		upstreams: (model) =>
			cluster
				.views()
				.filter((v) => isReachable(v.liveness) && !isOpenHttp(v.apiUrl))
				.flatMap((view) =>
					(view.beat?.services ?? [])
						.filter((s) => answersTo(s, model))
						.map(
							(s): Upstream => ({
								key: `${view.name}/${s.service_id}`,
								baseUrl: view.apiUrl,
								state: s.state,
								policy: s.load_balancing,
								timeoutMs: 3_600_000,
								authorize: () => ({ authorization: `Bearer ${nodes.bearer(view.name)}` }),
								tls: nodes.trust(view.name),
							}),
						),
				),
		models() {
			const ready = new Map<string, number>();
			for (const s of cluster.services())
				if (s.state === "ready") ready.set(nameOf(s), Math.floor(s.started_at ?? 0));
			return [...ready].map(([id, created]) => ({ id, created }));
		},
	};
}

/** What lists of models show it as. */
function nameOf({ model_name: model, revision, served_name: served = model }: ServiceDocument): string {
	return served ?? `${model}@${revision}`;
}
