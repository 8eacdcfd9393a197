/** What a node's queue does for each type of task: effects of the rooms, in order. */
import { formatDevice, parseDevice } from "../../schema/device.ts";
import { GswarmError, asGswarmError, invalid, modelNotFound } from "../../schema/errors.ts";
import type { ModelCopy } from "../../schema/model.ts";
import {
	type ModelName,
	type Revision,
	parseModelName,
	parseRevision,
	parseServiceId,
} from "../../schema/names.ts";
import type { TaskContext, TaskHandler } from "../../core/queue/queue.ts";
import type { Services } from "../../core/service/service.ts";
import type { Clock } from "../../platform/clock.ts";
import { type PeerSource, peerSource, openSource, removeFound } from "../../core/source/source.ts";
import type { Adoption, Storage } from "../../core/storage/storage.ts";
import {
	type Bandwidth,
	type TransferInput,
	type TransferProgress,
	type Transfers,
	severalSources,
	storageSource,
} from "../../core/transfer/transfer.ts";
import type { Offers, Source, SourceContext } from "../../core/source/source.ts";
import { isServing, type ServiceDocument } from "../../schema/service.ts";
import type { TaskType } from "../../schema/task.ts";
import type { ServiceConfig } from "../../core/service/service.ts";
import type { CopyRequest } from "./copy-request.ts";
import type { DeviceWork } from "./device-work.ts";
import { type Holdings, isGpu } from "./holdings.ts";
import type { EvictRequest } from "./capacity-routes.ts";
import type { Eviction } from "./eviction.ts";
import type { GpuEviction } from "./gpu-eviction.ts";
import type { HostedWork } from "./hosted-work.ts";
import type { GrantedParts, GrantedPlace } from "../granted-parts.ts";
import type { IoPool } from "../../platform/io-pool.ts";
import type { Ids } from "../../platform/ids.ts";
import type { Line, Rates } from "./rates.ts";
import type { Removal } from "./removal.ts";
import type { Room } from "./room.ts";
import { adoptTask } from "./adopt-task.ts";
import { type UploadRequest, uploadTask } from "./upload-task.ts";
import { isSwarmRequest, receiveInSwarm, type SwarmTaskDependencies } from "./swarm-task.ts";
import { type RepairPlace, createVerification } from "./verification.ts";

export interface DownloadRequest {
	model_name: string;
	source_url: string;
	target_device: string;
	/** null: guess. */
	model_type: string | null;
	verify_checksum: boolean | null;
	include: string[];
	exclude: string[];
	all_files: boolean;
	bandwidth_limit: number | null;
	/** The bundle is on the machine of who asked, and is sent from there. */
	offer?: { description_bytes: number; size_bytes: number };
	/** What a bundle said of itself when it was asked for. */
	bundle?: {
		revision: string;
		format: string;
		source_url: string | null;
		content_id: string;
	};
}

export interface DeleteRequest {
	model_name: string;
	device: string;
	revision: string;
	force: boolean;
	/** Of what was adopted the files too. */
	delete_files?: boolean;
}

export interface ServeRequest {
	model_name: string;
	device: string;
	service_id: string;
	port: number | null;
	config: ServiceConfig;
	/** Left out by earlier versions: the newest. */
	revision?: string;
	/** Answers to MODEL@REVISION alone. Left out: to the model's name too. */
	has_name?: boolean;
	/** Gets the name of this one (null: nobody has it) as soon as it answers, and takes its place. */
	replaces?: string | null;
}

export interface NodeTaskDependencies extends SwarmTaskDependencies {
	nodeName: string;
	storage: Storage;
	ids: Ids;
	io: IoPool;
	transfers: Transfers;
	services: Services;
	sources: SourceContext;
	/** Asks the host for access to the source of an operation, and for what to expect there. */
	requestGrant(operationId: string): Promise<GrantedParts>;
	/** Asks the host for another copy of a damaged one. */
	findRepair(copy: ModelCopy, taskId: string): Promise<RepairPlace | undefined>;
	endRepair(place: RepairPlace, taskId: string): Promise<void>;
	/** `transfer.verify: sha256` of the configuration: sha256 is compared whatever the line. */
	verifySha256: boolean;
	/** Bundles that somebody sends. */
	offers: Offers;
	/** Of what this node sends. */
	up: Bandwidth;
	removal: Pick<Removal, "remove">;
	room: Pick<Room, "take">;
	holdings: Pick<Holdings, "copy">;
	devices: DeviceWork;
	eviction: Pick<Eviction, "evict" | "remember">;
	gpuEviction: Pick<GpuEviction, "evict">;
	rates: Rates;
	hosted: Pick<HostedWork, "confirm">;
	/** Tells the host now, so that what a finished task changed is visible when it is seen to be finished. */
	reportNow(): Promise<unknown>;
}

