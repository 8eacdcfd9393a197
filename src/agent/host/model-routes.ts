/** The host's routes about models: the registry, and moving bytes by nodes. */
import type { Cluster } from "../../core/cluster/cluster.ts";
import { modelReservation } from "../../core/queue/queue.ts";
import { parseOutboundUrl, shownSource } from "../../platform/outbound-guard.ts";
import type { Compression } from "../../schema/compression.ts";
import { formatTier, parseDevice } from "../../schema/device.ts";
import { GswarmError, asGswarmError, invalid, modelNotFound, notFound } from "../../schema/errors.ts";
import type { ModelDetail } from "../../schema/model.ts";
import { parseModelName } from "../../schema/names.ts";
import { isServing } from "../../schema/service.ts";
import type { PRIORITIES, TaskDocument } from "../../schema/task.ts";
import { BRINGING } from "../coming-models.ts";
import { downloadSource } from "../download-source.ts";
import { inUse, servedThere, insufficientSpace, sameDevice } from "../http/answers.ts";
import type { Handlers } from "../http/app.ts";
import { forwardRequest } from "./forwarding.ts";
import type { HostRequests, HostRouteDependencies, SubmitBody } from "./host-requests.ts";
import type { CrossCopyRequest, UnregisterRequest } from "./operations.ts";
import { placeDownload } from "./placement.ts";
import type { Order } from "./task-order.ts";

type ModelRoutes = Pick<
	Handlers<"host">,
	| "listModels"
	| "getModel"
	| "registerModel"
	| "describeModel"
	| "deleteModel"
	| "listLocations"
	| "addLocation"
	| "removeLocation"
	| "downloadModel"
	| "moveModel"
	| "copyModel"
	| "verifyModel"
>;

/** What of a query says how a copy goes. */
interface Removing {
	force: boolean;
	revision?: string | undefined;
	delete_files?: boolean | undefined;
}

