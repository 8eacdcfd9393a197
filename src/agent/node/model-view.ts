/** A node's models as the API shows them. */
import {
	type Activity,
	detectedMetadata,
	modelStatus,
	servicesOf,
	simulatedOf,
} from "../../core/registry/registry.ts";
import type { Services } from "../../core/service/service.ts";
import type { ModelCopy, ModelDetail, ModelSummary } from "../../schema/model.ts";
import type { Holdings } from "./holdings.ts";

interface NodeFacts {
	nodeName: string;
	holdings: Pick<Holdings, "copies">;
	services: Services;
	activities(): Activity[];
}

/** The node's models: what it holds, and what its tasks are bringing. */
export function modelSummaries(d: NodeFacts): ModelSummary[] {
	const byName = new Map<string, ModelCopy[]>();
	for (const copy of d.holdings.copies())
		byName.set(copy.model_name, [...(byName.get(copy.model_name) ?? []), copy]);
	const activities = d.activities();
	for (const { model_name } of activities) if (!byName.has(model_name)) byName.set(model_name, []);
	const services = d.services.list();
	return [...byName]
		.sort(([a], [b]) => (a < b ? -1 : 1))
		.map(([name, copies]) => ({
			model_name: name,
			model_type: copies[0]?.model_type ?? "unknown",
			model_size: Math.max(0, ...copies.map((c) => c.size_bytes)),
			locations: [...new Set(copies.map((c) => `${d.nodeName}:${c.tier}`))],
			...simulatedOf(copies.filter((c) => c.simulated === true).map((c) => `${d.nodeName}:${c.tier}`)),
			services: servicesOf(name, services),
			status: modelStatus(
				copies.map((c) => c.status),
				activities.filter((a) => a.model_name === name).map((a) => a.status),
			),
			detected: newestOf(copies)?.detected ?? null,
		}));
}

/** With where its copies are. */
export function modelDetail(summary: ModelSummary, copies: ModelCopy[], nodeName: string): ModelDetail {
	const mine = copies.filter((c) => c.model_name === summary.model_name);
	const newest = newestOf(mine);
	return {
		...summary,
		source_url: newest?.source_url ?? null,
		metadata: detectedMetadata(summary.detected),
		revision: newest?.revision ?? null,
		format: newest?.format ?? null,
		created_at: Math.min(...mine.map((c) => c.ready_at), newest?.ready_at ?? 0),
		location_details: mine.map((c) => ({
			device: `${nodeName}:${c.tier}`,
			status: c.status,
			revision: c.revision,
			size_bytes: c.size_bytes,
			content_id: c.content_id,
			node_status: "alive",
			...(c.adopted_from === undefined ? {} : { place: "adopted" as const, adopted_from: c.adopted_from }),
			...(c.simulated === undefined ? {} : { simulated: c.simulated }),
			...(c.pinned === undefined ? {} : { pinned: c.pinned }),
			...(c.last_used_at === undefined ? {} : { last_used_at: c.last_used_at }),
		})),
	};
}

function newestOf(copies: readonly ModelCopy[]): ModelCopy | undefined {
	return [...copies].sort((a, b) => b.ready_at - a.ready_at)[0];
}
