/**
 * The host's view of its nodes: who joined (durable), what each reported last (memory), and from the silence since
 * then whether it is alive, suspect, unreachable or dead. The truth of what a node holds is on the node.
 * Whoever joins and may not yet, waits here for an admin. Does not call nodes, place work or move anything.
 */
import type { Clock } from "../../platform/clock.ts";
import type { Database } from "../../platform/database.ts";
import type { Log } from "../../platform/log.ts";
import { keyFingerprint } from "../../platform/hash.ts";
import { notFound } from "../../schema/errors.ts";
import type { Heartbeat, Liveness, NodeDocument, TierUsage } from "../../schema/node.ts";
import { isModelName } from "../../schema/names.ts";
import type { ServiceDocument } from "../../schema/service.ts";
import { type Admission, checkProtocol, createAdmission, listOf } from "./admission.ts";
import { UNREACHABLE_MS, isReachable, livenessOf } from "./liveness.ts";
import { type NodeRow, type WaitingRow, clusterModule } from "./node-store.ts";

export { HEARTBEAT_MS, isReachable } from "./liveness.ts";
export { clusterModule } from "./node-store.ts";

/** A node as the host knows it now. */
export interface NodeView {
	name: string;
	address: string;
	apiUrl: string;
	peerUrl: string;
	liveness: Liveness;
	/** The last beat of this host's life; undefined until the first. */
	beat: Heartbeat | undefined;
}

export interface Cluster extends Omit<Admission, "waiting"> {
	/**
	 * Takes a beat; `stale` when it is older than one already taken.
	 * @throws 404 node_not_found, 400 protocol_not_supported
	 */
	beat(node: string, beat: Heartbeat, address: string): Promise<"taken" | "stale">;
	/** Called every second: a longer gap between two ticks is a pause of the host, and every deadline moves by it. */
	tick(): void;
	/** All nodes, by name. */
	views(): NodeView[];
	/** A node by name or address. @throws 404 node_not_found */
	view(nameOrAddress: string): NodeView;
	/** A device as its node reported it last. */
	tier(node: string, tier: string): TierUsage | undefined;
	/** Nodes, and those that wait to be let in. */
	documents(): NodeDocument[];
	/** As the nodes reported them; none is `ready` on a node that cannot be reached. */
	services(): ServiceDocument[];
}

interface Live {
	beat: Heartbeat;
	atMs: number;
}

/** A gap between two observations beyond this means the host itself was paused; deadlines move by it. */
const PAUSE_MS = 10_000;

