/** What every handler that submits work to the node's queue needs. */
import type { Accelerator } from "../../core/accelerator/accelerator.ts";
import type { Queue } from "../../core/queue/queue.ts";
import type { Activity } from "../../core/registry/registry.ts";
import type { BoundedCache } from "../../platform/bounded-cache.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Audit, Caller, PushedTokens } from "../../core/identity/identity.ts";
import type { Gateway, Services } from "../../core/service/service.ts";
import type { ModelFacts, Offers, SourceContext } from "../../core/source/source.ts";
import type { Storage } from "../../core/storage/storage.ts";
import type { Bandwidth, Grants, KeptLimits, Tags } from "../../core/transfer/transfer.ts";
import { formatTier, parseDevice } from "../../schema/device.ts";
import { asGswarmError, GswarmError, invalid } from "../../schema/errors.ts";
import type { NodeResources } from "../../schema/resources.ts";
import type { PRIORITIES, Submitted, TaskType } from "../../schema/task.ts";
import { OPERATION_HEADER, type OperationToken, parseToken } from "../../schema/operation.ts";
import { bringsTo } from "../coming-models.ts";
import { idempotencyKey } from "../http/answers.ts";
import { toDispatch } from "../operation-token.ts";
import type { DeviceWork } from "./device-work.ts";
import { type Holdings, isGpu } from "./holdings.ts";
import type { Eviction } from "./eviction.ts";
import type { GpuEviction } from "./gpu-eviction.ts";
import type { HostedWork } from "./hosted-work.ts";
import type { Preloading } from "./preloading.ts";
import type { Removal } from "./removal.ts";
import type { Room } from "./room.ts";

/** The rooms and facts that the node's routes work with. */
export interface NodeRouteDependencies {
	nodeName: string;
	/** Of the agent. */
	dataDir: string;
	clusterId: string;
	clock: Clock;
	storage: Storage;
	sources: SourceContext;
	/** What was found out about sources whose files cannot change. */
	inspections: BoundedCache<ModelFacts>;
	queue: Queue;
	hosted: HostedWork;
	services: Services;
	gateway: Gateway;
	grants: Grants;
	tags: Pick<Tags, "keyOf">;
	removal: Pick<Removal, "check">;
	room: Room;
	preloading: Pick<Preloading, "hint" | "dropHint" | "explain">;
	accelerator: Accelerator;
	holdings: Holdings;
	devices: DeviceWork;
	eviction: Eviction;
	/** What the machine has and how much of it is in use. */
	resources(): Promise<NodeResources>;
	gpuEviction: GpuEviction;
	/** Where tokens of people go that the host pushes. */
	pushed: PushedTokens;
	audit: Audit;
	/** Bundles that somebody sends. */
	offers: Offers;
	/** Of what the node receives, and of what it sends to others; what of it was set at run time is kept. */
	bandwidth: { down: Bandwidth; up: Bandwidth; kept: KeptLimits };
	/** `transfer.verify: sha256` of the configuration. */
	verifySha256: boolean;
	uptimeS(): number;
	activities(): Activity[];
	hostUrl(): string;
	problems(): string[];
}

export type SubmitBody = Submitted & { node: string };

/** The call that asks for work: its headers, and who sent it. */
export interface Asked {
	request: Request;
	caller: Caller | undefined;
}

