/**
 * A copy goes from a device to one of this node: from another of its tiers, or from other nodes that the host names.
 * A move is that and the removal of what was copied. What begins or ends on a GPU is the devices' work.
 */
import type { TaskContext } from "../../core/queue/queue.ts";
import { peerSource, type PeerSource, type SourceContext } from "../../core/source/source.ts";
import type { Storage } from "../../core/storage/storage.ts";
import { severalSources, storageSource } from "../../core/transfer/transfer.ts";
import type { Clock } from "../../platform/clock.ts";
import { asGswarmError, GswarmError } from "../../schema/errors.ts";
import type { ModelCopy } from "../../schema/model.ts";
import { parseModelName, parseRevision, type Revision } from "../../schema/names.ts";
import type { GrantedParts, GrantedPlace } from "../granted-parts.ts";
import type { CopyRequest } from "./copy-request.ts";
import type { DeviceWork } from "./device-work.ts";
import { requireCopy, tierOf } from "./named-copy.ts";
import type { Receiving } from "./receiving.ts";
import type { Removal } from "./removal.ts";
import { isSwarmRequest, receiveInSwarm, type SwarmTaskDependencies } from "./swarm-task.ts";

export interface CopyTaskDependencies extends SwarmTaskDependencies {
	nodeName: string;
	storage: Storage;
	sources: SourceContext;
	/** Asks the host for access to the source of an operation, and for what to expect there. */
	requestGrant(operationId: string): Promise<GrantedParts>;
	devices: DeviceWork;
	removal: Pick<Removal, "remove">;
}

type Dependencies = CopyTaskDependencies & { receiving: Receiving };

/** Well within the time to live of a grant. */
const TOUCH_EVERY_MS = 30_000;
const STREAMS_PER_SOURCE = 4;
const MOST_STREAMS = 8;

/** @throws what the devices, the source and the transfer throw */
export async function copyTask(d: Dependencies, context: TaskContext): Promise<Record<string, unknown>> {
	return (await onDevice(d, context)) ?? d.receiving.finished(await received(d, context), context);
}

/** A source that has to stay stays, and the result says why (`source_kept`). @throws as copyTask */
export async function moveTask(d: Dependencies, context: TaskContext): Promise<Record<string, unknown>> {
	const { finished } = d.receiving;
	const request = context.request as unknown as CopyRequest;
	const moved = await onDevice(d, context);
	if (moved !== undefined) return moved;
	const target = await received(d, context);
	if (request.keep_source) return finished(target, context);
	const source = d.storage.copy(
		parseModelName(request.model_name),
		tierOf(request.source_device),
		target.revision as Revision,
	);
	const kept = source === undefined ? undefined : await removeSource(d, source);
	return { ...(await finished(target, context)), ...(kept === undefined ? {} : { source_kept: kept }) };
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

/** A copy or move that begins or ends on a GPU; undefined for every other. */
async function onDevice(d: Dependencies, context: TaskContext): Promise<Record<string, unknown> | undefined> {
	const request = context.request as unknown as CopyRequest;
	if (isSwarmRequest(request) || !d.devices.isFor(request)) return undefined;
	const tiers = { from: tierOf(request.source_device), to: tierOf(request.target_device) };
	return d.devices.transfer(context, tiers, (of, asked) => received(d, of, asked));
}

async function received(
	d: Dependencies,
	context: TaskContext,
	request = context.request as unknown as CopyRequest,
): Promise<ModelCopy> {
	const { receive, cameFrom } = d.receiving;
	const model = parseModelName(request.model_name);
	if (isSwarmRequest(request))
		return receiveInSwarm(d, context, tierOf(request.target_device), (input) => receive(context, input));
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
		return await receive(context, {
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
		return await receive(context, input, touchOnProgress(d.sources.clock, context, source));
	} finally {
		cameFrom(context, source.givers());
	}
}

/** Removes a moved model's source; why it stayed, or undefined when it is gone. */
async function removeSource(
	{ removal }: Pick<Dependencies, "removal">,
	source: ModelCopy,
): Promise<string | undefined> {
	// Where somebody else's program put it, it is not ours to take away.
	if (source.place === "adopted") return "adopted";
	try {
		await removal.remove(source, { force: false });
		return undefined;
	} catch (error) {
		const { code, reason } = asGswarmError(error);
		const expected = reason === "in_use" || reason === "last_durable_copy" || reason === "host_unreachable";
		if (!expected) throw error;
		return reason ?? code;
	}
}

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
