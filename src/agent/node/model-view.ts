/** A node's models as the API shows them. */
import {
	type Activity,
	detectedMetadata,
	modelStatus,
	servicesOf,
	markedLocations,
} from "../../core/registry/registry.ts";
import type { Services } from "../../core/service/service.ts";
import { type Storage, placeInOrder } from "../../core/storage/storage.ts";
import type { ModelCopy, ModelDetail, ModelStatus, ModelSummary } from "../../schema/model.ts";
import type { ServiceDocument } from "../../schema/service.ts";
import type { Holdings } from "./holdings.ts";

interface NodeFacts {
	nodeName: string;
	storage: Pick<Storage, "copies" | "models">;
	holdings: Pick<Holdings, "onGpus">;
	services: Services;
	activities(): Activity[];
}

export interface NodeFilter {
	type: string | undefined;
	/** A device of the node, as it names it. */
	tier: string | undefined;
	status: ModelStatus | undefined;
}

/** The node's models: what it holds, and what its tasks are bringing. Only those of the page are looked at closely. */
export function modelPage(
	d: NodeFacts,
	filter: NodeFilter,
	{ page, perPage }: { page: number; perPage: number },
): { models: ModelSummary[]; total: number } {
	const present = presentOf(d);
	const { type, tier, status } = filter;
	/** A few: what a task touches or a GPU holds is not told by the copies alone. */
	const special = new Set([
		...present.activities.map((a) => a.model_name),
		...present.onGpus.map((c) => c.model_name),
	]);
	const isReady = status === undefined ? undefined : status === "ready";
	const isStored = status === undefined || status === "ready" || status === "unavailable";
	const plain = isStored ? d.storage.models({ type, tier, isReady }) : [];
	const chosen = [...special].filter((name) => {
		const summary = summaryOf(d, present, name);
		return (
			(type === undefined || summary.model_type === type) &&
			(status === undefined || summary.status === status) &&
			(tier === undefined || summary.locations.includes(`${d.nodeName}:${tier}`))
		);
	});
	const names = special.size === 0 ? plain : exchanged(plain, [...special], chosen);
	const start = (page - 1) * perPage;
	return {
		models: names.slice(start, start + perPage).map((name) => summaryOf(d, present, name)),
		total: names.length,
	};
}

/** Names in order, some of them taken out and others put in; few of many. */
function exchanged(names: readonly string[], out: readonly string[], into: readonly string[]): string[] {
	const changed = [...names];
	for (const name of out) {
		const at = placeInOrder(changed, name);
		if (changed[at] === name) changed.splice(at, 1);
	}
	for (const name of into) changed.splice(placeInOrder(changed, name), 0, name);
	return changed;
}

/** All of them. */
export function modelSummaries(d: NodeFacts): ModelSummary[] {
	const everything = { page: 1, perPage: Number.MAX_SAFE_INTEGER };
	return modelPage(d, { type: undefined, tier: undefined, status: undefined }, everything).models;
}

/** Undefined for a model that is not here and that nothing brings. */
export function modelSummary(d: NodeFacts, name: string): ModelSummary | undefined {
	const present = presentOf(d);
	const isKnown =
		d.storage.copies({ model: name }).length > 0 ||
		present.onGpus.some((c) => c.model_name === name) ||
		present.activities.some((a) => a.model_name === name);
	return isKnown ? summaryOf(d, present, name) : undefined;
}

/** What is read once for a whole page. */
interface Present {
	activities: Activity[];
	services: ServiceDocument[];
	onGpus: ModelCopy[];
}

function presentOf(d: NodeFacts): Present {
	return { activities: d.activities(), services: d.services.list(), onGpus: d.holdings.onGpus() };
}

function summaryOf(d: NodeFacts, { activities, services, onGpus }: Present, name: string): ModelSummary {
	const copies = [...d.storage.copies({ model: name }), ...onGpus.filter((c) => c.model_name === name)];
	return {
		model_name: name,
		model_type: copies[0]?.model_type ?? "unknown",
		model_size: Math.max(0, ...copies.map((c) => c.size_bytes)),
		locations: [...new Set(copies.map((c) => `${d.nodeName}:${c.tier}`))],
		...markedLocations(
			copies.map((c) => ({
				device: `${d.nodeName}:${c.tier}`,
				simulated: c.simulated === true,
				adopted: c.place === "adopted",
				pinned: c.pinned === true,
				status: c.status,
			})),
		),
		services: servicesOf(name, services),
		status: modelStatus(
			copies.map((c) => c.status),
			activities.filter((a) => a.model_name === name).map((a) => a.status),
		),
		detected: newestOf(copies)?.detected ?? null,
	};
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
