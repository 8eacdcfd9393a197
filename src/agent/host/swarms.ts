/**
 * Operations that bring several models to several devices: each model's receivers are one swarm, dispatched to their
 * nodes as a task each and followed one by one. What fails on one device undoes nothing on another.
 */
import type { Contract } from "../../api/contract.ts";
import type { AnswerOf, BodyOf } from "../../api/route.ts";
import { type Cluster, isReachable } from "../../core/cluster/cluster.ts";
import type { TaskContext } from "../../core/queue/queue.ts";
import type { Registry } from "../../core/registry/registry.ts";
import type { Log } from "../../platform/log.ts";
import { isOpenHttp } from "../../platform/plain-http.ts";
import type { Compression } from "../../schema/compression.ts";
import { type ErrorCode, GswarmError, asGswarmError, modelNotFound } from "../../schema/errors.ts";
import type { Manifest } from "../../schema/manifest.ts";
import { type Priority, type TaskDocument, isTerminal } from "../../schema/task.ts";
import type { TransferItem } from "../../schema/transfer-item.ts";
import type { Dispatcher, OperationRun } from "./dispatch.ts";
import type { Nodes } from "./nodes.ts";

/** One model, as it was when the operation was submitted. */
export interface SwarmModel {
	model_name: string;
	source_url: string | null;
	model_type: string | null;
	/** Null for a download. */
	sealed: {
		revision: string;
		content_id: string;
		size_bytes: number;
		format: string;
		source_device: string;
	} | null;
	/** `from`: another device of the same node that has it. */
	targets: { node: string; device: string; from?: string }[];
}

export interface SwarmOperation {
	/** Of the first of the models. */
	model_name: string;
	models: SwarmModel[];
	priority: Priority;
	verify_checksum: boolean | null;
	bandwidth_limit: number | null;
	/** Not in an operation that an earlier version submitted. */
	compression?: Compression;
	include: string[];
	exclude: string[];
	all_files: boolean;
}

export type SwarmQuestion = BodyOf<Contract["findSwarm"]>;
export type SwarmAnswer = AnswerOf<Contract["findSwarm"]>;

export interface Swarms {
	run(context: TaskContext, dispatcher: Dispatcher): Promise<Record<string, unknown>>;
	/** How the devices of an operation stand, as far as this host knows. */
	items(operation: TaskDocument): TransferItem[];
	/**
	 * Who takes part, and access to them, for a receiver.
	 * @throws 403 not_your_node, 404 MODEL_NOT_FOUND
	 */
	find(operation: TaskDocument, question: SwarmQuestion, receiver: string): Promise<SwarmAnswer>;
}

/** Nodes that a receiver asks, those that have everything included. */
const MAX_PEERS = 8;
const MAX_HOLDERS = 3;
/** Models at a time: the receivers of one of them can use all the lines already. */
const MODELS_AT_ONCE = 2;

export interface SwarmsDependencies {
	cluster: Cluster;
	registry: Registry;
	nodes: Nodes;
	trustedNetwork: boolean;
	log: Log;
}

