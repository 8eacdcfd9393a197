/** Rows of the nodes that joined. */
import type { Database as Sqlite } from "bun:sqlite";
import type { WriterModule } from "../../platform/database.ts";
import { GswarmError } from "../../schema/errors.ts";
import sql from "./sql/0001_cluster.sql" with { type: "text" };

export interface NodeRow {
	name: string;
	public_key: string;
	joined_at: number;
	address: string;
	api_port: number;
	peer_port: number;
	version: string;
	protocol_version: number;
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
	 * A node joins, or joins again with the same key.
	 * @throws 409 node_name_taken when another key has the name
	 */
	upsertNode(db: Sqlite, row: NodeRow): void {
		const [existing] = db
			.query<{ public_key: string }, [string]>("SELECT public_key FROM cluster_node WHERE name = ?1")
			.all(row.name);
		if (existing !== undefined && existing.public_key !== row.public_key) throw nameTaken(row.name);
		db.query(
			`INSERT INTO cluster_node (name, public_key, joined_at, address, api_port, peer_port, version, protocol_version)
			 VALUES ($name, $public_key, $joined_at, $address, $api_port, $peer_port, $version, $protocol_version)
			 ON CONFLICT (name) DO UPDATE SET address = $address, version = $version, protocol_version = $protocol_version`,
		).run({ ...row });
	},
	updateEndpoint(db: Sqlite, row: NodeEndpoint): void {
		db.query(
			`UPDATE cluster_node SET address = $address, api_port = $api_port, peer_port = $peer_port,
			 version = $version, protocol_version = $protocol_version WHERE name = $name`,
		).run({ ...row });
	},
};

export const clusterModule = {
	room: "cluster",
	migrations: [sql],
	writes: clusterWrites,
} satisfies WriterModule;

/** 409: the name belongs to a node with another key. */
export function nameTaken(name: string): GswarmError {
	return new GswarmError("CONFLICT", `The node name ${JSON.stringify(name)} belongs to another node.`, {
		reason: "node_name_taken",
		details: { node: name },
		hint: "Choose another with `--node NAME`; a node that lost its data directory needs a new name.",
	});
}
