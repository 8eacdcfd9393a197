/** The host's API: the registry, and every node route forwarded to the node that its device, service or task names. */
import { contract } from "../../api/contract.ts";
import { openApiDocument } from "../../api/openapi.ts";
import type { Cluster } from "../../core/cluster/cluster.ts";
import { isReachable } from "../../core/cluster/cluster.ts";
import type { Identity } from "../../core/identity/identity.ts";
import { type Queue, modelReservation } from "../../core/queue/queue.ts";
import type { Registry } from "../../core/registry/registry.ts";
import type { Gateway } from "../../core/service/service.ts";
import type { Clock } from "../../platform/clock.ts";
import { version } from "../../platform/version.ts";
import { formatTier, parseDevice } from "../../schema/device.ts";
import { GswarmError, invalid, modelNotFound, notFound } from "../../schema/errors.ts";
import { isModelName, parseModelName, parseNodeName } from "../../schema/names.ts";
import { HEARTBEAT_MS } from "../../core/cluster/cluster.ts";
import { isServing } from "../../schema/service.ts";
import { PRIORITIES, type Submitted, type TaskDocument, type TaskType } from "../../schema/task.ts";
import { downloadSource } from "../download-source.ts";
import type { Handlers } from "../http/app.ts";
import { historyFilter, idempotencyKey, inUse, sameDevice, seesDetails } from "../http/answers.ts";
import {
	type CrossCopyRequest,
	type DeployRequest,
	type OperationDependencies,
	type UnregisterRequest,
	grantForOperation,
	isUnregistering,
} from "./operations.ts";
import { placeDownload, placeService } from "./placement.ts";
import type { TaskFinder } from "./task-finder.ts";

export interface HostRouteDependencies extends OperationDependencies {
	hostName: string;
	clusterId: string;
	publicKey: string;
	clock: Clock;
	identity: Identity;
	registry: Registry;
	cluster: Cluster;
	queue: Queue;
	tasks: TaskFinder;
	gateway: Gateway;
	maxConcurrentTasks: number;
	uptimeS(): number;
	/** For the join command that is printed. */
	hostUrl(): string;
	/** Copies that were deleted while their node was away and came back with its inventory. */
	removeAgain(copies: { model_name: string; node: string; tier: string }[]): void;
	inventoryVersions: Map<string, string>;
}

type SubmitBody = Submitted & { node: string };