/** Well within the time to live of a grant. */
const TOUCH_EVERY_MS = 30_000;
const STREAMS_PER_SOURCE = 4;
const MOST_STREAMS = 8;
/** How long requests under way may take when a service is stopped. */
const DRAIN_MS = 30_000;

export function createNodeTasks(d: NodeTaskDependencies): Record<TaskType, TaskHandler> {
	/** What of a task came compressed. */
	const compressed = new WeakMap<TaskContext, NonNullable<TransferProgress["compressed"]>>();
	/** The devices that bytes of a task came from. */
	const sentBy = new WeakMap<TaskContext, string[]>();
	const copy = async (
		context: TaskContext,
		request = context.request as unknown as CopyRequest,
	): Promise<ModelCopy> => {
		const model = parseModelName(request.model_name);
		if (isSwarmRequest(request))
			return receiveInSwarm(d, context, tierOf(request.target_device), (input) => transfer(context, input));
		const common = {
			transferId: context.taskId,
			tier: tierOf(request.target_device),
			model,
			verifyChecksum: request.verify_checksum ?? undefined,
			bandwidthLimit: request.bandwidth_limit ?? undefined,
			receivingPhase: "copying" as const,
			purpose: request.purpose,
			// What is only expected takes what is free.
			mayEvict: request.purpose !== "preload",
		};
		if (request.pull === undefined) {
			const held = requireCopy(d.storage, model, tierOf(request.source_device), d.nodeName);
			using source = storageSource(d.storage, held, `task ${context.taskId}`);
			return await transfer(context, {
				...common,
				source,
				revision: held.revision as Revision,
				modelType: held.model_type,
				format: held.format,
				sourceUrl: held.source_url,
				trustPartDigests: !d.verifySha256,
				checkSource: (signal) => checkAtRest(d.storage, held, signal),
			});
		}
		const { pull } = request;
		const { manifest, others, ...named } = await d.requestGrant(pull.operation_id);
		const wantsSha256 = request.verify_checksum === true || d.verifySha256;
		const open = (device: string, { baseUrl, grant, tagKey, trust }: Omit<GrantedPlace, "device">) => ({
			device,
			source: peerSource(d.sources, {
				baseUrl,
				grant,
				tagKey: wantsSha256 ? undefined : tagKey,
				manifest,
				contentId: pull.content_id,
				model,
				revision: parseRevision(pull.revision),
				device,
				tls: trust,
				compression: request.compression,
				limitBytesPerSecond: request.bandwidth_limit ?? undefined,
			}),
		});
		const rooms = { clock: d.sources.clock, log: context.log };
		const source = severalSources(rooms, [
			open(request.source_device, named),
			...others.map((other) => open(other.device, other)),
		]);
		const encrypted = [named, ...others].every(({ baseUrl }) => baseUrl.startsWith("https:"));
		const input = {
			...common,
			source,
			revision: parseRevision(pull.revision),
			modelType: pull.model_type,
			format: pull.format,
			sourceUrl: pull.source_url,
			// XXH64 finds accidents and convicts no liar: without TLS between the two, tags have to, or sha256.
			trustPartDigests: encrypted && !wantsSha256,
			streams: Math.min(STREAMS_PER_SOURCE * (1 + others.length), MOST_STREAMS),
		};
		try {
			return await transfer(context, input, touchOnProgress(d.sources.clock, context, source));
		} finally {
			sentBy.set(context, source.givers());
		}
	};
	const transfer = async (
		context: TaskContext,
		input: Omit<TransferInput, "signal" | "onProgress">,
		onBytes?: (bytesDone: number) => void,
	): Promise<ModelCopy> => {
		const { clock } = d.sources;
		const { tier, model } = input;
		let first: { bytes: number; ms: number } | undefined;
		try {
			const got = await d.transfers.run({
				...input,
				signal: transferSignal(context.signal),
				room: (bytes) => d.room.take(context, input.tier, bytes),
				onProgress(p) {
					first ??= { bytes: p.bytesDone, ms: clock.monotonicMs() };
					context.report(progressOf(p));
					if (p.compressed !== undefined) compressed.set(context, p.compressed);
					onBytes?.(p.bytesDone);
				},
			});
			d.eviction.remember(tier, model, undefined);
			if (first !== undefined && input.bandwidthLimit === undefined)
				d.rates.observe(lineOf(context), got.size_bytes - first.bytes, clock.monotonicMs() - first.ms);
			return got;
		} catch (error) {
			if (isSourcesFault(error)) d.eviction.remember(tier, model, error);
			throw withNode(error, d.nodeName);
		}
	};
	const verify = createVerification({
		...d,
		run: async (context, input) => {
			try {
				return await d.transfers.run({
					...input,
					room: (bytes) => d.room.take(context, input.tier, bytes),
					signal: transferSignal(context.signal),
				});
			} catch (error) {
				throw withNode(error, d.nodeName);
			}
		},
	});
	const finished = async (copied: ModelCopy, context: TaskContext): Promise<Record<string, unknown>> => {
		await d.reportNow();
		const saved = compressed.get(context);
		const senders = sentBy.get(context) ?? [];
		return {
			device: `${d.nodeName}:${copied.tier}`,
			revision: copied.revision,
			size_bytes: copied.size_bytes,
			content_id: copied.content_id,
			...(senders.length > 1 ? { sources: senders } : {}),
			...(saved === undefined ? {} : { saved_bytes: saved.bytes - saved.wireBytes }),
		};
	};

	/** A copy or move that begins or ends on a GPU; undefined for every other. */
	const onDevice = async (context: TaskContext): Promise<Record<string, unknown> | undefined> => {
		const request = context.request as unknown as CopyRequest;
		if (isSwarmRequest(request) || !d.devices.isFor(request)) return undefined;
		const tiers = { from: tierOf(request.source_device), to: tierOf(request.target_device) };
		return d.devices.transfer(context, tiers, copy);
	};

	return {
		async download(context) {
			const request = context.request as unknown as DownloadRequest;
			if (isSwarmRequest(request)) {
				const tier = tierOf(request.target_device);
				return finished(await receiveInSwarm(d, context, tier, (input) => transfer(context, input)), context);
			}
			context.report({ phase: "resolving" });
			using offered = offeredSource(d, context.taskId, request);
			const source =
				offered ??
				openSource(request.source_url, {
					...d.sources,
					include: request.include,
					exclude: request.exclude,
					allFiles: request.all_files,
				});
			const got = await transfer(context, {
				transferId: context.taskId,
				source,
				tier: tierOf(request.target_device),
				model: parseModelName(request.model_name),
				modelType: request.model_type ?? undefined,
				verifyChecksum: request.verify_checksum ?? undefined,
				bandwidthLimit: request.bandwidth_limit ?? undefined,
				...bundled(request),
			});
			if (request.bundle !== undefined && got.content_id !== request.bundle.content_id) throw otherCopy(got);
			return finished(got, context);
		},
		copy: async (context) => (await onDevice(context)) ?? finished(await copy(context), context),
		async move(context) {
			const request = context.request as unknown as CopyRequest;
			const moved = await onDevice(context);
			if (moved !== undefined) return moved;
			const target = await copy(context);
			if (request.keep_source) return finished(target, context);
			const source = d.storage.copy(
				parseModelName(request.model_name),
				tierOf(request.source_device),
				target.revision as Revision,
			);
			const kept = source === undefined ? undefined : await removeSource(d, source);
			return { ...(await finished(target, context)), ...(kept === undefined ? {} : { source_kept: kept }) };
		},
		upload: (context) => {
			const { model_name: name, source_device: device } = context.request as unknown as UploadRequest;
			return uploadTask(d, context, {
				copy: requireCopy(d.storage, parseModelName(name), tierOf(device), d.nodeName),
				signal: transferSignal(context.signal),
				onProgress: (p) => context.report(progressOf(p)),
			});
		},
		adopt: async (context) =>
			finished(await adoptTask(d, context, tierOf(String(context.request["device"]))), context),
		verify(context) {
			const tier = tierOf(String(context.request["device"]));
			const repair = context.request["repair"] === true;
			return isGpu(tier) ? d.devices.verify(context, tier, { repair }) : verify(context, tier);
		},
		async delete(context) {
			const request = context.request as unknown as DeleteRequest;
			context.report({ phase: "deleting" });
			const model = parseModelName(request.model_name);
			const tier = tierOf(request.device);
			const copyToRemove = d.holdings.copy(model, tier, request.revision);
			// What an attempt before this one forgot, the files of it are still to go.
			const begun = context.state?.["adoption"] as Adoption | undefined;
			if (copyToRemove === undefined)
				return { ...(await removeAdopted(d.storage, begun)), device: request.device };
			// What a host dispatched it may have given up since.
			const operation =
				context.dispatch === undefined ? undefined : await d.hosted.confirm(context.dispatch.operationId);
			await stopServicesOf(d, copyToRemove, request.force);
			const options = { force: request.force, deleteFiles: request.delete_files, operation };
			const adoption = isGpu(tier) ? undefined : d.storage.adoption(copyToRemove);
			const withFiles = request.delete_files === true ? adoption : undefined;
			if (withFiles !== undefined) await context.saveState({ adoption: withFiles });
			const { freedBytes } = await d.removal.remove(copyToRemove, options);
			await d.reportNow();
			const device = `${d.nodeName}:${tier}`;
			if (withFiles !== undefined) return { ...(await removeAdopted(d.storage, withFiles)), device };
			const left = adoption === undefined ? {} : { adopted_files_kept: adoption.path };
			return { freed_bytes: freedBytes, device, ...left };
		},
		async evict(context) {
			const { device, bytes } = context.request as unknown as EvictRequest;
			context.report({ phase: "deleting" });
			const tier = tierOf(device);
			const evicted = isGpu(tier)
				? await d.gpuEviction.evict(tier, bytes ?? undefined)
				: await d.eviction.evict(tier, bytes ?? undefined, context.signal);
			await d.reportNow();
			const freed_bytes = evicted.reduce((sum, one) => sum + one.freed_bytes, 0);
			return { device, freed_bytes, evicted };
		},
		async serve(context) {
			const request = context.request as unknown as ServeRequest;
			context.report({ phase: "starting" });
			const model = parseModelName(request.model_name);
			const tier = tierOf(request.device);
			const served = isGpu(tier)
				? d.devices.servable(model, tier, request.revision)
				: requireCopy(d.storage, model, tier, d.nodeName, request.revision);
			using place = isGpu(tier) ? await d.devices.giveWay(served, tier) : undefined;
			void place;
			const start = {
				serviceId: parseServiceId(request.service_id),
				model,
				revision: served.revision as Revision,
				tier,
				modelPath: d.storage.pathOf(served),
				port: request.port ?? undefined,
				framework: "llama" as const,
				config: request.config,
				hasName: request.has_name,
				signal: context.signal,
				onPhase: (phase: "starting" | "ready") => context.report({ phase }),
			};
			const isOwn = (s: { service_id: string }): boolean => s.service_id === request.service_id;
			const options = { timeoutMs: DRAIN_MS };
			// What an earlier attempt of this task has started is its own.
			const wasThere = context.state === undefined && d.services.list().some((s) => isOwn(s) && isServing(s));
			if (!wasThere) await context.saveState({ starting: true });
			const service =
				request.replaces === undefined
					? await d.services.start(start)
					: await d.services.replace(start, request.replaces ?? undefined, options);
			await d.reportNow();
			return {
				service_id: service.service_id,
				...(wasThere ? { was_running: true } : {}),
				url: service.url,
				ready_s: service.ready_s,
				...(service.simulated === undefined ? {} : { simulated: service.simulated }),
			};
		},
		async stop(context) {
			context.report({ phase: "stopping" });
			await d.services
				.stop(String(context.request["service_id"]), { timeoutMs: DRAIN_MS })
				.catch((error: unknown) => {
					// A stop that a crash interrupted was finished when the agent started.
					if (asGswarmError(error).reason !== "service_not_found") throw error;
				});
			await d.reportNow();
			return { service_id: context.request["service_id"] };
		},
	};
}

