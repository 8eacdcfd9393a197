/** What the host's queue does: work that needs more than one node, dispatched to nodes as tasks and followed. */
import type { Contract } from "../../api/contract.ts";
import type { AnswerOf } from "../../api/route.ts";
import { type Cluster, isReachable } from "../../core/cluster/cluster.ts";
import type { Queue, TaskContext, TaskHandler } from "../../core/queue/queue.ts";
import type { CopyKey, Registry } from "../../core/registry/registry.ts";
import type { Clock } from "../../platform/clock.ts";
import { isOpenHttp } from "../../platform/plain-http.ts";
import type { Compression } from "../../schema/compression.ts";
import { GswarmError, asGswarmError, modelNotFound } from "../../schema/errors.ts";
import type { Manifest } from "../../schema/manifest.ts";
import type { ModelCopy } from "../../schema/model.ts";
import { type Priority, type TaskDocument, type TaskType, isTerminal } from "../../schema/task.ts";
import { type Dispatcher, isAway, type OperationRun } from "./dispatch.ts";
import { partsWithoutTls } from "../granted-parts.ts";
import { isForward, runForward } from "./forwarding.ts";
import { furtherSources, type Holder } from "./further-sources.ts";
import type { Nodes } from "./nodes.ts";
import type { Placed } from "./placement.ts";
import { isSwarmOperation, type Swarms } from "./swarms.ts";

export interface CrossCopyRequest {
	model_name: string;
	source_device: string;
	target_device: string;
	keep_source: boolean;
	verify_checksum: boolean;
	bandwidth_limit: number | null;
	/** Not in an operation that an earlier version submitted. */
	compression?: Compression;
	priority: Priority;
}

export interface UnregisterRequest {
	model_name: string;
	force: boolean;
	/** Of what was adopted the files too. */
	delete_files?: boolean;
	/** Set when only a claim of this device is to be dropped. */
	claim_device?: string;
}

export interface DeployRequest {
	model_name: string;
	devices: string[];
	body: Record<string, unknown>;
}

export interface OperationDependencies {
	swarms: Swarms;
	clock: Clock;
	cluster: Cluster;
	registry: Registry;
	nodes: Nodes;
	dispatcher: Dispatcher;
	/** Parts may be read over plain HTTP from other machines. */
	trustedNetwork: boolean;
}

