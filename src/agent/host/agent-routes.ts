/** What nodes ask of the host: to join, to be heard, to read a source, to destroy a copy. */
import { HEARTBEAT_MS, isReachable } from "../../core/cluster/cluster.ts";
import { GswarmError } from "../../schema/errors.ts";
import { isModelName, parseModelName } from "../../schema/names.ts";
import { LEASE_S } from "../../schema/operation.ts";
import type { Handlers } from "../http/app.ts";
import type { HostRouteDependencies } from "./host-requests.ts";
import { joinRoutes } from "./join-routes.ts";
import { grantForOperation, isUnregistering } from "./operations.ts";

type AgentRoutes = Pick<
	Handlers<"host">,
	"authority" | "join" | "renewCertificate" | "heartbeat" | "requestGrant" | "condemn" | "confirmPart"
>;

export function agentRoutes(d: HostRouteDependencies): AgentRoutes {
	return {
		...joinRoutes(d),
		heartbeat: async ({ body, caller, address }) => {
			const node = caller?.node;
			if (node === undefined)
				throw new GswarmError("FORBIDDEN", "Only a node may report.", { reason: "not_your_node" });
			const taken = await d.cluster.beat(node, body, address);
			const wanted = `${body.incarnation}.${body.inventory_version}`;
			if (taken === "taken" && body.leaving !== true) d.authPush.heard(node, body.auth_version);
			if (taken === "taken" && body.inventory !== undefined) {
				const named = body.inventory.filter((copy) => isModelName(copy.model_name) && isTier(copy.tier));
				const condemned = await d.registry.takeInventory(node, named);
				// Removed meanwhile: what it holds is no longer known.
				if (d.cluster.keyOf(node) === undefined) await d.registry.dropNode(node);
				else d.inventoryVersions.set(node, wanted);
				if (condemned.length > 0) d.removeAgain(condemned);
			}
			return {
				want_inventory: d.inventoryVersions.get(node) !== wanted,
				interval_ms: HEARTBEAT_MS,
				host_time_ms: d.clock.nowMs(),
				auth_version: d.identity.people.version(),
				trusted_network: d.trustedNetwork,
				bandwidth: d.bandwidth.shareOf(node),
			};
		},
		requestGrant: ({ body, caller }) =>
			grantForOperation(d, d.queue.get(body.operation_id), caller?.node ?? ""),
		confirmPart: ({ query, caller }) => {
			d.dispatcher.confirm(caller?.node ?? "", query);
			return { lease_s: LEASE_S };
		},
		condemn: async ({ body, caller }) => {
			const node = caller?.node ?? "";
			if (body.operation !== undefined) d.dispatcher.confirm(node, body.operation);
			const alive = d.cluster
				.views()
				.filter((v) => isReachable(v.liveness) && d.inventoryVersions.has(v.name));
			const granted = await d.condemn({
				model_name: parseModelName(body.model_name),
				node,
				tier: body.tier,
				revision: body.revision,
				operation: body.operation,
				alive: alive.map((v) => v.name),
				force: body.force || isUnregistering(d.queue, body.model_name),
				dry_run: body.dry_run,
			});
			return { granted, reason: granted ? null : "last_durable_copy" };
		},
	};
}

/** Whether a node may call a place of its own so: its name would become part of devices. */
function isTier(text: string): boolean {
	return /^(disk\d{0,3}|dram|gpu\d{1,3})$/.test(text);
}