export interface NodeRequests {
	/**
	 * The tier of files that a device names on this node.
	 * @throws 400 wrong_node: a prefix is never dropped, not_for_gpus; 404 device_not_found
	 */
	tierHere(device: string): string;
	/** As tierHere, of files or a GPU. @throws 503 gpu_not_usable */
	deviceHere(device: string): string;
	/**
	 * What is here already of a part of an operation that the host sends once more; undefined for everything else.
	 * Asked before anything of the call is looked at, because what it did may have made it impossible.
	 * @throws 409 stale_token
	 */
	sentBefore(asked: Asked): Promise<SubmitBody | undefined>;
	/** `request` becomes the task's; an Idempotency-Key among the headers is honoured, and a host's operation. */
	submit(
		type: TaskType,
		model: string,
		request: object,
		priority: (typeof PRIORITIES)[number],
		more: Partial<Parameters<Queue["submit"]>[0]>,
		asked: Asked,
	): Promise<SubmitBody>;
	/** Tiers of this node to which these tasks, or those they wait for, bring the model. */
	tiersComing(model: string, dependencies: readonly string[] | undefined): string[];
	/** @throws 507 insufficient_space: more than all tasks together could have; less room now is waited for */
	fits: Room["fits"];
	/** As a task document shows them. */
	resources(models: string[], tiers: string[]): { devices: string[]; models: string[]; exclusive: boolean };
}

export function createNodeRequests(d: NodeRouteDependencies): NodeRequests {
	const deviceHere: NodeRequests["deviceHere"] = (text) => {
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
		const name = formatTier(device);
		return device.kind === "gpu" ? d.accelerator.device(name).name : d.storage.tier(name).name;
	};
	const tierHere: NodeRequests["tierHere"] = (text) => {
		const tier = deviceHere(text);
		if (!isGpu(tier)) return tier;
		const device = `${d.nodeName}:${tier}`;
		throw invalid(
			"not_for_gpus",
			`${device} is the memory of a GPU; this needs a disk or dram.`,
			{ device },
			`From there \`gswarm model copy NAME --to ${device}\` loads it.`,
		);
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
	const sentBefore: NodeRequests["sentBefore"] = async (asked) => {
		const token = operationOf(asked);
		if (token === undefined) return undefined;
		d.hosted.accept(token);
		const known = d.queue.dispatched(token.operation);
		// What failed is done again, when the host sends it again under a later token.
		if (known === undefined || known.task.status === "failed") return undefined;
		await d.queue.fence(toDispatch(token));
		const { task_id } = known.task;
		return { task_id, status: "queued", position: 0, estimated_time: 0, node: d.nodeName };
	};
	const submit: NodeRequests["submit"] = async (type, model, request, priority, more, asked) => {
		const key = asked.request.headers.get("idempotency-key");
		const token = operationOf(asked);
		if (token !== undefined) d.hosted.accept(token);
		return submitted(
			await d.queue.submit({
				type,
				model,
				request: request as Record<string, unknown>,
				priority,
				...more,
				...(key === null ? {} : { idempotencyKey: idempotencyKey(key) }),
				...(token === undefined ? {} : { dispatch: toDispatch(token) }),
			}),
		);
	};
	const fits: NodeRequests["fits"] = async (tier, bytes) => {
		if (isGpu(tier)) d.devices.fits(tier, bytes, { model: "" });
		else await d.room.fits(tier, bytes);
	};
	const resources: NodeRequests["resources"] = (models, tiers) => ({
		devices: tiers.map((tier) => `${d.nodeName}:${tier}`),
		models,
		exclusive: false,
	});
	const tiersComing: NodeRequests["tiersComing"] = (model, dependencies = []) =>
		bringsTo(model, dependencies, (taskId) => {
			try {
				return d.queue.get(taskId);
			} catch (error) {
				if (asGswarmError(error).code === "NOT_FOUND") return undefined;
				throw error;
			}
		}).map(deviceHere);
	return { tierHere, deviceHere, sentBefore, submit, tiersComing, fits, resources };
}

/** Only a host dispatches; from anybody else the header is refused rather than overlooked. */
function operationOf({ request, caller }: Asked): OperationToken | undefined {
	const text = request.headers.get(OPERATION_HEADER);
	if (text === null) return undefined;
	if (caller?.role === "host") return parseToken(text);
	throw new GswarmError("FORBIDDEN", `The header ${OPERATION_HEADER} is for the host of this node.`, {
		reason: "not_your_operation",
	});
}