export function createOperations(d: OperationDependencies): Partial<Record<TaskType, TaskHandler>> {
	const copy = async (context: TaskContext): Promise<Record<string, unknown> | undefined> => {
		if (isForward(context.request)) return runForward(d, context);
		if (isSwarmOperation(context.request)) return d.swarms.run(context, d.dispatcher);
		const request = context.request as unknown as CrossCopyRequest;
		const run = d.dispatcher.run(context);
		// Of a move that goes on after a restart the source may be gone already, and that is how it should be.
		const source =
			run.begun.length > 0
				? d.nodes.target(request.source_device)
				: d.nodes.holding(request.source_device, request.model_name);
		const target = d.nodes.target(request.target_device);
		let pulled: TaskDocument;
		try {
			pulled = await pull(context, run, request, source, target);
		} finally {
			const nodes = new Set(d.registry.locations(request.model_name).map(({ node }) => node));
			await Promise.all([...nodes.add(source.node)].map((node) => releaseSource(context, node)));
		}
		if (request.keep_source) return pulled.result ?? {};
		return {
			...pulled.result,
			...(await removeSource(context, run, request, source, pulled.result?.["revision"])),
		};
	};
	/** Ends the receiver's access, so that a source is no longer in use; one that is away lets it lapse. */
	const releaseSource = async (context: TaskContext, node: string): Promise<void> => {
		try {
			await d.nodes.client(node).call("releaseGrant", { params: { task_id: context.taskId } });
		} catch (error) {
			context.log.debug("operation.release_skipped", { node, error });
		}
	};
	const pull = (
		context: TaskContext,
		run: OperationRun,
		request: CrossCopyRequest,
		source: Placed,
		target: Placed,
	): Promise<TaskDocument> => {
		const send = async (headers: Record<string, string>): Promise<{ task_id: string }> => {
			const params = { model_name: request.model_name };
			const found = await resolved(d, request.model_name, source, context.signal);
			return d.nodes.client(target.node).call("pullModel", {
				params,
				headers,
				body: {
					operation_id: context.taskId,
					target_device: target.device,
					revision: found.revision,
					content_id: found.content_id,
					size_bytes: found.size_bytes,
					model_type: found.model_type,
					source_url: found.source_url,
					format: found.format,
					source: { node: source.node, device: source.device },
					priority: request.priority,
					verify_checksum: request.verify_checksum,
					bandwidth_limit: request.bandwidth_limit,
					compression: request.compression ?? "none",
				},
				signal: context.signal,
			});
		};
		return run.part({ key: "pull", node: target.node, send });
	};
	const removeSource = async (
		context: TaskContext,
		run: OperationRun,
		request: CrossCopyRequest,
		source: Placed,
		revision: unknown,
	): Promise<{ source_kept?: string }> => {
		const held = d.registry
			.locations(request.model_name)
			.find((l) => l.node === source.node && l.tier === source.tier && l.revision === revision);
		// Where somebody else's program put it, it is not ours to take away.
		if (held?.place === "adopted") return { source_kept: "adopted" };
		try {
			await run.part({
				key: "remove",
				node: source.node,
				send: (headers) =>
					d.nodes.client(source.node).call("deleteModel", {
						params: { model_name: request.model_name },
						query: {
							device: source.device,
							...(held !== undefined && hasOthers(d.registry, held) ? { revision: held.revision } : {}),
						},
						headers,
						signal: context.signal,
					}),
			});
			return {};
		} catch (error) {
			// The copy is there: what was cancelled is only that the source goes.
			if (context.signal.reason === "cancelled") return { source_kept: "cancelled" };
			const { reason } = asGswarmError(error);
			if (reason === "in_use" || reason === "last_durable_copy") return { source_kept: reason };
			throw error;
		}
	};

	const unregister = async (context: TaskContext): Promise<Record<string, unknown>> => {
		const {
			model_name: model,
			force,
			delete_files,
			claim_device: claim,
		} = context.request as unknown as UnregisterRequest;
		if (claim !== undefined) {
			const { node, tier } = d.nodes.target(claim);
			await d.registry.dropClaim(model, node, tier);
			return { freed_bytes: 0, device: claim };
		}
		const run = d.dispatcher.run(context);
		const away: CopyKey[] = [];
		const counted = new Set<string>();
		let freed = 0;
		const reachable = await heardNodes(d, context, model);
		for (const location of d.registry.locations(model)) {
			if (location.claimed === 1) continue;
			const { node, tier, revision } = location;
			if (!reachable.has(node)) {
				away.push({ model_name: model, node, tier, revision });
				continue;
			}
			const device = `${node}:${tier}`;
			const send = (headers: Record<string, string>): Promise<{ task_id: string }> =>
				d.nodes.client(node).call("deleteModel", {
					params: { model_name: model },
					query: {
						device,
						force: force ? "true" : "false",
						...(hasOthers(d.registry, location) ? { revision } : {}),
						...(delete_files === true ? { delete_files: "true" } : {}),
					},
					headers,
					signal: context.signal,
				});
			const key = `delete ${device} ${revision}`;
			const done = await run.part({ key, node, send }).catch(ifNotThere);
			freed += Number(done?.result?.["freed_bytes"] ?? 0);
			counted.add(key);
		}
		// What an earlier try has deleted is no location any more, and its bytes are freed all the same.
		for (const { key, node } of run.begun.filter(
			(part) => !counted.has(part.key) && reachable.has(part.node),
		)) {
			const send = (): Promise<never> => Promise.reject(modelNotFound(model, node));
			const done = await run.part({ key, node, send }).catch(ifNotThere);
			freed += Number(done?.result?.["freed_bytes"] ?? 0);
		}
		await d.registry.forget(model, away);
		return { freed_bytes: freed, pending_nodes: [...new Set(away.map((c) => c.node))] };
	};

	/** Ends what a cancelled operation had started; each node finishes that by itself, once it has heard of it. */
	const stopStarted = async (
		{ log }: TaskContext,
		services: readonly ({ node: string } & Record<string, unknown>)[],
	): Promise<void> => {
		const started = services.filter((one) => one["was_running"] !== true);
		await Promise.all(
			started.map(async ({ node, service_id }) => {
				const params = { service_id: String(service_id) };
				try {
					await d.nodes
						.client(node)
						.call("stopService", { params, signal: AbortSignal.timeout(STOP_WITHIN_MS) });
				} catch (error) {
					if (asGswarmError(error).code !== "NOT_FOUND")
						log.error("operation.service_stays", { node, service_id, error });
				}
			}),
		);
	};

	const deploy = async (context: TaskContext): Promise<Record<string, unknown>> => {
		const { model_name: model, devices, body } = context.request as unknown as DeployRequest;
		const run = d.dispatcher.run(context);
		const services: ({ node: string } & Record<string, unknown>)[] = [];
		const start = async (device: string): Promise<void> => {
			const { node } = d.nodes.target(device);
			const send = (headers: Record<string, string>): Promise<{ task_id: string }> =>
				d.nodes.client(node).call("startService", {
					body: { ...body, model_name: model, device },
					headers,
					signal: context.signal,
				});
			const done = await run.part({ key: `serve ${device}`, node, send });
			services.push({ node, ...done.result });
		};
		try {
			for (const device of devices) await start(device);
		} catch (error) {
			// The whole of it or nothing. What was there before is not ended, nor what has taken its place since.
			if (context.signal.reason === "cancelled" && body["replace"] !== true)
				await stopStarted(context, services);
			throw error;
		}
		return { services };
	};

	const forward = (context: TaskContext) => runForward(d, context);
	const download = (context: TaskContext) =>
		isForward(context.request) ? forward(context) : d.swarms.run(context, d.dispatcher);

	return {
		copy,
		move: copy,
		download,
		verify: forward,
		upload: forward,
		delete: unregister,
		serve: deploy,
	};
}