/** The bundle that is sent for this task, if it is one. */
function offeredSource(
	{ offers }: Pick<NodeTaskDependencies, "offers">,
	taskId: string,
	{ offer, bundle, model_name }: DownloadRequest,
): (Source & Disposable) | undefined {
	if (offer === undefined || bundle === undefined) return undefined;
	return offers.open(taskId, {
		descriptionBytes: offer.description_bytes,
		sizeBytes: offer.size_bytes,
		contentId: bundle.content_id,
		model: parseModelName(model_name),
		revision: parseRevision(bundle.revision),
	});
}

/** What a bundle is, it says itself. */
function bundled({ bundle }: DownloadRequest): Partial<TransferInput> {
	if (bundle === undefined) return {};
	return {
		revision: parseRevision(bundle.revision),
		format: bundle.format,
		sourceUrl: bundle.source_url,
		contentId: bundle.content_id,
	};
}

function otherCopy({ model_name, revision, tier, content_id }: ModelCopy): GswarmError {
	return new GswarmError("CONFLICT", `${model_name}@${revision} is on ${tier} already with other content.`, {
		reason: "copy_exists",
		details: { content_id },
		hint: "Import it under another name, or delete the copy that is there.",
	});
}

/** The ready copy of a model on a tier; without a revision the newest. @throws 404 MODEL_NOT_FOUND naming the device */
export function requireCopy(
	storage: Storage,
	model: ModelName,
	tier: string,
	nodeName: string,
	revision?: string,
): ModelCopy {
	storage.tier(tier);
	const copy =
		revision === undefined
			? storage.copy(model, tier)
			: ofRevision(
					storage.copies().filter((c) => c.model_name === model && c.tier === tier),
					revision,
				);
	const what = revision === undefined ? model : `${model}@${revision}`;
	if (copy === undefined || copy.status !== "ready") throw modelNotFound(what, `${nodeName}:${tier}`);
	return copy;
}

