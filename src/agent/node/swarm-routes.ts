/** What the host asks of a node about swarms: to receive a model together with others, and to let them read here. */
import { bytesReservation, modelReservation } from "../../core/queue/queue.ts";
import { openSource } from "../../core/source/source.ts";
import { invalid } from "../../schema/errors.ts";
import { type Revision, parseModelName } from "../../schema/names.ts";
import type { Handlers } from "../http/app.ts";
import type { NodeRequests, NodeRouteDependencies } from "./node-requests.ts";
import type { SwarmRequest } from "./swarm-task.ts";

type SwarmRoutes = Pick<Handlers<"node">, "joinSwarm" | "grantSwarm" | "endSwarm">;

/** A receiver that asks nothing for so long has lost its grant and is given another. */
const GRANT_TTL_MS = 120_000;

export function swarmRoutes(d: NodeRouteDependencies, requests: NodeRequests): SwarmRoutes {
	const { tierHere, sentBefore, submit, fits, resources } = requests;
	/** The newest grants, by operation, and there by receiver and bytes. */
	const granted = new Map<string, Map<string, string>>();

	return {
		joinSwarm: async ({ body, request, caller }) => {
			const before = await sentBefore({ request, caller });
			if (before !== undefined) return before;
			const model = parseModelName(body.model_name);
			const tier = tierHere(body.target_device);
			const { sealed, source_url: sourceUrl } = body;
			if (sealed === null) {
				if (sourceUrl === null)
					throw invalid("bad_field", "A download has a source.", { field: "source_url" });
				// Refuses at once what can be refused without the network.
				openSource(sourceUrl, d.sources);
			}
			const there = sealed && d.storage.copy(model, tier, sealed.revision as Revision);
			const comingBytes = sealed === null || there?.content_id === sealed.content_id ? 0 : sealed.size_bytes;
			await fits(tier, comingBytes);
			const task: SwarmRequest = {
				model_name: model,
				source_device: sealed?.source_device ?? "web",
				target_device: `${d.nodeName}:${tier}`,
				source_url: sourceUrl,
				verify_checksum: body.verify_checksum,
				bandwidth_limit: body.bandwidth_limit,
				compression: body.compression,
				swarm: {
					operation_id: body.operation_id,
					sealed,
					model_type: body.model_type,
					include: body.include,
					exclude: body.exclude,
					all_files: body.all_files,
				},
			};
			const more = {
				reservations: [
					modelReservation(model, tier, "exclusive"),
					...(comingBytes === 0 ? [] : [bytesReservation(tier, comingBytes)]),
				],
				resources: resources([model], [tier]),
				...(sealed === null ? {} : { sizeBytes: sealed.size_bytes }),
			};
			const type = sealed === null ? "download" : "copy";
			return submit(type, model, task, body.priority, more, { request, caller });
		},
		grantSwarm: ({ body }) => {
			const model = parseModelName(body.model_name);
			const copy = d.storage
				.copies()
				.find((c) => c.model_name === model && c.content_id === body.key && c.status === "ready");
			const hold =
				copy === undefined
					? undefined
					: d.storage.hold(
							model,
							copy.revision as Revision,
							copy.tier,
							`being copied to ${body.receiver}`,
							"copy",
						);
			const grant = d.grants.grant({
				contentId: body.key,
				receiver: body.receiver,
				ttlMs: GRANT_TTL_MS,
				hold,
			});
			const ofOperation = granted.get(body.operation_id) ?? new Map<string, string>();
			granted.set(body.operation_id, ofOperation);
			const name = `${body.receiver} ${body.key}`;
			const before = ofOperation.get(name);
			if (before !== undefined) d.grants.revoke(before);
			ofOperation.set(name, grant);
			return { grant };
		},
		endSwarm: ({ params }) => {
			const grants = granted.get(params.task_id) ?? new Map<string, string>();
			granted.delete(params.task_id);
			for (const grant of grants.values()) d.grants.revoke(grant);
			return { ended: grants.size };
		},
	};
}