export function createSwarms(d: SwarmsDependencies): Swarms {
	const live = new Map<string, TransferItem[]>();
	/** Grants that were given, by operation, and there by node, receiver and bytes. */
	const grants = new Map<string, Map<string, string>>();

	const grantAt = async (
		node: string,
		{ operation_id, model_name, key, refused }: SwarmQuestion,
		receiver: string,
	): Promise<SwarmAnswer["peers"][number] | undefined> => {
		const view = d.cluster.views().find((one) => one.name === node);
		if (view === undefined || !isReachable(view.liveness) || view.beat === undefined) return undefined;
		const { peerUrl } = view;
		if (isOpenHttp(peerUrl) && !d.trustedNetwork) return undefined;
		const known = grants.get(operation_id) ?? new Map<string, string>();
		grants.set(operation_id, known);
		const name = `${node} ${receiver} ${key}`;
		const before = refused.includes(node) ? undefined : known.get(name);
		const place = { node, base_url: peerUrl, server_name: d.nodes.trust(node).serverName };
		if (before !== undefined) return { ...place, grant: before };
		try {
			const body = { operation_id, model_name, key, receiver };
			const { grant } = await d.nodes.client(node).call("grantSwarm", { body });
			known.set(name, grant);
			return { ...place, grant };
		} catch (error) {
			// It is asked again with the receiver's next question.
			d.log.debug("swarm.not_granted", { node, receiver, error });
			return undefined;
		}
	};
	const end = async (operationId: string, request: SwarmOperation): Promise<void> => {
		grants.delete(operationId);
		const involved = new Set(request.models.flatMap((model) => model.targets.map(({ node }) => node)));
		for (const { model_name } of request.models)
			for (const { node } of d.registry.locations(model_name)) involved.add(node);
		await Promise.all(
			[...involved].map(async (node) => {
				try {
					await d.nodes.client(node).call("endSwarm", { params: { task_id: operationId } });
				} catch (error) {
					// The grants lapse by themselves.
					d.log.debug("swarm.not_ended", { node, error });
				}
			}),
		);
	};

	return {
		async run(context, dispatcher) {
			const request = context.request as unknown as SwarmOperation;
			const items = itemsOf(request);
			live.set(context.taskId, items);
			try {
				await bringAll(d, context, dispatcher.run(context), request, items);
			} finally {
				live.delete(context.taskId);
				// A shutdown of the host leaves the receivers at their work.
				if (!context.signal.aborted || context.signal.reason === "cancelled")
					await end(context.taskId, request);
			}
			const failed = items.filter((item) => item.status !== "completed");
			if (failed.length > 0) {
				context.signal.throwIfAborted();
				throw itemsFailed(items, failed);
			}
			return { items: items.map(toResult) };
		},
		items(operation) {
			const now = live.get(operation.task_id);
			if (now !== undefined) return now;
			const request = operation.request as unknown as SwarmOperation;
			const told = operation.result?.["items"] ?? operation.error?.details["items"];
			return withResults(itemsOf(request), told, operation);
		},
		async find(operation, question, receiver) {
			const { key, model_name } = question;
			const request = operation.request as unknown as SwarmOperation;
			const model = isSwarmOperation(request)
				? request.models.find((one) => one.model_name === model_name)
				: undefined;
			const members = [
				...new Set(model?.targets.filter(({ from }) => from === undefined).map(({ node }) => node)),
			];
			const self = members.indexOf(receiver);
			const { sealed = null } = model ?? {};
			if (self < 0 || isTerminal(operation.status) || (sealed !== null && sealed.content_id !== key)) {
				throw new GswarmError("FORBIDDEN", "This operation does not bring that to your node.", {
					reason: "not_your_node",
				});
			}
			const ready = d.registry
				.locations(model_name)
				.filter((l) => l.status === "ready" && l.claimed === 0 && l.content_id === key);
			const manifest = question.want_manifest ? await readManifest(d, model_name, key, ready) : null;
			const holders = [...new Set(ready.map((l) => l.node))].filter((node) => !members.includes(node));
			const chosen = [...rotated(holders, self).slice(0, MAX_HOLDERS), ...neighbours(members, self)].slice(
				0,
				MAX_PEERS,
			);
			const peers = await Promise.all(chosen.map((node) => grantAt(node, question, receiver)));
			return { manifest, members, self, peers: peers.filter((peer) => peer !== undefined) };
		},
	};
}

/** Whether an operation of the host is one of several receivers. */
export function isSwarmOperation(request: object): boolean {
	return "models" in request && Array.isArray(request.models);
}