/** The one of this revision, or the only one whose revision begins so. @throws 400 ambiguous_revision */
export function ofRevision(copies: readonly ModelCopy[], revision: string): ModelCopy | undefined {
	const exact = copies.find((c) => c.revision === revision);
	const [only, ...others] =
		exact === undefined ? copies.filter((c) => c.revision.startsWith(revision)) : [exact];
	if (others.length === 0) return only;
	const revisions = [only, ...others].map((c) => c?.revision);
	throw invalid("ambiguous_revision", `${JSON.stringify(revision)} begins several revisions.`, { revisions });
}

/**
 * What a task of a copy is submitted with: with dependencies the copy may not be there yet, and then it is looked for
 * when the task begins.
 */
export function copyNowOr(
	dependencies: readonly string[] | undefined,
	find: () => ModelCopy,
): ModelCopy | undefined {
	try {
		return find();
	} catch (error) {
		const mayCome = (dependencies ?? []).length > 0 && asGswarmError(error).code === "MODEL_NOT_FOUND";
		if (mayCome) return undefined;
		throw error;
	}
}

/** The tier of a device of this node, as the storage room names it. */
export function tierOf(device: string): string {
	return formatDevice({ ...parseDevice(device), node: undefined });
}

/** Removes a moved model's source; why it stayed, or undefined when it is gone. */
async function removeSource(d: NodeTaskDependencies, source: ModelCopy): Promise<string | undefined> {
	// Where somebody else's program put it, it is not ours to take away.
	if (source.place === "adopted") return "adopted";
	try {
		await d.removal.remove(source, { force: false });
		return undefined;
	} catch (error) {
		const { code, reason } = asGswarmError(error);
		const expected = reason === "in_use" || reason === "last_durable_copy" || reason === "host_unreachable";
		if (!expected) throw error;
		return reason ?? code;
	}
}