/** Whether the device has other revisions of the model, so that the one that is meant has to be named. */
function hasOthers(registry: Registry, { model_name, node, tier, revision }: CopyKey): boolean {
	return registry
		.locations(model_name)
		.some((l) => l.node === node && l.tier === tier && l.revision !== revision && l.claimed === 0);
}

function ifNotThere(error: unknown): undefined {
	if (asGswarmError(error).code !== "MODEL_NOT_FOUND") throw error;
}

/** Whether the model is to go from everywhere, so that its last copies may: as durable as the operation itself. */
export function isUnregistering(queue: Queue, model: string): boolean {
	return queue
		.list({ type: "delete", model, limit: 1000 })
		.some(({ request }) => (request as unknown as UnregisterRequest).claim_device === undefined);
}

/**
 * Gives the receiver of an operation access to its source's parts: the manifest, and a grant pushed to the source.
 * @throws 404 task_not_found, 403 not_your_node, 404 MODEL_NOT_FOUND
 */
export async function grantForOperation(
	d: OperationDependencies,
	operation: TaskDocument,
	receiver: string,
): Promise<AnswerOf<Contract["requestGrant"]>> {
	const request = operation.request as unknown as CrossCopyRequest;
	const isCopy =
		(operation.task_type === "copy" || operation.task_type === "move") && !isSwarmOperation(request);
	if (!isCopy || d.nodes.target(request.target_device).node !== receiver || isTerminal(operation.status)) {
		throw new GswarmError("FORBIDDEN", "This operation does not bring anything to your node.", {
			reason: "not_your_node",
		});
	}
	const model = request.model_name;
	const source = d.nodes.target(request.source_device);
	const known = d.registry.locations(model).find((l) => l.node === source.node && l.tier === source.tier);
	const holders = (contentId: string): Holder[] =>
		d.registry
			.locations(model)
			.filter((l) => l.status === "ready" && l.claimed === 0 && l.content_id === contentId)
			.filter((l) => d.nodes.reachable().some(({ name }) => name === l.node))
			.map(({ node, tier }) => ({ node, tier, busy: d.cluster.view(node).beat?.activities.length ?? 0 }));
	const place = { operationId: operation.task_id, model, receiver };
	const grantAll = async (contentId: string, some: readonly Holder[]): Promise<GrantedSource[]> => {
		const all = some.map(({ node, tier }) =>
			grantAt(d, { ...place, node, device: `${node}:${tier}` }, contentId).catch(() => undefined),
		);
		return (await Promise.all(all)).filter((one) => one !== undefined);
	};
	let first: GrantedSource;
	try {
		first = await grantAt(d, { ...place, node: source.node, device: source.device });
	} catch (error) {
		// The source is away; whoever has the same is as good.
		const contentId = known?.content_id ?? "";
		const choice = { source: source.node, receiver, sizeBytes: 0, isNeeded: true };
		const [stand, ...rest] = await grantAll(contentId, furtherSources(holders(contentId), choice));
		if (stand === undefined) throw error;
		return { ...answerOf(stand), manifest: stand.manifest, others: rest.map(answerOf) };
	}
	const further = furtherSources(holders(first.contentId), {
		source: source.node,
		receiver,
		sizeBytes: first.manifest.total_bytes,
	});
	const others = await grantAll(first.contentId, further);
	return { ...answerOf(first), manifest: first.manifest, others: others.map(answerOf) };
}