export function modelRoutes(d: HostRouteDependencies, requests: HostRequests): ModelRoutes {
	const { submit, order, submitForward, forwarded, passKey } = requests;
	const transferBetween = async (
		type: "copy" | "move",
		name: string,
		body: {
			source_device: string;
			target_device: string;
			keep_source?: boolean;
			priority: (typeof PRIORITIES)[number];
			compression: Compression;
			verify_checksum?: boolean | undefined;
			bandwidth_limit?: number | undefined;
			dependencies?: string[] | undefined;
		},
		headers: Headers,
	): Promise<SubmitBody> => {
		const model = parseModelName(name);
		const after = await order(body.dependencies);
		const isThere = holds(d, model, body.source_device);
		// What it waits for may bring the model; then it is looked at again when it begins.
		const mayCome = !isThere && after.waits;
		if (!mayCome && !d.registry.has(model)) throw modelNotFound(model);
		const source = mayCome ? d.nodes.target(body.source_device) : d.nodes.holding(body.source_device, model);
		const target = d.nodes.target(body.target_device);
		if (source.device === target.device) throw sameDevice(target.device);
		const client = d.nodes.client(target.node);
		const request: CrossCopyRequest = {
			model_name: model,
			source_device: source.device,
			target_device: target.device,
			keep_source: type === "copy" || body.keep_source === true,
			verify_checksum: body.verify_checksum ?? false,
			bandwidth_limit: body.bandwidth_limit ?? null,
			compression: body.compression,
			priority: body.priority,
		};
		const reservations = [
			modelReservation(model, source.device, request.keep_source ? "shared" : "exclusive"),
			modelReservation(model, target.device, "exclusive"),
		];
		const resources = { devices: [source.device, target.device], models: [model], exclusive: false };
		const size = isThere ? d.registry.get(model).model_size : undefined;
		if (source.node === target.node) {
			await d.registry.want(model, target.node, target.tier);
			const { keep_source: _keep, ...copyBody } = {
				...body,
				// Between devices of one node no line lies.
				compression: "none" as const,
				source_device: source.device,
				target_device: target.device,
				dependencies: after.on(target.node),
			};
			const moveBody = { ...copyBody, keep_source: body.keep_source === true };
			const { node } = target;
			if (!after.isOf(node)) {
				const forward =
					type === "move"
						? forwardRequest(model, { call: "moveModel", node, body: moveBody })
						: forwardRequest(model, { call: "copyModel", node, body: copyBody });
				return submitForward(forward, after, { reservations, resources, sizeBytes: size }, headers);
			}
			const input = { params: { model_name: model }, headers: passKey(headers) };
			if (type === "move") return forwarded(await client.call("moveModel", { ...input, body: moveBody }));
			return forwarded(await client.call("copyModel", { ...input, body: copyBody }));
		}
		d.nodes.client(source.node);
		const serving = d.cluster
			.services()
			.find((s) => s.model_name === model && s.device === source.device && isServing(s));
		if (!request.keep_source && serving !== undefined)
			throw servedThere(model, source.device, serving.service_id);
		if (size !== undefined) fits(d, target, size, model);
		await d.registry.want(model, target.node, target.tier);
		const more = { priority: body.priority, reservations, resources, sizeBytes: size, ...after.own };
		return submit(type, model, request, more, headers);
	};
	const removeCopy = async (
		name: string,
		deviceText: string,
		{ force, revision, delete_files: deleteFiles = false }: Removing,
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
				query: {
					device: target.device,
					force: force ? "true" : "false",
					...(revision === undefined ? {} : { revision }),
					...(deleteFiles ? { delete_files: "true" } : {}),
				},
				headers: passKey(headers),
			}),
		);
	};
	return {
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
		getModel: ({ params }) => shown(d.registry.get(parseModelName(params.model_name))),
		registerModel: async ({ body }) => {
			const model = parseModelName(body.model_name);
			checkMetadata(body.metadata);
			checkSource(body.source_url);
			await d.registry.register({
				modelName: model,
				modelType: body.model_type,
				modelSize: body.model_size,
				sourceUrl: body.source_url ?? null,
				metadata: body.metadata,
			});
			return shown(d.registry.get(model));
		},
		describeModel: async ({ params, body }) => {
			const model = parseModelName(params.model_name);
			d.registry.get(model);
			if (body.metadata !== undefined) checkMetadata(body.metadata);
			await d.registry.describe(model, { modelType: body.model_type, metadata: body.metadata });
			return shown(d.registry.get(model));
		},
		deleteModel: async ({ params, query, request }) => {
			const model = parseModelName(params.model_name);
			if (query.device !== undefined) return removeCopy(model, query.device, query, request.headers);
			if (query.revision !== undefined)
				throw invalid("bad_field", "A revision is deleted from one device; name it.", { field: "device" });
			const { locations } = d.registry.get(model);
			const [serving] = d.cluster.services().filter((s) => s.model_name === model && isServing(s));
			if (serving !== undefined && !query.force) throw inUse(model, serving.service_id);
			const bringing = await taskThatBrings(d, model);
			if (bringing !== undefined && !query.force) throw stillComing(model, bringing);
			if (query.force) await cancelBringing(d, model);
			const body: UnregisterRequest = {
				model_name: model,
				force: query.force,
				...(query.delete_files ? { delete_files: true } : {}),
			};
			const more = {
				priority: "high" as const,
				reservations: [modelReservation(model, "everywhere", "exclusive")],
				resources: { devices: locations, models: [model], exclusive: true },
				joinKey: `unregister ${model} ${query.force} ${query.delete_files}`,
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
			removeCopy(params.model_name, params.device, query, request.headers),
		downloadModel: async ({ params, body, request }) => {
			const model = parseModelName(params.model_name);
			const known = d.registry.has(model) ? d.registry.get(model) : undefined;
			const origin = downloadSource(model, body.source_url, known?.source_url ?? undefined);
			const source = downloadSource(model, origin, undefined, body.revision);
			const target = placeDownload(d.nodes, body.target_device);
			const { include = [], exclude = [], all_files: allFiles = false } = body;
			const isAsKnown = source === known?.source_url && include.length + exclude.length === 0 && !allFiles;
			if (isAsKnown) fits(d, target, known.model_size, model);
			const after = await order(body.dependencies);
			const { node } = target;
			const nodeBody = {
				...body,
				source_url: source,
				target_device: target.device,
				model_type: body.model_type ?? known?.model_type ?? "unknown",
				dependencies: after.on(node),
			};
			const client = d.nodes.client(node);
			const answer = after.isOf(node)
				? forwarded(
						await client.call("downloadModel", {
							params: { model_name: model },
							body: nodeBody,
							headers: passKey(request.headers),
						}),
					)
				: await submitForward(
						forwardRequest(model, { call: "downloadModel", node, body: nodeBody }),
						after,
						{
							reservations: [modelReservation(model, target.device, "exclusive")],
							resources: { devices: [target.device], models: [model], exclusive: false },
						},
						request.headers,
					);
			await d.registry.want(model, target.node, target.tier);
			await d.registry.ensure({
				modelName: model,
				modelType: body.model_type ?? "unknown",
				modelSize: 0,
				sourceUrl: origin,
				metadata: {},
			});
			return answer;
		},
		moveModel: ({ params, body, request }) =>
			transferBetween("move", params.model_name, body, request.headers),
		copyModel: ({ params, body, request }) =>
			transferBetween("copy", params.model_name, body, request.headers),
		verifyModel: async ({ params, body, request }) => {
			const model = parseModelName(params.model_name);
			const after = await order(body.dependencies);
			const { node, device } = verifiedPlace(d, model, body.device, after);
			const nodeBody = { ...body, device, dependencies: after.on(node) };
			if (!after.isOf(node)) {
				const more = {
					reservations: [modelReservation(model, device, body.repair ? "exclusive" : "shared")],
					resources: { devices: [device], models: [model], exclusive: false },
				};
				const forward = forwardRequest(model, { call: "verifyModel", node, body: nodeBody });
				return submitForward(forward, after, more, request.headers);
			}
			const answer = await d.nodes.client(node).call("verifyModel", {
				params: { model_name: model },
				body: nodeBody,
				headers: passKey(request.headers),
			});
			return forwarded(answer);
		},
	};
}

/** Whether the model is ready on the device that is named. */
function holds(d: HostRouteDependencies, model: string, device: string): boolean {
	try {
		d.nodes.holding(device, model);
		return d.registry.has(model);
	} catch (error) {
		if (asGswarmError(error).code === "MODEL_NOT_FOUND") return false;
		throw error;
	}
}

/** The device that is named, else the only one; its copy may be damaged already. @throws 400 ambiguous_device */
function verifiedPlace(
	d: HostRouteDependencies,
	model: string,
	device: string | undefined,
	after: Order,
): { node: string; device: string } {
	const coming = after.devicesOf(model).map((one) => d.nodes.target(one).device);
	if (!after.waits && !d.registry.has(model)) throw modelNotFound(model);
	const here = d.registry.locations(model).filter((l) => l.claimed === 0);
	const devices = [...new Set([...here.map(({ node, tier }) => `${node}:${tier}`), ...coming])];
	const [only] = devices;
	if (device === undefined && devices.length > 1) {
		throw invalid(
			"ambiguous_device",
			`${JSON.stringify(model)} is on ${devices.join(", ")}.`,
			{ devices },
			"Name one with `device`.",
		);
	}
	if (device === undefined && only === undefined) throw modelNotFound(model);
	const target = d.nodes.target(device ?? only ?? "");
	if (!after.waits && !devices.includes(target.device)) throw modelNotFound(model, target.device);
	return target;
}

/** @throws 400 bad_url, credentials_in_url; other sources are checked where they are read, by who can read them */
function checkSource(source: string | undefined): void {
	if (source !== undefined && /^https?:/i.test(source)) parseOutboundUrl(source);
}

/** Whoever reads about a model need not learn what signs the address it comes from. */
function shown(model: ModelDetail): ModelDetail {
	return { ...model, source_url: model.source_url === null ? null : shownSource(model.source_url) };
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

/** Refuses up front what the target's last report has no room for. */
export function fits(
	d: Pick<HostRouteDependencies, "cluster" | "registry">,
	target: { node: string; tier: string; device: string },
	required: number,
	model: string,
): void {
	const usage = d.cluster.view(target.node).beat?.tiers[target.tier];
	const there = d.registry.locations(model).some((l) => l.node === target.node && l.tier === target.tier);
	if (usage === undefined || there) return;
	// What others there only have reserved is waited for, and what may go makes room; a GPU's node decides about it.
	const { total, available: free, reserved, evictable = 0 } = usage;
	const available = target.tier.startsWith("gpu") ? total : free + reserved + evictable;
	if (required <= available) return;
	throw insufficientSpace(target.device, required, available);
}

/** A task of a node that downloads, copies or moves the model. What a node reported last may be over by now: it is asked. */
async function taskThatBrings(d: HostRouteDependencies, model: string): Promise<TaskDocument | undefined> {
	const brings = (t: TaskDocument): boolean =>
		BRINGING.includes(t.task_type) && t.request["model_name"] === model;
	const own = d.queue.list({ model }).find(brings);
	if (own !== undefined) return own;
	for (const { name, beat } of d.nodes.reachable()) {
		if (beat?.activities.some((a) => a.model_name === model) !== true) continue;
		const found = (await d.tasks.live(name, model)).find(brings);
		if (found !== undefined) return found;
	}
	return undefined;
}

/** Ends what would bring the model back; an operation of the host goes before the task that it follows. */
async function cancelBringing(d: HostRouteDependencies, model: string): Promise<void> {
	const cancelled = new Set<string>();
	for (;;) {
		const task = await taskThatBrings(d, model);
		if (task === undefined || cancelled.has(task.task_id)) return;
		cancelled.add(task.task_id);
		await d.tasks.cancel(task.task_id).catch((error: unknown) => {
			if (asGswarmError(error).reason !== "already_terminal") throw error;
		});
	}
}

/** 409: what is unregistered now would be back when the task ends. */
function stillComing(model: string, { task_id, node }: TaskDocument): GswarmError {
	return new GswarmError("CONFLICT", `The task ${task_id} is still bringing ${JSON.stringify(model)}.`, {
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