export function hostHandlers(d: HostRouteDependencies): Handlers<"host"> {
	const submit = async (
		type: TaskType,
		model: string,
		request: object,
		more: Partial<Parameters<Queue["submit"]>[0]>,
		headers: Headers,
	): Promise<SubmitBody> => {
		const key = headers.get("idempotency-key");
		const { task, position, estimatedTimeS } = await d.queue.submit({
			type,
			model,
			request: request as Record<string, unknown>,
			priority: "normal",
			...more,
			...(key === null ? {} : { idempotencyKey: idempotencyKey(key) }),
		});
		return {
			task_id: task.task_id,
			status: "queued",
			position,
			estimated_time: estimatedTimeS,
			node: d.hostName,
		};
	};
	const forwarded = (answer: SubmitBody): SubmitBody => {
		d.tasks.remember(answer.task_id, answer.node);
		return answer;
	};
	const passKey = (headers: Headers): Record<string, string> => {
		const key = headers.get("idempotency-key");
		return key === null ? {} : { "idempotency-key": key };
	};
	const transferBetween = async (
		type: "copy" | "move",
		name: string,
		body: {
			source_device: string;
			target_device: string;
			keep_source?: boolean;
			priority: (typeof PRIORITIES)[number];
			compression: "none";
			verify_checksum?: boolean | undefined;
			bandwidth_limit?: number | undefined;
		},
		headers: Headers,
	): Promise<SubmitBody> => {
		const model = parseModelName(name);
		if (!d.registry.has(model)) throw modelNotFound(model);
		const source = d.nodes.holding(body.source_device, model);
		const target = d.nodes.target(body.target_device);
		if (source.device === target.device) throw sameDevice(target.device);
		const client = d.nodes.client(target.node);
		if (source.node === target.node) {
			await d.registry.want(model, target.node, target.tier);
			const forwardBody = { ...body, source_device: source.device, target_device: target.device };
			const input = { params: { model_name: model }, headers: passKey(headers) };
			if (type === "move") return forwarded(await client.call("moveModel", { ...input, body: forwardBody }));
			const { keep_source: _keep, ...copyBody } = forwardBody;
			return forwarded(await client.call("copyModel", { ...input, body: copyBody }));
		}
		d.nodes.client(source.node);
		const size = d.registry.get(model).model_size;
		fits(d, target, size, model);
		await d.registry.want(model, target.node, target.tier);
		const request: CrossCopyRequest = {
			model_name: model,
			source_device: source.device,
			target_device: target.device,
			keep_source: type === "copy" || body.keep_source === true,
			verify_checksum: body.verify_checksum ?? false,
			bandwidth_limit: body.bandwidth_limit ?? null,
			priority: body.priority,
		};
		const more = {
			priority: body.priority,
			reservations: [
				modelReservation(model, source.device, request.keep_source ? "shared" : "exclusive"),
				modelReservation(model, target.device, "exclusive"),
			],
			resources: { devices: [source.device, target.device], models: [model], exclusive: false },
			sizeBytes: size,
		};
		return submit(type, model, request, more, headers);
	};
	const removeCopy = async (
		name: string,
		deviceText: string,
		force: boolean,
		headers: Headers,
	): Promise<SubmitBody> => {
		const model = parseModelName(name);
		if (!d.registry.has(model)) throw modelNotFound(model);
		const target = d.nodes.target(deviceText);
		const here = d.registry.locations(model).filter((l) => l.node === target.node && l.tier === target.tier);
		if (here.length === 0) throw modelNotFound(model, target.device);
		if (here.every((l) => l.claimed === 1)) {
			const request: UnregisterRequest = { model_name: model, force, claim_device: target.device };
			return submit("delete", model, request, {}, headers);
		}
		return forwarded(
			await d.nodes.client(target.node).call("deleteModel", {
				params: { model_name: model },
				query: { device: target.device, force: force ? "true" : "false" },
				headers: passKey(headers),
			}),
		);
	};
	const serviceById = (id: string) => {
		const service = d.cluster.services().find((s) => s.service_id === id);
		if (service === undefined) throw notFound("service", id, "`gswarm service list` shows the services.");
		return service;
	};

	let lastJoin: Promise<unknown> = Promise.resolve();
	/** One join after the other: a name is not given away between the look at it and the credential for it. */
	const inTurn = <T>(join: () => Promise<T>): Promise<T> => {
		const turn = lastJoin.then(join);
		lastJoin = turn.catch(() => undefined);
		return turn;
	};

	return {
		health: ({ caller }) => {
			if (!seesDetails(caller)) return { status: "ok" as const };
			const views = d.cluster.views();
			const problems = views
				.filter((v) => v.liveness !== "alive")
				.map((v) => `node ${v.name} is ${v.liveness}`);
			return {
				status: problems.length === 0 ? ("ok" as const) : ("degraded" as const),
				details: {
					role: "host" as const,
					name: d.hostName,
					version,
					uptime_s: d.uptimeS(),
					cluster_id: d.clusterId,
					nodes: Object.fromEntries(views.map((v) => [v.name, v.liveness])),
					problems,
				},
			};
		},
		status: () => ({
			model_status: d.registry.all().map((m) => ({
				model_name: m.model_name,
				model_type: m.model_type,
				model_size: m.model_size,
				stored_locations: m.locations,
				available_services: m.services,
			})),
			node_list: d.cluster.views().map((v) => v.name),
		}),
		openapi: () => openApiDocument(contract, { listener: "host", version }),
		listNodes: () => {
			const nodes = d.cluster.documents();
			return { nodes, total: nodes.length };
		},

		listModels: ({ query }) => {
			const filter = {
				type: query.type,
				status: query.status,
				location: query.location === undefined ? undefined : parseLocation(query.location, d.cluster),
				page: query.page,
				perPage: query.per_page,
			};
			return { ...d.registry.list(filter), page: query.page, per_page: query.per_page };
		},
		getModel: ({ params }) => d.registry.get(parseModelName(params.model_name)),
		registerModel: async ({ body }) => {
			const model = parseModelName(body.model_name);
			checkMetadata(body.metadata);
			await d.registry.register({
				modelName: model,
				modelType: body.model_type,
				modelSize: body.model_size,
				sourceUrl: body.source_url ?? null,
				metadata: body.metadata,
			});
			return d.registry.get(model);
		},
		deleteModel: async ({ params, query, request }) => {
			const model = parseModelName(params.model_name);
			if (query.device !== undefined) return removeCopy(model, query.device, query.force, request.headers);
			if (!d.registry.has(model)) throw modelNotFound(model);
			const [serving] = d.cluster.services().filter((s) => s.model_name === model && isServing(s));
			if (serving !== undefined && !query.force) throw inUse(model, serving.service_id);
			const bringing = query.force ? undefined : await taskThatBrings(d, model);
			if (bringing !== undefined) throw stillComing(model, bringing);
			const body: UnregisterRequest = { model_name: model, force: query.force };
			const more = {
				priority: "high" as const,
				reservations: [modelReservation(model, "everywhere", "exclusive")],
				resources: { devices: d.registry.get(model).locations, models: [model], exclusive: true },
				joinKey: `unregister ${model} ${query.force}`,
			};
			return submit("delete", model, body, more, request.headers);
		},
		listLocations: ({ params }) => {
			const detail = d.registry.get(parseModelName(params.model_name));
			return { model_name: detail.model_name, locations: detail.location_details };
		},
		addLocation: async ({ params, body }) => {
			const model = parseModelName(params.model_name);
			const { node, tier, device } = d.nodes.target(body.device);
			await d.registry.claim(model, node, tier);
			const location = d.registry.get(model).location_details.find((l) => l.device === device);
			if (location === undefined) throw notFound("location", device);
			return location;
		},
		removeLocation: ({ params, query, request }) =>
			removeCopy(params.model_name, params.device, query.force, request.headers),
		downloadModel: async ({ params, body, request }) => {
			const model = parseModelName(params.model_name);
			const known = d.registry.has(model) ? d.registry.get(model) : undefined;
			const source = downloadSource(model, body.source_url, known?.source_url ?? undefined);
			const target = placeDownload(d.nodes, body.target_device);
			const answer = await d.nodes.client(target.node).call("downloadModel", {
				params: { model_name: model },
				body: {
					...body,
					source_url: source,
					target_device: target.device,
					model_type: body.model_type ?? known?.model_type ?? "unknown",
				},
				headers: passKey(request.headers),
			});
			await d.registry.want(model, target.node, target.tier);
			await d.registry.ensure({
				modelName: model,
				modelType: body.model_type ?? "unknown",
				modelSize: 0,
				sourceUrl: source,
				metadata: {},
			});
			return forwarded(answer);
		},
		moveModel: ({ params, body, request }) =>
			transferBetween("move", params.model_name, body, request.headers),
		copyModel: ({ params, body, request }) =>
			transferBetween("copy", params.model_name, body, request.headers),

		listServices: () => {
			const services = d.cluster.services();
			return { services, total: services.length };
		},
		startService: async ({ body, request }) => {
			const model = parseModelName(body.model_name);
			if (!d.registry.has(model)) throw modelNotFound(model);
			const devices = placeService(d, model, body);
			const { nodes: _nodes, device: _device, ...rest } = body;
			const [only] = devices;
			if (only !== undefined && devices.length === 1) {
				const answer = await d.nodes.client(d.nodes.target(only).node).call("startService", {
					body: { ...rest, device: only },
					headers: passKey(request.headers),
				});
				forwarded(answer);
				return answer;
			}
			const { replicas, ...config } = rest.config;
			if (replicas !== undefined && replicas !== devices.length) {
				throw invalid(
					"replicas_not_supported",
					`${replicas} replicas on ${devices.length} nodes: one instance per node is what is possible.`,
					{ field: "config.replicas", nodes: devices.length },
				);
			}
			const deploy: DeployRequest = { model_name: model, devices, body: { ...rest, config } };
			const more = { priority: body.priority, resources: { devices, models: [model], exclusive: false } };
			return {
				...(await submit("serve", model, deploy, more, request.headers)),
				service_id: `svc-${model.replaceAll("/", "--")}`,
			};
		},
		stopService: async ({ params, request }) => {
			const service = serviceById(params.service_id);
			const client = d.nodes.client(service.node);
			return forwarded(await client.call("stopService", { params, headers: passKey(request.headers) }));
		},
		serviceStatus: ({ params }) =>
			d.nodes.client(serviceById(params.service_id).node).call("serviceStatus", { params }),
		serviceLogs: ({ params, query }) =>
			d.nodes.client(serviceById(params.service_id).node).open("serviceLogs", { params, query }),

		queueStatus: async ({ query }) => {
			const { counters, tasks } = await d.tasks.live(query.node);
			return {
				queue_config: {
					max_concurrent_tasks: d.maxConcurrentTasks,
					priority_levels: [...PRIORITIES],
					resource_tracking: true,
				},
				task_queue: counters,
				tasks,
			};
		},
		getTask: ({ params }) => d.tasks.get(params.task_id),
		cancelTask: ({ params }) => d.tasks.cancel(params.task_id),
		queueHistory: ({ query }) => d.tasks.history(historyFilter(query), query),

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
				const node = parseNodeName(body.node);
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

		gatewayModels: ({ request }) => d.gateway.handle(request, "/v1/models"),
		gatewayChat: ({ request }) => d.gateway.handle(request, "/v1/chat/completions"),
		gatewayCompletions: ({ request }) => d.gateway.handle(request, "/v1/completions"),
		gatewayEmbeddings: ({ request }) => d.gateway.handle(request, "/v1/embeddings"),
	};
}

