/** The node's API: each handler reads valid input, calls a door and returns. */
import type { Handlers } from "../http/app.ts";
import { type Contract, contract } from "../../api/contract.ts";
import type { BodyOf } from "../../api/route.ts";
import { openApiDocument } from "../../api/openapi.ts";
import type { Gateway } from "../../core/service/service.ts";
import { type Queue, modelReservation } from "../../core/queue/queue.ts";
import { modelStatus, servicesOf } from "../../core/registry/registry.ts";
import type { Services } from "../../core/service/service.ts";
import { type SourceContext, openSource } from "../../core/source/source.ts";
import type { Storage } from "../../core/storage/storage.ts";
import type { Grants } from "../../core/transfer/transfer.ts";
import { sha256Hex } from "../../platform/hash.ts";
import { parseDevice } from "../../schema/device.ts";
import { GswarmError, invalid, modelNotFound, notFound } from "../../schema/errors.ts";
import type { ModelCopy, ModelDetail, ModelSummary } from "../../schema/model.ts";
import { type ModelName, type Revision, parseModelName } from "../../schema/names.ts";
import { isServing } from "../../schema/service.ts";
import { PRIORITIES, type Submitted, type TaskType } from "../../schema/task.ts";
import { version } from "../../platform/version.ts";
import type { Activity } from "../../core/registry/registry.ts";
import { downloadSource } from "../download-source.ts";
import { historyFilter, idempotencyKey, inUse, sameDevice, seesDetails } from "../http/answers.ts";
import { textResponse } from "../http/text.ts";
import type { Removal } from "./removal.ts";
import {
	type CopyRequest,
	type DeleteRequest,
	type DownloadRequest,
	type ServeRequest,
	requireCopy,
} from "./tasks.ts";

export interface NodeRouteDependencies {
	nodeName: string;
	clusterId: string;
	maxConcurrentTasks: number;
	storage: Storage;
	sources: SourceContext;
	queue: Queue;
	services: Services;
	gateway: Gateway;
	grants: Grants;
	removal: Pick<Removal, "check">;
	uptimeS(): number;
	activities(): Activity[];
	hostUrl(): string;
	problems(): string[];
}

/** A receiver that stops reading for so long has lost its grant and asks for another. */
const GRANT_TTL_MS = 120_000;

type SubmitBody = Submitted & { node: string };