export function createCluster({ db, clock, log }: { db: Database; clock: Clock; log: Log }): Cluster {
	const write = db.writer(clusterModule);
	const allRows = db.read.query<NodeRow, []>("SELECT * FROM cluster_node ORDER BY name");
	const rows = new Map(allRows.all().map((row) => [row.name, row]));
	const live = new Map<string, Live>();
	const startedMs = clock.monotonicMs();
	let observedMs = startedMs;
	let pausedMs = 0;

	/** Monotonic time without the host's own pauses. */
	const awakeMs = (): number => {
		const now = clock.monotonicMs();
		const gap = now - observedMs;
		observedMs = now;
		if (gap > PAUSE_MS && rows.size > 0) {
			pausedMs += gap;
			log.warn("cluster.host_paused", { gap_ms: Math.round(gap) });
		}
		return now - pausedMs;
	};
	const livenessFor = (name: string, now: number): Liveness =>
		livenessOf(now - (live.get(name)?.atMs ?? startedMs));
	const viewOf = (row: NodeRow, now: number): NodeView => {
		const beat = live.get(row.name)?.beat;
		return {
			name: row.name,
			address: row.address,
			apiUrl: urlOf(row.address, row.api_port, beat?.tls === true),
			peerUrl: urlOf(row.address, row.peer_port, beat?.peer_tls === true),
			liveness: livenessFor(row.name, now),
			beat,
		};
	};
	const sorted = (): NodeRow[] => [...rows.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
	const { waiting, ...admission } = createAdmission({ db, clock, log }, rows);

	return {
		...admission,
		async join(input) {
			const state = await admission.join(input);
			// A node that was set up anew under its old key counts its beats from the beginning again.
			const before = live.get(input.node);
			if (before !== undefined)
				live.set(input.node, { ...before, beat: { ...before.beat, incarnation: 0, seq: 0 } });
			return state;
		},
		async remove(node) {
			await admission.remove(node);
			live.delete(node);
		},
		async beat(node, beat, address) {
			const row = rows.get(node);
			if (row === undefined) throw notFound("node", node);
			checkProtocol(beat.protocol_version);
			const last = live.get(node)?.beat;
			if (last !== undefined) {
				const older =
					beat.incarnation < last.incarnation ||
					(beat.incarnation === last.incarnation && beat.seq <= last.seq);
				if (older) {
					log.warn("cluster.beat_stale", { node, incarnation: beat.incarnation, seq: beat.seq });
					return "stale";
				}
			}
			const was = livenessFor(node, awakeMs());
			const { inventory: _inventory, ...rest } = beat;
			// A node speaks for itself alone, and of models that can have that name.
			const services = beat.services.filter((s) => s.node === node && isModelName(s.model_name));
			const activities = beat.activities.filter((a) => isModelName(a.model_name));
			const leaving = beat.leaving === true;
			// A node that said goodbye is not waited for.
			live.set(node, {
				beat: { ...rest, services, activities },
				atMs: awakeMs() - (leaving ? UNREACHABLE_MS : 0),
			});
			if (leaving) log.info("cluster.node_left", { node });
			else if (last === undefined || was !== "alive") {
				log.info("cluster.node_alive", { node, was: last === undefined ? "unheard" : was });
			}
			const endpoint = {
				name: node,
				address,
				api_port: beat.api_port,
				peer_port: beat.peer_port,
				version: beat.version,
				protocol_version: beat.protocol_version,
			};
			const moved =
				row.address !== address ||
				row.api_port !== beat.api_port ||
				row.peer_port !== beat.peer_port ||
				row.version !== beat.version;
			if (moved) {
				rows.set(node, { ...row, ...endpoint });
				await write.updateEndpoint(endpoint);
			}
			return "taken";
		},
		tick: () => void awakeMs(),
		views: () => {
			const now = awakeMs();
			return sorted().map((row) => viewOf(row, now));
		},
		view(nameOrAddress) {
			const row =
				rows.get(nameOrAddress) ?? onlyOne([...rows.values()].filter((r) => r.address === nameOrAddress));
			if (row === undefined) throw notFound("node", nameOrAddress, "`gswarm node list` shows the nodes.");
			return viewOf(row, awakeMs());
		},
		tier: (node, tier) => live.get(node)?.beat.tiers[tier],
		documents() {
			const now = awakeMs();
			const nodes = sorted().map((row) =>
				documentOf(row, live.get(row.name), livenessFor(row.name, now), now),
			);
			return [...nodes, ...waiting().map(waitingDocument)];
		},
		services() {
			const now = awakeMs();
			return [...live].flatMap(([node, { beat }]) => {
				const status = livenessFor(node, now);
				return isReachable(status) ? beat.services : beat.services.map((s) => lost(s, status));
			});
		},
	};
}

function documentOf(row: NodeRow, live: Live | undefined, status: Liveness, nowMs: number): NodeDocument {
	return {
		name: row.name,
		status,
		address: row.address,
		api_port: row.api_port,
		peer_port: row.peer_port,
		version: row.version,
		protocol_version: row.protocol_version,
		cpus: live?.beat.cpus ?? 0,
		...(live?.beat.gpus === undefined ? {} : { gpus: live.beat.gpus }),
		tiers: live?.beat.tiers ?? {},
		tasks: live?.beat.tasks ?? { pending: 0, running: 0, completed: 0 },
		models: live?.beat.models ?? 0,
		services: live?.beat.services.length ?? 0,
		joined_at: row.joined_at,
		last_seen_s: live === undefined ? null : Math.max(0, Math.round((nowMs - live.atMs) / 100) / 10),
		...fingerprintOf(row),
		...addressesOf(row),
	};
}

/** A node that waits offers nothing yet. */
function waitingDocument(row: WaitingRow): NodeDocument {
	return {
		name: row.name,
		status: "waiting",
		address: row.address,
		api_port: 0,
		peer_port: 0,
		version: row.version,
		protocol_version: row.protocol_version,
		cpus: 0,
		tiers: {},
		tasks: { pending: 0, running: 0, completed: 0 },
		models: 0,
		services: 0,
		joined_at: row.asked_at,
		last_seen_s: null,
		...fingerprintOf(row),
		...addressesOf({ ...row, approved_addresses: row.approved_addresses ?? "[]" }),
	};
}

function fingerprintOf({ public_key: key }: { public_key: string }): Pick<NodeDocument, "key_fingerprint"> {
	return key === "" ? {} : { key_fingerprint: keyFingerprint(key) };
}

function addressesOf(row: {
	address: string;
	asked_addresses: string;
	approved_addresses: string;
}): Pick<NodeDocument, "approved_addresses" | "asked_addresses"> {
	const approved = listOf(row.approved_addresses);
	const asked = listOf(row.asked_addresses).filter((it) => it !== row.address && !approved.includes(it));
	return {
		...(approved.length === 0 ? {} : { approved_addresses: approved }),
		...(asked.length === 0 ? {} : { asked_addresses: asked }),
	};
}

/** What is known of a service whose node went away. */
function lost(service: ServiceDocument, status: Liveness): ServiceDocument {
	if (service.state !== "ready" && service.state !== "starting") return service;
	return { ...service, state: "unhealthy", error: `the node ${service.node} is ${status}` };
}

function urlOf(address: string, port: number, tls: boolean): string {
	return `${tls ? "https" : "http"}://${address.includes(":") ? `[${address}]` : address}:${port}`;
}

function onlyOne<T>(items: T[]): T | undefined {
	return items.length === 1 ? items[0] : undefined;
}