/** The other members, those whose distance is a power of two first: so news is everywhere in a few steps. */
export function neighbours(members: readonly string[], self: number): string[] {
	const found = new Set<string>();
	const add = (distance: number): void => {
		const node = members[(((self + distance) % members.length) + members.length) % members.length];
		if (node !== undefined && node !== members[self]) found.add(node);
	};
	for (let distance = 1; distance < members.length; distance *= 2) {
		add(distance);
		add(-distance);
	}
	for (let distance = 1; distance < members.length; distance++) add(distance);
	return [...found];
}

function rotated<T>(list: readonly T[], by: number): T[] {
	const at = list.length === 0 ? 0 : by % list.length;
	return [...list.slice(at), ...list.slice(0, at)];
}

async function readManifest(
	{ nodes }: SwarmsDependencies,
	model: string,
	contentId: string,
	ready: readonly { node: string; tier: string }[],
): Promise<Manifest> {
	let failure: GswarmError = modelNotFound(model);
	for (const { node, tier } of ready) {
		try {
			const input = { params: { model_name: model }, query: { device: `${node}:${tier}` } };
			const { copy, manifest } = await nodes.client(node).call("resolveModel", input);
			if (copy.content_id === contentId) return manifest;
		} catch (error) {
			failure = asGswarmError(error);
		}
	}
	throw failure;
}

async function bringAll(
	d: SwarmsDependencies,
	context: TaskContext,
	run: OperationRun,
	request: SwarmOperation,
	items: readonly TransferItem[],
): Promise<void> {
	const waiting = [...request.models];
	const lane = async (): Promise<void> => {
		for (let model = waiting.shift(); model !== undefined; model = waiting.shift()) {
			if (context.signal.aborted) return;
			await bringModel(d, context, run, request, model, items);
		}
	};
	await Promise.all(Array.from({ length: MODELS_AT_ONCE }, lane));
}

/** One receiver on each node together; a device of a node that has it already, or receives it, takes it from there. */
async function bringModel(
	{ nodes }: SwarmsDependencies,
	context: TaskContext,
	run: OperationRun,
	request: SwarmOperation,
	model: SwarmModel,
	items: readonly TransferItem[],
): Promise<void> {
	const firsts = new Map<string, { device: string; done: Promise<void> }>();
	const { model_name, sealed, source_url, model_type } = model;
	const bring = async (
		item: TransferItem,
		send: (headers: Record<string, string>) => Promise<{ task_id: string }>,
	): Promise<void> => {
		try {
			const task = await run.part({
				key: String(items.indexOf(item)),
				node: item.node,
				send,
				report(progress) {
					take(item, progress);
					context.report(totalOf(items));
				},
			});
			Object.assign(item, { status: "completed", phase: "done", result: task.result, waiting_for: null });
			item.progress.bytes_done = item.progress.bytes_total;
		} catch (error) {
			const { code, message, details, hint, reason } = asGswarmError(error);
			Object.assign(item, {
				status: context.signal.aborted ? "cancelled" : "failed",
				waiting_for: null,
				error: { code, message, details: { ...details, reason }, ...(hint === undefined ? {} : { hint }) },
			});
		}
		context.report(totalOf(items));
	};
	const all = model.targets.map(async ({ node, device, from }) => {
		const item = items.find((one) => one.model_name === model_name && one.target_device === device);
		if (item === undefined) return;
		const first = from === undefined ? firsts.get(node) : { device: from, done: Promise.resolve() };
		const { priority, bandwidth_limit, compression = "none" } = request;
		const pace = { priority, bandwidth_limit, compression };
		if (first !== undefined) {
			await first.done;
			await bring(item, (headers) =>
				nodes.client(node).call("copyModel", {
					params: { model_name },
					headers,
					body: {
						source_device: first.device,
						target_device: device,
						priority,
						// Of one node: no line lies between.
						compression: "none",
						...(bandwidth_limit === null ? {} : { bandwidth_limit }),
					},
					signal: context.signal,
				}),
			);
			return;
		}
		const { include, exclude, all_files, verify_checksum } = request;
		const choice = { include, exclude, all_files, verify_checksum };
		const done = bring(item, (headers) =>
			nodes.client(node).call("joinSwarm", {
				headers,
				body: {
					model_name,
					operation_id: context.taskId,
					target_device: device,
					sealed,
					source_url,
					model_type,
					...pace,
					...choice,
				},
				signal: context.signal,
			}),
		);
		firsts.set(node, { device, done });
		await done;
	});
	await Promise.all(all);
}