/** What a `location` filter names: a device, a node, or a tier. */
function parseLocation(
	text: string,
	cluster: Cluster,
): { node: string | undefined; tier: string | undefined } {
	if (!text.includes(":") && cluster.views().some((v) => v.name === text || v.address === text)) {
		return { node: cluster.view(text).name, tier: undefined };
	}
	const device = parseDevice(text);
	return {
		node: device.node === undefined ? undefined : cluster.view(device.node).name,
		tier: formatTier(device),
	};
}

/** Whether a node may call a place of its own so: its name would become part of devices. */
function isTier(text: string): boolean {
	return /^(disk\d{0,3}|dram|gpu\d{1,3})$/.test(text);
}

/** Refuses up front what the target's last report has no room for. */
function fits(
	d: HostRouteDependencies,
	target: { node: string; tier: string; device: string },
	required: number,
	model: string,
): void {
	const usage = d.cluster.view(target.node).beat?.tiers[target.tier];
	const there = d.registry.locations(model).some((l) => l.node === target.node && l.tier === target.tier);
	if (usage === undefined || there || required <= usage.available) return;
	throw new GswarmError(
		"RESOURCE_UNAVAILABLE",
		`${target.device} has ${usage.available} bytes available; ${required} are needed.`,
		{
			reason: "insufficient_space",
			details: { required, available: usage.available, device: target.device },
			status: 507,
			hint: "Delete or move models there, or choose another device.",
		},
	);
}

