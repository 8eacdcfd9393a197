/** Rows of the nodes that joined, and of those that wait to be let in. */
import type { Database as Sqlite } from "bun:sqlite";
import type { WriterModule } from "../../platform/database.ts";
import { GswarmError } from "../../schema/errors.ts";
import sql from "./sql/0001_cluster.sql" with { type: "text" };
import approval from "./sql/0002_approval.sql" with { type: "text" };

export interface NodeRow {
	name: string;
	/** SPKI, base64; empty after a reset: the next key that comes with a join string is the node's. */
	public_key: string;
	joined_at: number;
	address: string;
	api_port: number;
	peer_port: number;
	version: string;
	protocol_version: number;
	/** JSON. */
	asked_addresses: string;
	/** JSON. */
	approved_addresses: string;
}

export interface WaitingRow {
	name: string;
	public_key: string;
	asked_at: number;
	address: string;
	version: string;
	protocol_version: number;
	/** JSON. */
	asked_addresses: string;
	/** JSON; null until an admin approved the node. */
	approved_addresses: string | null;
}

export interface NodeEndpoint {
	name: string;
	address: string;
	api_port: number;
	peer_port: number;
	version: string;
	protocol_version: number;
}

const clusterWrites = {
	/**
	 * A node joins, or joins again with the same key; it no longer waits then.
	 * @throws 409 node_name_taken when another key has the name, unless `replace_key` says that it may
	 */
	upsertNode(db: Sqlite, { replace_key, ...row }: NodeRow & { replace_key: boolean }): void {
		const [existing] = db
			.query<{ public_key: string }, [string]>("SELECT public_key FROM cluster_node WHERE name = ?1")
			.all(row.name);
		const isOurs = existing === undefined || ["", row.public_key].includes(existing.public_key);
		if (!isOurs && !replace_key) throw nameTaken(row.name);
		db.query(
			`INSERT INTO cluster_node (name, public_key, joined_at, address, api_port, peer_port, version,
			 protocol_version, asked_addresses, approved_addresses)
			 VALUES ($name, $public_key, $joined_at, $address, $api_port, $peer_port, $version, $protocol_version,
			 $asked_addresses, $approved_addresses)
			 ON CONFLICT (name) DO UPDATE SET public_key = $public_key, address = $address, version = $version,
			 protocol_version = $protocol_version, asked_addresses = $asked_addresses,
			 approved_addresses = $approved_addresses`,
		).run({ ...row });
		db.query("DELETE FROM cluster_waiting WHERE name = ?1").run(row.name);
	},
	updateEndpoint(db: Sqlite, row: NodeEndpoint): void {
		db.query(
			`UPDATE cluster_node SET address = $address, api_port = $api_port, peer_port = $peer_port,
			 version = $version, protocol_version = $protocol_version WHERE name = $name`,
		).run({ ...row });
	},
	/** @throws 409 node_name_taken */
	upsertWaiting(db: Sqlite, row: WaitingRow): void {
		const [other] = db
			.query<{ name: string }, [string, string]>(
				`SELECT name FROM cluster_waiting WHERE name = ?1 AND public_key <> ?2
				 UNION ALL SELECT name FROM cluster_node WHERE name = ?1 AND public_key NOT IN (?2, '')`,
			)
			.all(row.name, row.public_key);
		if (other !== undefined) throw nameTaken(row.name);
		db.query(
			`INSERT INTO cluster_waiting VALUES ($name, $public_key, $asked_at, $address, $version, $protocol_version,
			 $asked_addresses, $approved_addresses)
			 ON CONFLICT (name) DO UPDATE SET address = $address, version = $version,
			 protocol_version = $protocol_version, asked_addresses = $asked_addresses`,
		).run({ ...row });
	},
	/** An admin lets a node in that waits: it becomes one when it asks again. */
	approveWaiting(db: Sqlite, { name, addresses }: { name: string; addresses: string }): void {
		db.query("UPDATE cluster_waiting SET approved_addresses = ?2 WHERE name = ?1").run(name, addresses);
	},
	approveAddresses(db: Sqlite, { name, addresses }: { name: string; addresses: string }): void {
		db.query("UPDATE cluster_node SET approved_addresses = ?2 WHERE name = ?1").run(name, addresses);
	},
	setKey(db: Sqlite, { name, public_key }: { name: string; public_key: string }): void {
		db.query("UPDATE cluster_node SET public_key = ?2 WHERE name = ?1").run(name, public_key);
	},
	setAsked(db: Sqlite, { name, addresses }: { name: string; addresses: string }): void {
		db.query("UPDATE cluster_node SET asked_addresses = ?2 WHERE name = ?1").run(name, addresses);
	},
	removeNode(db: Sqlite, { name }: { name: string }): void {
		db.query("DELETE FROM cluster_node WHERE name = ?1").run(name);
		db.query("DELETE FROM cluster_waiting WHERE name = ?1").run(name);
	},
};

export const clusterModule = {
	room: "cluster",
	migrations: [sql, approval],
	writes: clusterWrites,
} satisfies WriterModule;

/** 409: the name belongs to a node with another key. */
export function nameTaken(name: string): GswarmError {
	return new GswarmError("CONFLICT", `The node name ${JSON.stringify(name)} belongs to another node.`, {
		reason: "node_name_taken",
		details: { node: name },
		hint: `Choose another with \`--node NAME\`; if this is that machine with a new disk, an admin frees the name with \`gswarm node reset ${name}\`.`,
	});
}