/** What the named copy is; where its node is away, what another node knows of the same. @throws as its node says */
async function resolved(
	d: OperationDependencies,
	model: string,
	source: Placed,
	signal: AbortSignal,
): Promise<ModelCopy> {
	const ask = async (node: string, device: string): Promise<ModelCopy> => {
		const input = { params: { model_name: model }, query: { device }, signal };
		return (await d.nodes.client(node).call("resolveModel", input)).copy;
	};
	try {
		return await ask(source.node, source.device);
	} catch (error) {
		signal.throwIfAborted();
		if (!isAway(asGswarmError(error))) throw error;
		const all = d.registry.locations(model).filter((l) => l.claimed === 0);
		const known = all.find((l) => l.node === source.node && l.tier === source.tier)?.content_id ?? null;
		for (const { node, tier, content_id, status } of all) {
			if (known === null || content_id !== known || status !== "ready" || node === source.node) continue;
			const copy = await ask(node, `${node}:${tier}`).catch(() => undefined);
			if (copy?.content_id === known) return copy;
		}
		throw error;
	}
}

interface GrantedSource {
	base_url: string;
	node: string;
	server_name: string;
	device: string;
	grant: string;
	tag_key: string | undefined;
	contentId: string;
	manifest: Manifest;
}

/** One copy, and a grant that its node was given. @throws 503 parts_without_tls, node_unreachable; 404 MODEL_NOT_FOUND */
async function grantAt(
	d: OperationDependencies,
	{
		operationId,
		model,
		receiver,
		node,
		device,
	}: Record<"operationId" | "model" | "receiver" | "node" | "device", string>,
	contentId?: string,
): Promise<GrantedSource> {
	const client = d.nodes.client(node);
	const { peerUrl } = d.cluster.view(node);
	if (isOpenHttp(peerUrl) && !d.trustedNetwork) throw partsWithoutTls(node);
	const params = { model_name: model };
	const { copy, manifest } = await client.call("resolveModel", { params, query: { device } });
	const isSame = contentId === undefined || copy.content_id === contentId;
	if (copy.status !== "ready" || !isSame) throw modelNotFound(model, device);
	const { grant, tag_key } = await client.call("grantParts", {
		body: { operation_id: operationId, model_name: model, device, content_id: copy.content_id, receiver },
	});
	const { serverName: server_name } = d.nodes.trust(node);
	return {
		base_url: peerUrl,
		node,
		server_name,
		device,
		grant,
		tag_key,
		contentId: copy.content_id,
		manifest,
	};
}

function answerOf({ base_url, node, server_name, device, grant, tag_key }: GrantedSource) {
	return { base_url, node, server_name, device, grant, ...(tag_key === undefined ? {} : { tag_key }) };
}

const HEAR_POLL_MS = 100;
const STOP_WITHIN_MS = 5_000;

/**
 * The nodes that can be asked. After a start of the host those that hold the model are waited for until they have
 * reported or count as unreachable, so that the answer knows what was freed.
 */
async function heardNodes(
	d: OperationDependencies,
	context: TaskContext,
	model: string,
): Promise<Set<string>> {
	for (;;) {
		const holders = new Set(d.registry.locations(model).map((l) => l.node));
		const unheard = d.cluster
			.views()
			.filter((v) => holders.has(v.name) && v.beat === undefined && isReachable(v.liveness));
		if (unheard.length === 0) return new Set(d.nodes.reachable().map((v) => v.name));
		context.signal.throwIfAborted();
		context.report({ waitingFor: `${unheard.map((v) => v.name).join(", ")} to report` });
		await d.clock.sleep(HEAR_POLL_MS, context.signal);
	}
}