export function nodeHandlers(d: NodeRouteDependencies): Handlers<"node"> {
	/** The tier a device names on this node. @throws 400 wrong_node: a prefix is never dropped, 404 device_not_found */
	const tierHere = (text: string): string => {
		const device = parseDevice(text);
		if (device.node !== undefined && device.node !== d.nodeName) {
			throw invalid(
				"wrong_node",
				`${JSON.stringify(text)} is on another node; this one is ${d.nodeName}.`,
				{ device: text, node: d.nodeName },
				`Send the request to the host, ${d.hostUrl()}.`,
			);
		}
		if (device.kind === "web")
			throw invalid("bad_device", "`web` is where models come from; name a disk or dram.", { device: text });
		return d.storage.tier(device.kind === "disk" && device.index === 0 ? "disk" : tierName(device)).name;
	};
	const submitted = ({
		task,
		position,
		estimatedTimeS,
	}: Awaited<ReturnType<Queue["submit"]>>): SubmitBody => ({
		task_id: task.task_id,
		status: "queued",
		position,
		estimated_time: estimatedTimeS,
		node: d.nodeName,
	});
	const submit = async (
		type: TaskType,
		model: string,
		request: object,
		priority: (typeof PRIORITIES)[number],
		more: Partial<Parameters<Queue["submit"]>[0]>,
		headers: Headers,
	): Promise<SubmitBody> => {
		const key = headers.get("idempotency-key");
		return submitted(
			await d.queue.submit({
				type,
				model,
				request: request as Record<string, unknown>,
				priority,
				...more,
				...(key === null ? {} : { idempotencyKey: idempotencyKey(key) }),
			}),
		);
	};
	const fits = (tier: string, required: number): void => {
		const { available } = d.storage.usage(tier);
		if (required <= available) return;
		const device = `${d.nodeName}:${tier}`;
		throw new GswarmError(
			"RESOURCE_UNAVAILABLE",
			`${device} has ${available} bytes available; ${required} are needed.`,
			{
				reason: "insufficient_space",
				details: { required, available, device },
				status: 507,
				hint: "Delete or move models there, or choose another device.",
			},
		);
	};
	const resources = (
		models: string[],
		tiers: string[],
	): { devices: string[]; models: string[]; exclusive: boolean } => ({
		devices: tiers.map((tier) => `${d.nodeName}:${tier}`),
		models,
		exclusive: false,
	});
	const transferBetween = async (
		type: "copy" | "move",
		name: string,
		body: BodyOf<Contract["copyModel"]> & { keep_source?: boolean },
		headers: Headers,
	): Promise<SubmitBody> => {
		const model = parseModelName(name);
		const [from, to] = [tierHere(body.source_device), tierHere(body.target_device)];
		if (from === to) throw sameDevice(`${d.nodeName}:${to}`);
		const copy = requireCopy(d.storage, model, from, d.nodeName);
		if (d.storage.copy(model, to, copy.revision as Revision) === undefined) fits(to, copy.size_bytes);
		const request: CopyRequest = {
			model_name: model,
			source_device: `${d.nodeName}:${from}`,
			target_device: `${d.nodeName}:${to}`,
			keep_source: type === "copy" || body.keep_source === true,
			verify_checksum: body.verify_checksum ?? null,
			bandwidth_limit: body.bandwidth_limit ?? null,
		};
		const reservations = [
			modelReservation(model, from, request.keep_source ? "shared" : "exclusive"),
			modelReservation(model, to, "exclusive"),
		];
		const more = { reservations, resources: resources([model], [from, to]), sizeBytes: copy.size_bytes };
		return submit(type, model, request, body.priority, more, headers);
	};
	const removal = async (
		name: string,
		deviceText: string | undefined,
		force: boolean,
		headers: Headers,
	): Promise<SubmitBody> => {
		const model = parseModelName(name);
		const copies = d.storage.copies().filter((c) => c.model_name === model);
		const tiers = [...new Set(copies.map((c) => c.tier))];
		const tier = deviceText === undefined ? onlyTier(tiers, model, d.nodeName) : tierHere(deviceText);
		const copy = d.storage.copy(model, tier) ?? copies.find((c) => c.tier === tier);
		if (copy === undefined) throw modelNotFound(model, `${d.nodeName}:${tier}`);
		const serving = d.services
			.list()
			.filter((s) => s.model_name === model && s.device === `${d.nodeName}:${tier}` && isServing(s));
		const [first] = serving;
		if (first !== undefined && !force) throw inUse(model, first.service_id);
		await d.removal.check(copy, { force });
		const request: DeleteRequest = {
			model_name: model,
			device: `${d.nodeName}:${tier}`,
			revision: copy.revision,
			force,
		};
		const more = {
			// With force the services of the copy are stopped by the task itself, so it must not wait for them.
			reservations: [modelReservation(model, tier, "exclusive")],
			resources: resources([model], [tier]),
			joinKey: `delete ${model} ${copy.revision} ${tier} ${force}`,
		};
		return submit("delete", model, request, "high", more, headers);
	};

	/** The newest grant of each operation that reads from this node. */
	const grantOf = new Map<string, string>();
	const release = (operationId: string): boolean => {
		const grant = grantOf.get(operationId);
		if (grant !== undefined) d.grants.revoke(grant);
		return grantOf.delete(operationId);
	};

	return {
		health: ({ caller }) => {
			const problems = d.problems();
			const status = problems.length === 0 ? ("ok" as const) : ("degraded" as const);
			if (!seesDetails(caller)) return { status: "ok" as const };
			return {
				status,
				details: {
					role: "node" as const,
					name: d.nodeName,
					version,
					uptime_s: d.uptimeS(),
					cluster_id: d.clusterId,
					nodes: {},
					problems,
				},
			};
		},
		status: () => ({
			model_status: summaries(d).map((m) => ({
				model_name: m.model_name,
				model_type: m.model_type,
				model_size: m.model_size,
				model_status: m.status,
				stored_locations: m.locations,
				available_services: Object.values(m.services),
			})),
			task_queue: d.queue.counters(),
			data_pool: { chunks: 0, total_size: 0, locations: {} },
		}),
		openapi: () => openApiDocument(contract, { listener: "node", version }),
		listModels: ({ query }) => {
			const where = query.location === undefined ? undefined : `${d.nodeName}:${tierHere(query.location)}`;
			const all = summaries(d).filter(
				(m) =>
					(query.type === undefined || m.model_type === query.type) &&
					(query.status === undefined || m.status === query.status) &&
					(where === undefined || m.locations.includes(where)),
			);
			const start = (query.page - 1) * query.per_page;
			return {
				models: all.slice(start, start + query.per_page),
				total: all.length,
				page: query.page,
				per_page: query.per_page,
			};
		},
		getModel: ({ params }) => {
			const model = parseModelName(params.model_name);
			const summary = summaries(d).find((m) => m.model_name === model);
			if (summary === undefined) throw modelNotFound(model, d.nodeName);
			return detailOf(summary, d.storage.copies(), d.nodeName);
		},
		deleteModel: ({ params, query, request }) =>
			removal(params.model_name, query.device, query.force, request.headers),
		downloadModel: async ({ params, body, request }) => {
			const model = parseModelName(params.model_name);
			const tier = tierHere(body.target_device ?? "disk");
			const known = d.storage.copies().find((c) => c.model_name === model);
			const downloadRequest: DownloadRequest = {
				model_name: model,
				source_url: downloadSource(model, body.source_url, known?.source_url ?? undefined),
				target_device: `${d.nodeName}:${tier}`,
				model_type: body.model_type === "unknown" ? null : (body.model_type ?? null),
				verify_checksum: body.verify_checksum ?? null,
				include: body.include ?? [],
				exclude: body.exclude ?? [],
				all_files: body.all_files ?? false,
				bandwidth_limit: body.bandwidth_limit ?? null,
			};
			// Asks nothing over the network, and refuses at once what can be refused without it.
			openSource(downloadRequest.source_url, d.sources);
			const more = {
				reservations: [modelReservation(model, tier, "exclusive")],
				resources: resources([model], [tier]),
				joinKey: `download ${sha256Hex(JSON.stringify(downloadRequest))}`,
			};
			return submit("download", model, downloadRequest, body.priority, more, request.headers);
		},
		moveModel: ({ params, body, request }) =>
			transferBetween("move", params.model_name, body, request.headers),
		copyModel: ({ params, body, request }) =>
			transferBetween("copy", params.model_name, body, request.headers),
		pullModel: async ({ params, body, request }) => {
			const model = parseModelName(params.model_name);
			const tier = tierHere(body.target_device);
			if (d.storage.copy(model, tier, body.revision as Revision)?.content_id !== body.content_id)
				fits(tier, body.size_bytes);
			const pull: CopyRequest = {
				model_name: model,
				source_device: body.source.device,
				target_device: `${d.nodeName}:${tier}`,
				keep_source: true,
				verify_checksum: body.verify_checksum,
				bandwidth_limit: body.bandwidth_limit,
				pull: {
					operation_id: body.operation_id,
					revision: body.revision,
					content_id: body.content_id,
					model_type: body.model_type,
					source_url: body.source_url,
					format: body.format,
				},
			};
			const more = {
				reservations: [modelReservation(model, tier, "exclusive")],
				resources: {
					devices: [body.source.device, `${d.nodeName}:${tier}`],
					models: [model],
					exclusive: false,
				},
				sizeBytes: body.size_bytes,
			};
			return submit("copy", model, pull, body.priority, more, request.headers);
		},
		resolveModel: ({ params, query }) => {
			const copy = requireCopy(
				d.storage,
				parseModelName(params.model_name),
				tierHere(query.device),
				d.nodeName,
			);
			const manifest = d.storage.manifest(copy.content_id);
			if (manifest === undefined) throw notFound("manifest", copy.content_id);
			return { copy, manifest };
		},
		grantParts: ({ body }) => {
			const model = parseModelName(body.model_name);
			const copy = requireCopy(d.storage, model, tierHere(body.device), d.nodeName);
			if (copy.content_id !== body.content_id)
				throw modelNotFound(model, `${d.nodeName} with content ${body.content_id.slice(0, 12)}`);
			const hold = d.storage.hold(
				model,
				copy.revision as Revision,
				copy.tier,
				`being copied to ${body.receiver}`,
			);
			const grant = d.grants.grant({
				contentId: body.content_id,
				receiver: body.receiver,
				ttlMs: GRANT_TTL_MS,
				hold,
			});
			release(body.operation_id);
			grantOf.set(body.operation_id, grant);
			return { grant, expires_in_s: GRANT_TTL_MS / 1000 };
		},
		releaseGrant: ({ params }) => ({ released: release(params.task_id) }),

		listServices: () => {
			const services = d.services.list();
			return { services, total: services.length };
		},
		startService: async ({ body, request }) => {
			const model = parseModelName(body.model_name);
			if (body.nodes?.some((name) => name !== d.nodeName) === true) {
				throw invalid(
					"wrong_node",
					`This node is ${d.nodeName}; several nodes are the host's work.`,
					{ nodes: body.nodes },
					`Send the request to the host, ${d.hostUrl()}.`,
				);
			}
			const tier =
				body.device === undefined ? servingTier(d.storage, model, d.nodeName) : tierHere(body.device);
			const copy = requireCopy(d.storage, model, tier, d.nodeName);
			if (body.config.replicas !== undefined && body.config.replicas > 1) {
				throw invalid(
					"replicas_not_supported",
					"One instance per node and device; for more, name more nodes.",
					{ field: "config.replicas" },
				);
			}
			const serviceId = serviceIdOf(model, d.nodeName, tier);
			const { port: configPort, replicas: _replicas, framework: _framework, ...config } = body.config;
			const serve: ServeRequest = {
				model_name: model,
				device: `${d.nodeName}:${tier}`,
				service_id: serviceId,
				port: body.port ?? configPort ?? null,
				config,
			};
			const more = {
				reservations: [modelReservation(model, tier, "shared")],
				resources: resources([model], [tier]),
				joinKey: `serve ${serviceId}`,
				sizeBytes: copy.size_bytes,
			};
			return {
				...(await submit("serve", model, serve, body.priority, more, request.headers)),
				service_id: serviceId,
			};
		},
		stopService: async ({ params, request }) => {
			const service = d.services.get(params.service_id);
			const more = {
				resources: { devices: [service.device], models: [service.model_name], exclusive: false },
				joinKey: `stop ${service.service_id}`,
			};
			return submit(
				"stop",
				service.model_name,
				{ service_id: service.service_id },
				"critical",
				more,
				request.headers,
			);
		},
		serviceStatus: ({ params }) => d.services.get(params.service_id),
		serviceLogs: async ({ params, query }) =>
			textResponse(await d.services.logs(params.service_id, query.lines)),

		queueStatus: ({ query }) => {
			if (query.node !== undefined && query.node !== d.nodeName)
				throw invalid("wrong_node", `This node is ${d.nodeName}.`, { node: query.node });
			return {
				queue_config: {
					max_concurrent_tasks: d.maxConcurrentTasks,
					priority_levels: [...PRIORITIES],
					resource_tracking: true,
				},
				task_queue: d.queue.counters(),
				tasks: d.queue.list(),
			};
		},
		getTask: ({ params }) => d.queue.get(params.task_id),
		cancelTask: ({ params }) => d.queue.cancel(params.task_id),
		queueHistory: ({ query }) => d.queue.history(historyFilter(query)),

		gatewayModels: ({ request }) => d.gateway.handle(request, "/v1/models"),
		gatewayChat: ({ request }) => d.gateway.handle(request, "/v1/chat/completions"),
		gatewayCompletions: ({ request }) => d.gateway.handle(request, "/v1/completions"),
		gatewayEmbeddings: ({ request }) => d.gateway.handle(request, "/v1/embeddings"),
	};
}

