/** What a node asks when a copy of its own is damaged: another node's copy of the same content. */
import { isOpenHttp } from "../../platform/plain-http.ts";
import { GswarmError, asGswarmError, modelNotFound } from "../../schema/errors.ts";
import { parseModelName } from "../../schema/names.ts";
import type { Handlers } from "../http/app.ts";
import type { HostRouteDependencies } from "./host-requests.ts";

type RepairRoutes = Pick<Handlers<"host">, "findRepair" | "endRepair">;
type Dependencies = Pick<HostRouteDependencies, "registry" | "nodes" | "cluster" | "trustedNetwork">;

export function repairRoutes(d: Dependencies): RepairRoutes {
	return {
		findRepair: async ({ body, caller }) => {
			const receiver = caller?.node ?? "";
			const model = parseModelName(body.model_name);
			const { content_id: contentId, revision, tier } = body;
			const all = d.registry.locations(model).filter((l) => l.claimed === 0 && l.revision === revision);
			// Only who was known to hold this very content is given it again.
			const own = all.find((l) => l.node === receiver && l.tier === tier && l.content_id === contentId);
			if (own === undefined) throw modelNotFound(model, `${receiver}:${tier}`);
			// A node reports a damaged copy before it asks; what it serves itself it has no need to read elsewhere.
			if (own.status === "ready") throw notDamaged(model, `${receiver}:${tier}`);
			const others = all.filter(
				(l) => l.node !== receiver && l.status === "ready" && l.content_id === contentId,
			);
			for (const { node, tier: sourceTier } of others) {
				const device = `${node}:${sourceTier}`;
				try {
					const client = d.nodes.client(node);
					const { peerUrl } = d.cluster.view(node);
					if (isOpenHttp(peerUrl) && !d.trustedNetwork) continue;
					const params = { model_name: model };
					const { copy, manifest } = await client.call("resolveModel", { params, query: { device } });
					if (copy.status !== "ready" || copy.content_id !== contentId) continue;
					const { grant } = await client.call("grantParts", {
						body: {
							operation_id: operationOf(receiver, body.task_id),
							model_name: model,
							device,
							content_id: contentId,
							receiver,
							purpose: "repair",
						},
					});
					const server_name = d.nodes.trust(node).serverName;
					return { place: { base_url: peerUrl, node, server_name, device, grant, manifest } };
				} catch (error) {
					// The next one may answer.
					if (!isAway(error)) throw error;
				}
			}
			return { place: null };
		},
		endRepair: async ({ params, query, caller }) => {
			const operation = operationOf(caller?.node ?? "", params.task_id);
			return d.nodes.client(query.source).call("releaseGrant", { params: { task_id: operation } });
		},
	};
}

/** 503: its report may be on its way. */
function notDamaged(model: string, device: string): GswarmError {
	return new GswarmError(
		"RESOURCE_UNAVAILABLE",
		`The copy of ${model} on ${device} is not known to be damaged.`,
		{
			reason: "not_damaged",
			details: { device },
			retryable: true,
			hint: "`gswarm model verify` finds out, and repairs what is.",
		},
	);
}

/** As the source knows it; the receiver's name in it keeps one node from ending another's access. */
function operationOf(receiver: string, taskId: string): string {
	return `repair-${receiver}.${taskId}`;
}

function isAway(error: unknown): boolean {
	const { code, retryable } = asGswarmError(error);
	return (
		error instanceof GswarmError && (retryable || code === "NETWORK_ERROR" || code === "MODEL_NOT_FOUND")
	);
}
