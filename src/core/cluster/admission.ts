/**
 * Who becomes a node: a name belongs to the key that took it first, until an admin resets or removes it; and where
 * approval is asked for, a node waits until an admin lets it in. Addresses are approved by admins, one by one.
 */
import type { Clock } from "../../platform/clock.ts";
import type { Database } from "../../platform/database.ts";
import type { Log } from "../../platform/log.ts";
import { GswarmError, notFound } from "../../schema/errors.ts";
import { PROTOCOL_VERSION } from "../../schema/node.ts";
import { type NodeRow, type WaitingRow, clusterModule, nameTaken } from "./node-store.ts";

export interface JoinInput {
	node: string;
	/** SPKI, base64. */
	publicKey: string;
	address: string;
	version: string;
	protocolVersion: number;
	/** Addresses and names that it would like its certificate to have. */
	addresses?: readonly string[];
	/** True: it waits until an admin approved it, unless it is a node already. */
	needsApproval?: boolean;
	/** True for the node in the host's own process: its key is taken whatever it was. */
	own?: boolean;
}

export interface Admission {
	/** @throws 409 node_name_taken, 400 protocol_not_supported */
	checkJoin(input: Pick<JoinInput, "node" | "publicKey" | "protocolVersion">): void;
	/** Stores a joined node, or one that waits. @throws as checkJoin */
	join(input: JoinInput): Promise<"joined" | "waiting">;
	/** The key that has the name; undefined for no node, empty after a reset. */
	keyOf(node: string): string | undefined;
	/** A key in place of the one that the node had. */
	replaceKey(node: string, publicKey: string): Promise<void>;
	/** What the certificate of a node vouches for beside the address that it calls from. */
	approvedAddresses(node: string): string[];
	/** Remembers what a node asks for, so that an admin sees it. */
	ask(node: string, addresses: readonly string[]): Promise<void>;
	/**
	 * Lets a waiting node in, or gives a node more addresses.
	 * @throws 404 node_not_found
	 */
	approve(node: string, addresses: readonly string[]): Promise<{ addresses: string[] }>;
	/** What a node asks for beside the address that it calls from. @throws 404 node_not_found */
	askedAddresses(node: string): string[];
	/** Forgets a node, joined or waiting. @throws 404 node_not_found */
	remove(node: string): Promise<void>;
	/** Forgets the key of a node: the next one that joins under its name is the node. @throws 404 node_not_found */
	reset(node: string): Promise<void>;
	/** Whether the node is in the host's own process. */
	isOwn(node: string): boolean;
	waiting(): WaitingRow[];
}