/** One service per model, node and tier: starting it twice is starting it once. */
export function serviceIdOf(model: string, node: string, tier: string): string {
	const readable = model.replaceAll("/", "--").slice(0, 60);
	return `svc-${readable}-${node}-${tier}-${sha256Hex(`${model}\n${node}\n${tier}`).slice(0, 4)}`;
}

function tierName(device: { kind: string; index: number }): string {
	if (device.kind === "dram") return "dram";
	return `${device.kind}${device.index}`;
}

function onlyTier(tiers: string[], model: string, nodeName: string): string {
	const [first] = tiers;
	if (first === undefined) throw modelNotFound(model, nodeName);
	if (tiers.length === 1) return first;
	throw invalid(
		"ambiguous_device",
		`${JSON.stringify(model)} is on ${tiers.join(" and ")} of ${nodeName}.`,
		{ devices: tiers },
		"Name one with `device`.",
	);
}

/** Serving without a device: the nearest tier that has the model. */
function servingTier(storage: Storage, model: ModelName, nodeName: string): string {
	const tiers = storage
		.copies()
		.filter((c) => c.model_name === model && c.status === "ready")
		.map((c) => c.tier);
	const tier = tiers.find((t) => t === "dram") ?? tiers[0];
	if (tier === undefined) throw modelNotFound(model, nodeName);
	return tier;
}

/** The node's models: what it holds, and what its tasks are bringing. */
function summaries(d: NodeRouteDependencies): ModelSummary[] {
	const byName = new Map<string, ModelCopy[]>();
	for (const copy of d.storage.copies())
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
			services: servicesOf(name, services),
			status: modelStatus(
				copies.map((c) => c.status),
				activities.filter((a) => a.model_name === name).map((a) => a.status),
			),
		}));
}

function detailOf(summary: ModelSummary, copies: ModelCopy[], nodeName: string): ModelDetail {
	const mine = copies.filter((c) => c.model_name === summary.model_name);
	const [newest] = [...mine].sort((a, b) => b.ready_at - a.ready_at);
	return {
		...summary,
		source_url: newest?.source_url ?? null,
		metadata: {},
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
		})),
	};
}
