/** What admins decide about nodes: who is let in, who has to go, whose key is forgotten. */
import { isReachable } from "../../core/cluster/cluster.ts";
import { certificateNames } from "../../core/identity/identity.ts";
import { GswarmError } from "../../schema/errors.ts";
import { isServing } from "../../schema/service.ts";
import type { Handlers } from "../http/app.ts";
import type { HostRouteDependencies } from "./host-requests.ts";

type NodeAdminRoutes = Pick<Handlers<"host">, "approveNode" | "removeNode" | "resetNode">;

/** How many models an error names. */
const NAMED = 20;

export type NodeAdminDependencies = Pick<
	HostRouteDependencies,
	"cluster" | "credentials" | "inventoryVersions" | "joining" | "registry"
>;

export function nodeAdminRoutes(d: NodeAdminDependencies): NodeAdminRoutes {
	return {
		approveNode: async ({ params: { node }, body }) => {
			// By itself no node gets a name of the host, which it could then pose as towards people.
			const host = new Set(d.credentials.shownNames());
			const asked = d.cluster.askedAddresses(node).filter((name) => !host.has(name));
			const names = certificateNames(body.addresses ?? asked);
			const { addresses } = await d.cluster.approve(node, [...names.dns, ...names.addresses]);
			return { node, status: d.cluster.keyOf(node) === undefined ? "waiting" : "joined", addresses };
		},
		removeNode: async ({ params: { node }, query }) => {
			if (d.cluster.isOwn(node)) throw ownNode(node);
			if (!query.force) refuseInUse(d, node);
			// Its bearer first; its row last of what can be done again, and after it what a beat under way still told.
			await d.joining.forget(node);
			await d.registry.dropNode(node);
			await d.cluster.remove(node);
			await d.registry.dropNode(node);
			d.inventoryVersions.delete(node);
			return { node, removed: true };
		},
		resetNode: async ({ params: { node } }) => {
			if (d.cluster.isOwn(node)) throw ownNode(node);
			await d.cluster.reset(node);
			await d.joining.forget(node);
			return { node, reset: true };
		},
	};
}

/** @throws 409 node_in_use, last_durable_copy */
function refuseInUse(d: NodeAdminDependencies, node: string): void {
	const services = d.cluster.services().filter((s) => s.node === node && isServing(s));
	const hint = `Move or stop what is there first; \`gswarm node remove ${node} --force\` removes it all the same.`;
	if (services.length > 0) {
		throw new GswarmError("CONFLICT", `The node ${node} serves ${services.length} model(s).`, {
			reason: "node_in_use",
			details: { node, services: services.slice(0, NAMED).map((s) => s.service_id) },
			hint,
		});
	}
	const alive = d.cluster.views().filter((v) => isReachable(v.liveness) && d.inventoryVersions.has(v.name));
	const models = d.registry.onlyOn(
		node,
		alive.map((v) => v.name),
	);
	if (models.length === 0) return;
	throw new GswarmError(
		"CONFLICT",
		`The node ${node} has the last durable copy of ${models.length} model(s), e.g. ${models[0]}.`,
		{
			reason: "last_durable_copy",
			details: { node, models: models.slice(0, NAMED), total: models.length },
			hint,
		},
	);
}

function ownNode(node: string): GswarmError {
	return new GswarmError("CONFLICT", `${node} is the host's own machine.`, {
		reason: "own_node",
		details: { node },
		hint: "Start that agent with `--host` to have a host without a node.",
	});
}
