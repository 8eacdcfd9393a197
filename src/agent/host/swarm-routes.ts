/** The host's routes about operations of several models and devices. */
import type { Contract } from "../../api/contract.ts";
import type { BodyOf } from "../../api/route.ts";
import { modelReservation } from "../../core/queue/queue.ts";
import { formatTier, parseDevice } from "../../schema/device.ts";
import { GswarmError, invalid, modelNotFound, notFound } from "../../schema/errors.ts";
import { parseModelName } from "../../schema/names.ts";
import type { TransferPlan } from "../../schema/transfer-item.ts";
import { downloadSource } from "../download-source.ts";
import type { Handlers } from "../http/app.ts";
import type { HostRequests, HostRouteDependencies } from "./host-requests.ts";
import { fits } from "./model-routes.ts";
import type { Placed } from "./placement.ts";
import { isSwarmOperation, type SwarmModel, type SwarmOperation } from "./swarms.ts";

type SwarmRoutes = Pick<Handlers<"host">, "transferModels" | "planTransfer" | "getTransfer" | "findSwarm">;
type Body = BodyOf<Contract["transferModels"]>;

const MAX_ITEMS = 512;
/** The queue keeps no more for one operation; the nodes keep their own. */
const MAX_RESERVATIONS = 64;

interface PlannedModel extends SwarmModel {
	sourceDevices: string[];
	there: string[];
	places: Placed[];
}

export function swarmRoutes(d: HostRouteDependencies, { submit, order }: HostRequests): SwarmRoutes {
	const toCopy = async (asked: Body["models"][number], places: readonly Placed[]): Promise<PlannedModel> => {
		const model = parseModelName(asked.model_name);
		if (asked.source_url !== undefined)
			throw invalid("bad_field", "A copy comes from a device.", { field: "source_url" });
		if (!d.registry.has(model)) throw modelNotFound(model);
		const reachable = new Set(d.nodes.reachable().map((v) => v.name));
		const ready = d.registry
			.locations(model)
			.filter((l) => l.status === "ready" && l.claimed === 0 && reachable.has(l.node));
		const named = asked.source_device === undefined ? undefined : d.nodes.holding(asked.source_device, model);
		const first = named ?? ready[0];
		if (first === undefined) throw modelNotFound(model, "any reachable node");
		const contents = new Set(ready.map((l) => l.content_id));
		if (named === undefined && contents.size > 1) {
			throw invalid(
				"ambiguous_device",
				`${JSON.stringify(model)} is not the same everywhere.`,
				{ devices: ready.map((l) => `${l.node}:${l.tier}`) },
				"Say which one with `source_device`.",
			);
		}
		const source = `${first.node}:${first.tier}`;
		const input = { params: { model_name: model }, query: { device: source } };
		const { copy } = await d.nodes.client(first.node).call("resolveModel", input);
		const same = ready.filter((l) => l.content_id === copy.content_id).map((l) => `${l.node}:${l.tier}`);
		const isThere = ({ device }: Placed): boolean => same.includes(device) || device === source;
		const wanted = withFilesFirst(places, (node) => same.some((one) => isFilesOf(node, one))).filter(
			(place) => !isThere(place),
		);
		for (const place of wanted) fits(d, place, copy.size_bytes, model);
		return {
			model_name: model,
			source_url: copy.source_url,
			model_type: copy.model_type,
			sealed: {
				revision: copy.revision,
				content_id: copy.content_id,
				size_bytes: copy.size_bytes,
				format: copy.format,
				source_device: source,
			},
			targets: wanted.map(({ node, device }) => {
				const from = same.find((one) => isFilesOf(node, one));
				return { node, device, ...(from === undefined ? {} : { from }) };
			}),
			places: wanted,
			there: places.filter(isThere).map(({ device }) => device),
			sourceDevices: same.length > 0 ? same : [source],
		};
	};
	/** To a GPU a model comes from the files on its node, which have no other way to it than a copy. */
	const refuseGpus = (places: readonly Placed[]): void => {
		const gpu = places.find(({ tier }) => tier.startsWith("gpu"));
		if (gpu === undefined) return;
		throw invalid(
			"not_for_gpus",
			`${gpu.device} is the memory of a GPU; a download needs a disk or dram.`,
			{ device: gpu.device },
			`From there \`gswarm model copy NAME --to ${gpu.device}\` loads it.`,
		);
	};
	const toDownload = (
		asked: Body["models"][number],
		places: readonly Placed[],
		type: string | undefined,
	): PlannedModel => {
		const model = parseModelName(asked.model_name);
		if (asked.source_device !== undefined)
			throw invalid("bad_field", "A download comes from its source.", { field: "source_device" });
		const known = d.registry.has(model) ? d.registry.get(model) : undefined;
		return {
			model_name: model,
			source_url: downloadSource(model, asked.source_url, known?.source_url ?? undefined),
			model_type: type ?? known?.model_type ?? null,
			sealed: null,
			targets: places.map(({ node, device }) => ({ node, device })),
			places: [...places],
			there: [],
			sourceDevices: [],
		};
	};
	const expect = async (models: readonly PlannedModel[]): Promise<void> => {
		for (const model of models) {
			for (const { node, tier } of model.places) await d.registry.want(model.model_name, node, tier);
			if (model.sealed !== null) continue;
			await d.registry.ensure({
				modelName: model.model_name,
				modelType: model.model_type ?? "unknown",
				modelSize: 0,
				sourceUrl: model.source_url,
				metadata: {},
			});
		}
	};

	const planned = async (body: Body): Promise<{ places: Placed[]; models: PlannedModel[] }> => {
		const places = placesOf(d, body.target_devices);
		if (body.models.length * places.length > MAX_ITEMS) {
			throw invalid("too_many", `An operation has at most ${MAX_ITEMS} models times devices.`, {
				field: "target_devices",
			});
		}
		const models: PlannedModel[] = [];
		if (body.kind === "download") refuseGpus(places);
		for (const asked of body.models) {
			if (models.some((one) => one.model_name === asked.model_name)) continue;
			models.push(
				body.kind === "copy" ? await toCopy(asked, places) : toDownload(asked, places, body.model_type),
			);
		}
		return { places, models };
	};

	return {
		planTransfer: async ({ body }) => planOf((await planned(body)).models),
		transferModels: async ({ body, request }) => {
			const after = await order(body.dependencies);
			const { places, models } = await planned(body);
			const plan = planOf(models);
			const moving = models.filter((model) => model.targets.length > 0);
			await expect(moving);
			const operation: SwarmOperation = {
				model_name: models[0]?.model_name ?? "",
				models: moving.map(({ sourceDevices: _s, there: _t, places: _p, ...model }) => model),
				priority: body.priority,
				verify_checksum: body.verify_checksum ?? null,
				bandwidth_limit: body.bandwidth_limit ?? null,
				compression: body.compression,
				include: body.include ?? [],
				exclude: body.exclude ?? [],
				all_files: body.all_files ?? false,
			};
			const reservations = moving.flatMap(({ model_name, sealed, targets }) => [
				...(sealed === null ? [] : [modelReservation(model_name, sealed.source_device, "shared")]),
				...targets.map(({ device }) => modelReservation(model_name, device, "exclusive")),
			]);
			const more = {
				priority: body.priority,
				reservations: reservations.slice(0, MAX_RESERVATIONS),
				resources: {
					devices: places.map(({ device }) => device),
					models: moving.map(({ model_name }) => model_name),
					exclusive: false,
				},
				...(plan.total_bytes === null ? {} : { sizeBytes: plan.total_bytes }),
				...after.own,
			};
			const submitted = await submit(body.kind, operation.model_name, operation, more, request.headers);
			return { ...submitted, plan };
		},
		getTransfer: ({ params }) => {
			const task = d.queue.get(params.task_id);
			if (!isSwarmOperation(task.request)) throw notFound("transfer", params.task_id);
			return { task, items: d.swarms.items(task) };
		},
		findSwarm: ({ body, caller }) => d.swarms.find(d.queue.get(body.operation_id), body, caller?.node ?? ""),
	};
}