/** The files of what was adopted and is forgotten, but for those that other copies or other models there use. */
async function removeAdopted(
	storage: Storage,
	adoption: Adoption | undefined,
): Promise<Record<string, unknown>> {
	if (adoption === undefined) return { freed_bytes: 0 };
	const others = storage.adopted().flatMap((one) => storage.adoption(one)?.files ?? []);
	const inUse = new Set(others.map(({ realPath }) => realPath));
	const { freedBytes, kept } = await removeFound({ ...adoption, inUse });
	return { freed_bytes: freedBytes, files_kept: kept };
}

/** Whether a service reads this copy. */
export function serves(service: ServiceDocument, copy: ModelCopy, nodeName: string): boolean {
	return (
		service.model_name === copy.model_name &&
		service.device === `${nodeName}:${copy.tier}` &&
		(service.revision ?? copy.revision) === copy.revision
	);
}

/** A service that failed does not keep its model; one that runs ends only with force. */
async function stopServicesOf(d: NodeTaskDependencies, copy: ModelCopy, force: boolean): Promise<void> {
	for (const service of d.services.list()) {
		const same = serves(service, copy, d.nodeName);
		if (same && (force || !isServing(service)))
			await d.services.stop(service.service_id, { timeoutMs: DRAIN_MS });
	}
}