function itemsOf({ models }: SwarmOperation): TransferItem[] {
	return models.flatMap(({ model_name, targets, sealed }) =>
		targets.map(({ node, device }) => ({
			model_name,
			target_device: device,
			node,
			status: "pending" as const,
			phase: "queued" as const,
			progress: { bytes_done: 0, bytes_total: sealed?.size_bytes ?? 0, rate_bytes_per_s: 0, eta_s: null },
			waiting_for: null,
			result: null,
			error: null,
		})),
	);
}

function take(item: TransferItem, progress: Parameters<TaskContext["report"]>[0]): void {
	item.status = "running";
	if (progress.phase !== undefined) item.phase = progress.phase;
	if (progress.bytesTotal !== undefined && progress.bytesTotal > 0)
		item.progress.bytes_total = progress.bytesTotal;
	if (progress.bytesDone !== undefined) item.progress.bytes_done = progress.bytesDone;
	item.waiting_for = progress.waitingFor ?? null;
}

/** The operation goes as its items do: bytes of all, the phase of the least advanced, what it waits for if all wait. */
export function totalOf(items: readonly TransferItem[]): Parameters<TaskContext["report"]>[0] {
	const sum = (of: (item: TransferItem) => number): number => items.reduce((all, item) => all + of(item), 0);
	const running = items.filter((item) => item.status === "running");
	const waits = running.map((item) => item.waiting_for);
	// A total that grows would let what was done shrink: until all sizes are known there is none.
	const isKnown = items.every((item) => item.progress.bytes_total > 0 || isTerminal(item.status));
	const [first] = running;
	return {
		...(first === undefined ? {} : { phase: first.phase }),
		bytesDone: sum((item) => item.progress.bytes_done),
		bytesTotal: isKnown ? sum((item) => item.progress.bytes_total) : 0,
		waitingFor: waits.length > 0 && waits.every((wait) => wait !== null) ? (waits[0] ?? null) : null,
	};
}

interface ItemResult {
	model_name: string;
	target_device: string;
	status: TransferItem["status"];
	result: TransferItem["result"];
	error: TransferItem["error"];
	progress: TransferItem["progress"];
}

function toResult({ model_name, target_device, status, result, error, progress }: TransferItem): ItemResult {
	return { model_name, target_device, status, result, error, progress };
}

/** What an operation that ended, or that an earlier life of the host began, says of its items. */
function withResults(items: TransferItem[], told: unknown, { status, phase }: TaskDocument): TransferItem[] {
	const known = Array.isArray(told) ? (told as ItemResult[]) : [];
	return items.map((item) => {
		const end = known.find(
			(one) => one.model_name === item.model_name && one.target_device === item.target_device,
		);
		if (end === undefined) return isTerminal(status) ? { ...item, status, phase } : item;
		return { ...item, ...end, phase: "done" as const };
	});
}

function itemsFailed(items: readonly TransferItem[], failed: readonly TransferItem[]): GswarmError {
	const [first] = failed;
	const why = `${first?.target_device}: ${first?.error?.message ?? first?.status}`;
	const count = items.length === 1 ? "" : `${failed.length} of ${items.length} failed, the first `;
	return new GswarmError((first?.error?.code ?? "TASK_FAILED") as ErrorCode, `${count}${why}`, {
		reason: "items_failed",
		details: { items: items.map(toResult) },
		hint: first?.error?.hint ?? "What came through stays; the same command brings only the rest.",
	});
}