/** A task of a node that downloads, copies or moves the model. What a node reported last may be over by now: it is asked. */
async function taskThatBrings(d: HostRouteDependencies, model: string): Promise<TaskDocument | undefined> {
	for (const { name, beat } of d.nodes.reachable()) {
		if (beat?.activities.some((a) => a.model_name === model) !== true) continue;
		const { tasks } = await d.tasks.live(name);
		const found = tasks.find((t) => BRINGING.includes(t.task_type) && t.request["model_name"] === model);
		if (found !== undefined) return found;
	}
	return undefined;
}

const BRINGING: readonly TaskType[] = ["download", "copy", "move"];

/** 409: what is unregistered now would be back when the task ends. */
function stillComing(model: string, { task_id, node }: TaskDocument): GswarmError {
	return new GswarmError("CONFLICT", `The task ${task_id} is bringing ${JSON.stringify(model)} to ${node}.`, {
		reason: "in_use",
		details: { model, node, task: task_id },
		hint: `Wait for it, or \`gswarm queue cancel ${task_id}\`.`,
	});
}

/** At most 64 keys, 8 levels and 16 kB. */
function checkMetadata(metadata: Record<string, unknown>): void {
	const depth = (value: unknown): number =>
		typeof value === "object" && value !== null ? 1 + Math.max(0, ...Object.values(value).map(depth)) : 0;
	const keys = Object.keys(metadata).length;
	const size = JSON.stringify(metadata).length;
	if (keys <= 64 && size <= 16_384 && depth(metadata) <= 8) return;
	throw invalid(
		"bad_field",
		`"metadata" has ${keys} keys, ${depth(metadata)} levels and ${size} bytes; at most 64, 8 and 16384 are possible.`,
		{
			field: "metadata",
		},
	);
}