export function createAdmission(
	{ db, clock, log }: { db: Database; clock: Clock; log: Log },
	rows: Map<string, NodeRow>,
): Admission {
	const write = db.writer(clusterModule);
	const all = db.read.query<WaitingRow, []>("SELECT * FROM cluster_waiting ORDER BY name").all();
	const waiting = new Map(all.map((row) => [row.name, row]));
	let own: string | undefined;
	/** A beat may have changed the row while it was written. */
	const change = (node: string, fields: Partial<NodeRow>): void => {
		const row = rows.get(node);
		if (row !== undefined) rows.set(node, { ...row, ...fields });
	};

	const checkJoin: Admission["checkJoin"] = ({ node, publicKey, protocolVersion }) => {
		checkProtocol(protocolVersion);
		const known = [rows.get(node)?.public_key, waiting.get(node)?.public_key];
		if (known.some((key) => key !== undefined && key !== "" && key !== publicKey)) throw nameTaken(node);
	};
	const wait = async (input: JoinInput): Promise<"waiting"> => {
		const before = waiting.get(input.node);
		const row: WaitingRow = {
			name: input.node,
			public_key: input.publicKey,
			asked_at: before?.asked_at ?? clock.nowMs() / 1000,
			address: input.address,
			version: input.version,
			protocol_version: input.protocolVersion,
			asked_addresses: JSON.stringify(input.addresses ?? []),
			approved_addresses: null,
		};
		await write.upsertWaiting(row);
		waiting.set(row.name, row);
		if (before === undefined) log.info("cluster.node_waits", { node: row.name, address: row.address });
		return "waiting";
	};
	/** @throws 404 node_not_found */
	const known = (node: string): void => {
		if (!rows.has(node) && !waiting.has(node))
			throw notFound("node", node, "`gswarm node list` shows the nodes.");
	};

	return {
		checkJoin,
		async join(input) {
			if (input.own === true) checkProtocol(input.protocolVersion);
			else checkJoin(input);
			const before = rows.get(input.node);
			const approved = waiting.get(input.node)?.approved_addresses ?? null;
			// After a reset it is another machine, and nobody has approved that one.
			const isNode = before !== undefined && before.public_key !== "";
			if (input.needsApproval === true && !isNode && approved === null) return wait(input);
			const row: NodeRow = {
				name: input.node,
				public_key: input.publicKey,
				joined_at: before?.joined_at ?? clock.nowMs() / 1000,
				address: input.address,
				api_port: before?.api_port ?? 0,
				peer_port: before?.peer_port ?? 0,
				version: input.version,
				protocol_version: input.protocolVersion,
				asked_addresses: JSON.stringify(input.addresses ?? []),
				approved_addresses: approved ?? before?.approved_addresses ?? "[]",
			};
			await write.upsertNode({ ...row, replace_key: input.own === true });
			rows.set(row.name, row);
			waiting.delete(row.name);
			if (input.own === true) own = row.name;
			log.info("cluster.node_joined", { node: row.name, address: row.address, version: row.version });
			return "joined";
		},
		keyOf: (node) => rows.get(node)?.public_key,
		async replaceKey(node, publicKey) {
			if (!rows.has(node)) throw notFound("node", node);
			await write.setKey({ name: node, public_key: publicKey });
			change(node, { public_key: publicKey });
		},
		approvedAddresses: (node) => listOf(rows.get(node)?.approved_addresses),
		async ask(node, addresses) {
			const row = rows.get(node);
			const asked_addresses = JSON.stringify(addresses);
			if (row === undefined || row.asked_addresses === asked_addresses) return;
			await write.setAsked({ name: node, addresses: asked_addresses });
			change(node, { asked_addresses });
		},
		askedAddresses(node) {
			known(node);
			const row = waiting.get(node) ?? rows.get(node);
			return listOf(row?.asked_addresses).filter((it) => it !== row?.address);
		},
		async approve(node, wanted) {
			known(node);
			const [row, waits] = [rows.get(node), waiting.get(node)];
			const before = listOf(waits?.approved_addresses ?? row?.approved_addresses);
			const addresses = [...new Set([...before, ...wanted])];
			const approved_addresses = JSON.stringify(addresses);
			if (waits !== undefined) {
				await write.approveWaiting({ name: node, addresses: approved_addresses });
				waiting.set(node, { ...waits, approved_addresses });
			} else if (row !== undefined) {
				await write.approveAddresses({ name: node, addresses: approved_addresses });
				change(node, { approved_addresses });
			}
			log.info("cluster.node_approved", { node, addresses });
			return { addresses };
		},
		async remove(node) {
			known(node);
			await write.removeNode({ name: node });
			rows.delete(node);
			waiting.delete(node);
			log.info("cluster.node_removed", { node });
		},
		async reset(node) {
			if (!rows.has(node)) throw notFound("node", node, "`gswarm node list` shows the nodes.");
			await write.setKey({ name: node, public_key: "" });
			change(node, { public_key: "" });
			log.info("cluster.node_reset", { node });
		},
		isOwn: (node) => node === own,
		waiting: () => [...waiting.values()],
	};
}

/** @throws 400 protocol_not_supported */
export function checkProtocol(version: number): void {
	if (version === PROTOCOL_VERSION || version === PROTOCOL_VERSION - 1) return;
	throw new GswarmError(
		"INVALID_REQUEST",
		`The node speaks protocol ${version}, this host ${PROTOCOL_VERSION} and the one before.`,
		{
			reason: "protocol_not_supported",
			details: { protocol_version: version, supported: [PROTOCOL_VERSION - 1, PROTOCOL_VERSION] },
			hint: "Install the same gswarm version on both machines.",
		},
	);
}

/** A JSON list of a row. */
export function listOf(json: string | undefined): string[] {
	return json === undefined ? [] : (JSON.parse(json) as string[]);
}
