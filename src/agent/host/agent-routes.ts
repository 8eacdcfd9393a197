/** What nodes ask of the host: to join, to be heard, to read a source, to destroy a copy. */
import { HEARTBEAT_MS, isReachable } from "../../core/cluster/cluster.ts";
import { GswarmError } from "../../schema/errors.ts";
import { isModelName, parseModelName, parseNewNodeName } from "../../schema/names.ts";
import type { Handlers } from "../http/app.ts";
import type { HostRouteDependencies } from "./host-requests.ts";
import { grantForOperation, isUnregistering } from "./operations.ts";

type AgentRoutes = Pick<Handlers<"host">, "createToken" | "join" | "heartbeat" | "requestGrant" | "condemn">;

export function agentRoutes(d: HostRouteDependencies): AgentRoutes {
	let lastJoin: Promise<unknown> = Promise.resolve();
	/** One join after the other: a name is not given away between the look at it and the credential for it. */
	const inTurn = <T>(join: () => Promise<T>): Promise<T> => {
		const turn = lastJoin.then(join);
		lastJoin = turn.catch(() => undefined);
		return turn;
	};

	return {
		createToken: async ({ body }) => {
			const { text, expiresAt } = await d.identity.createJoinString({ ttlS: body.ttl_s, uses: body.uses });
			return {
				token: text,
				expires_at: expiresAt,
				uses: body.uses,
				command: `gswarm agent --join ${d.hostUrl()}`,
			};
		},
		join: ({ body, address }) =>
			inTurn(async () => {
				const node = parseNewNodeName(body.node);
				const input = { node, publicKey: body.public_key, protocolVersion: body.protocol_version };
				d.cluster.checkJoin(input);
				const bearer = await d.identity.spendJoin(body.secret, node);
				await d.cluster.join({ ...input, address, version: body.version });
				return { node, node_token: bearer, cluster_id: d.clusterId, host_public_key: d.publicKey };
			}),
		heartbeat: async ({ body, caller, address }) => {
			const node = caller?.node;
			if (node === undefined)
				throw new GswarmError("FORBIDDEN", "Only a node may report.", { reason: "not_your_node" });
			const taken = await d.cluster.beat(node, body, address);
			const wanted = `${body.incarnation}.${body.inventory_version}`;
			if (taken === "taken" && body.inventory !== undefined) {
				const named = body.inventory.filter((copy) => isModelName(copy.model_name) && isTier(copy.tier));
				const condemned = await d.registry.takeInventory(node, named);
				d.inventoryVersions.set(node, wanted);
				if (condemned.length > 0) d.removeAgain(condemned);
			}
			return {
				want_inventory: d.inventoryVersions.get(node) !== wanted,
				interval_ms: HEARTBEAT_MS,
				host_time_ms: d.clock.nowMs(),
			};
		},
		requestGrant: ({ body, caller }) =>
			grantForOperation(d, d.queue.get(body.operation_id), caller?.node ?? ""),
		condemn: async ({ body, caller }) => {
			const node = caller?.node ?? "";
			const alive = d.cluster
				.views()
				.filter((v) => isReachable(v.liveness) && d.inventoryVersions.has(v.name));
			const granted = await d.registry.condemn(
				{ model_name: parseModelName(body.model_name), node, tier: body.tier, revision: body.revision },
				{
					alive: alive.map((v) => v.name),
					force: body.force || isUnregistering(d.queue, body.model_name),
					dryRun: body.dry_run,
				},
			);
			return { granted, reason: granted ? null : "last_durable_copy" };
		},
	};
}

/** Whether a node may call a place of its own so: its name would become part of devices. */
function isTier(text: string): boolean {
	return /^(disk\d{0,3}|dram|gpu\d{1,3})$/.test(text);
}