/** The devices that are named; `all:disk` is that of every node that can be reached. @throws as Nodes.target */
function placesOf(d: HostRouteDependencies, texts: readonly string[]): Placed[] {
	const places = new Map<string, Placed>();
	for (const text of texts) {
		const device = parseDevice(text);
		if (device.node !== "all") {
			const place = d.nodes.target(text);
			// Refuses a node that is away.
			d.nodes.client(place.node);
			places.set(place.device, place);
			continue;
		}
		const tier = formatTier(device);
		const having = d.nodes.reachable().filter((view) => view.beat?.tiers[tier] !== undefined);
		if (having.length === 0) {
			throw new GswarmError(
				"RESOURCE_UNAVAILABLE",
				`No reachable node has the device ${JSON.stringify(tier)}.`,
				{
					reason: "no_node",
					details: { device: tier },
					hint: "`gswarm node list` shows the nodes and their devices.",
				},
			);
		}
		for (const { name } of having)
			places.set(`${name}:${tier}`, { node: name, tier, device: `${name}:${tier}` });
	}
	return [...places.values()];
}

/** Whether a device has files and is this node's. */
function isFilesOf(node: string, device: string): boolean {
	return device.startsWith(`${node}:`) && !device.startsWith(`${node}:gpu`);
}

/** GPUs come last, and those of a node that has no files of the model and is to get none bring its disk along. */
function withFilesFirst(places: readonly Placed[], hasFiles: (node: string) => boolean): Placed[] {
	const files = places.filter(({ tier }) => !tier.startsWith("gpu"));
	const gpus = places.filter(({ tier }) => tier.startsWith("gpu"));
	for (const { node } of gpus) {
		if (hasFiles(node) || files.some((place) => place.node === node)) continue;
		files.push({ node, tier: "disk", device: `${node}:disk` });
	}
	return [...files, ...gpus];
}

function planOf(models: readonly PlannedModel[]): TransferPlan {
	const items = models.flatMap(({ model_name, sealed, sourceDevices, targets, there }) => {
		const item = (target_device: string, is_there: boolean) => ({
			model_name,
			target_device,
			source_devices: sourceDevices,
			size_bytes: sealed?.size_bytes ?? null,
			is_there,
		});
		return [
			...targets.map(({ device }) => item(device, false)),
			...there.map((device) => item(device, true)),
		];
	});
	const moving = items.filter((item) => !item.is_there);
	const isKnown = moving.every((item) => item.size_bytes !== null);
	return {
		items,
		total_bytes: isKnown ? moving.reduce((sum, item) => sum + (item.size_bytes ?? 0), 0) : null,
	};
}