/**
 * A grant lives from use to use, and one request at a low bandwidth limit takes longer than that: while bytes arrive
 * the grant is used now and then beside it.
 */
export function touchOnProgress(
	clock: Clock,
	{ signal, log }: Pick<TaskContext, "signal" | "log">,
	source: Pick<PeerSource, "touch">,
): (bytesDone: number) => void {
	let touchedMs = clock.monotonicMs();
	let touchedBytes = 0;
	return (bytesDone) => {
		const nowMs = clock.monotonicMs();
		if (bytesDone <= touchedBytes || nowMs - touchedMs < TOUCH_EVERY_MS) return;
		[touchedMs, touchedBytes] = [nowMs, bytesDone];
		source.touch(signal).catch((error: unknown) => log.debug("transfer.grant_not_touched", { error }));
	};
}

/** Where a task's bytes come from. */
function lineOf({ request, type }: Pick<TaskContext, "request" | "type">): Line {
	if (type === "download") return "web";
	return request["pull"] === undefined && request["swarm"] === undefined ? "local" : "peer";
}

/** The same source would fail in the same way: no other copy is to go for it. */
function isSourcesFault(error: unknown): error is GswarmError {
	if (!(error instanceof GswarmError) || error.retryable) return false;
	return !NOT_THE_SOURCES.includes(error.reason ?? "");
}

const NOT_THE_SOURCES: readonly string[] = ["insufficient_space", "disk_full", "cancelled", "copy_exists"];

/**
 * Whether a copy of this node is worth that others go for it: one that was written to since it was published is read.
 * @throws TASK_FAILED source_damaged
 */
async function checkAtRest(storage: Storage, copy: ModelCopy, signal: AbortSignal): Promise<void> {
	if (storage.isUntouched(copy)) return;
	const { damaged } = await storage.verify(copy, {}, signal);
	const [first] = damaged;
	if (first === undefined) return;
	throw new GswarmError(
		"TASK_FAILED",
		`The source copy on ${copy.tier} is damaged: ${first.path}: ${first.problem}.`,
		{
			reason: "source_damaged",
			details: { model: copy.model_name, file: first.path },
			hint: `\`gswarm model verify ${copy.model_name} --repair\` repairs it from another copy.`,
		},
	);
}

/** The queue aborts with "shutdown" when the agent stops: then what was received is kept for the next run. */
function transferSignal(signal: AbortSignal): AbortSignal {
	const controller = new AbortController();
	const forward = (): void => {
		const reason: unknown = signal.reason;
		const stopping = reason === "shutdown" || (reason instanceof Error && reason.message === "shutdown");
		controller.abort(
			stopping
				? new GswarmError("RESOURCE_UNAVAILABLE", "The agent is stopping.", {
						reason: "stopping",
						retryable: true,
					})
				: reason,
		);
	};
	if (signal.aborted) forward();
	else signal.addEventListener("abort", forward, { once: true });
	return controller.signal;
}

function progressOf(p: TransferProgress): Parameters<TaskContext["report"]>[0] {
	return {
		phase: p.phase === "done" ? "publishing" : p.phase,
		bytesDone: p.bytesDone,
		bytesTotal: p.bytesTotal,
		waitingFor: p.waitingFor ?? null,
		...(p.plane === undefined ? {} : { plane: p.plane }),
		...(p.compressed === undefined ? {} : { compression: "zstd" as const }),
	};
}

/** Rooms of a node know tiers; people and the host know devices. */
function withNode(error: unknown, nodeName: string): unknown {
	if (!(error instanceof GswarmError)) return error;
	const { code, reason, details, hint, status, retryable } = error;
	const { required, available, device: tier } = details;
	if (typeof required !== "number" || typeof tier !== "string" || tier.includes(":")) return error;
	const device = `${nodeName}:${tier}`;
	return new GswarmError(
		code,
		`${device} has ${String(available)} bytes available; ${required} are needed.`,
		{
			...(reason === undefined ? {} : { reason }),
			details: { ...details, device },
			...(hint === undefined ? {} : { hint }),
			status,
			retryable,
			cause: error,
		},
	);
}
