/**
 * Work on the node's GPUs. A model comes to a GPU from its files on this node, which are brought first where they are on
 * another one; it leaves by being released, once the files it stands for are where they are wanted. What the GPU holds
 * and what an engine is about to put there never count twice: the one gives its place to the other.
 */
import type { Accelerator, Occupied } from "../../core/accelerator/accelerator.ts";
import type { TaskContext } from "../../core/queue/queue.ts";
import type { Services } from "../../core/service/service.ts";
import type { Storage } from "../../core/storage/storage.ts";
import type { Clock } from "../../platform/clock.ts";
import { parseSafePath } from "../../platform/safe-path.ts";
import { GswarmError, asGswarmError, invalid, modelNotFound } from "../../schema/errors.ts";
import type { Manifest } from "../../schema/manifest.ts";
import type { ModelCopy } from "../../schema/model.ts";
import { type ModelName, type Revision, parseModelName } from "../../schema/names.ts";
import { isServing } from "../../schema/service.ts";
import type { CopyRequest } from "./copy-request.ts";
import { type Holdings, isGpu } from "./holdings.ts";
import type { GpuEviction } from "./gpu-eviction.ts";
import type { Removal } from "./removal.ts";

export interface DeviceWork {
	/** Whether a copy or move begins or ends on a GPU. */
	isFor(request: { source_device: string; target_device: string }): boolean;
	/** Does such a copy or move; `bring` copies files as another request says. */
	transfer(
		context: TaskContext,
		tiers: { from: string; to: string },
		bring: (context: TaskContext, request: CopyRequest) => Promise<ModelCopy>,
	): Promise<Record<string, unknown>>;
	/** Reads a residency back; a damaged one goes, and is loaded again with `repair`. */
	verify(context: TaskContext, tier: string, options: { repair: boolean }): Promise<Record<string, unknown>>;
	/**
	 * Whether so much of a model would fit, when what may go has gone; `freed`: what it gives up itself.
	 * @throws 507 insufficient_space, 503 gpu_not_usable
	 */
	fits(tier: string, bytes: number, of: { model: string; freed?: number }): void;
	/**
	 * The files that a service on this GPU would load.
	 * @throws 400 engine_without_gpu, 404 MODEL_NOT_FOUND, 507 insufficient_space
	 */
	servable(model: ModelName, tier: string, revision?: string): ModelCopy;
	/**
	 * Frees what a holder has of the model, for the engine that is about to start. The place is kept for that until this
	 * is disposed.
	 */
	giveWay(files: ModelCopy, tier: string): Promise<Disposable>;
	/** What an engine on this GPU uses: the files it loads, and its place on the device. */
	holdServed(
		served: { model: ModelName; revision: Revision; tier: string; path: string },
		why: string,
	): Disposable;
	isSimulated(tier: string): boolean;
}

export interface DeviceWorkDependencies {
	nodeName: string;
	storage: Storage;
	accelerator: Accelerator;
	holdings: Holdings;
	services: Pick<Services, "list">;
	removal: Pick<Removal, "remove">;
	eviction: Pick<GpuEviction, "withRoom" | "evictableBytes" | "remember">;
	clock: Pick<Clock, "nowMs">;
	reportNow(): Promise<unknown>;
}

export function createDeviceWork(d: DeviceWorkDependencies): DeviceWork {
	/** Places that holders gave up and engines have not taken yet. */
	const given = new Map<string, Occupied>();
	const keyOf = (model: string, revision: string, tier: string): string => `${tier} ${model}@${revision}`;
	const shown = (tier: string): string => `${d.nodeName}:${tier}`;

	const manifestOf = (copy: ModelCopy): Manifest => {
		const manifest = d.storage.manifest(copy.content_id);
		if (manifest === undefined) throw new Error(`the manifest ${copy.content_id} of a copy is missing`);
		return manifest;
	};
	const fits: DeviceWork["fits"] = (tier, required, { model, freed = 0 }) => {
		const { available: free, total } = d.accelerator.usage(tier);
		const now = free + freed + d.eviction.evictableBytes(tier, model);
		// What is being loaded may give way when it is: that is waited for.
		const available = now + d.accelerator.loadingBytes(tier);
		if (required <= available) return;
		throw new GswarmError(
			"RESOURCE_UNAVAILABLE",
			`Insufficient GPU memory on device ${shown(tier)}: ${required} bytes are needed, ${available} are available.`,
			{
				reason: "insufficient_space",
				details: { required, available, device: shown(tier) },
				status: 507,
				hint:
					required > total
						? `It has ${total} bytes in all: choose a larger device (\`gswarm resources\`) or a smaller model.`
						: `\`gswarm model delete NAME --device ${shown(tier)}\` makes room there.`,
			},
		);
	};
	const isServedOn = (model: string, tier: string): boolean =>
		d.services.list().some((s) => s.model_name === model && s.device === shown(tier) && isServing(s));
	const load = async (
		context: TaskContext,
		files: ModelCopy,
		tier: string,
		before = 0,
	): Promise<ModelCopy> => {
		const [model, revision] = [parseModelName(files.model_name), files.revision as Revision];
		const there = d.holdings.copy(model, tier, revision);
		if (there?.content_id === files.content_id) {
			if (d.accelerator.residency(model, tier, revision) !== undefined)
				d.accelerator.mark(there, { usedAt: d.clock.nowMs() / 1000 });
			return there;
		}
		using hold = d.storage.hold(model, revision, files.tier, `task ${context.taskId}`, "copy");
		void hold;
		const input = {
			device: tier,
			model,
			revision,
			pathOf: (path: string) => d.storage.fileOf(files, parseSafePath(path)),
			manifest: manifestOf(files),
			from: {
				content_id: files.content_id,
				model_type: files.model_type,
				source_url: files.source_url,
				format: files.format,
			},
			direct: d.storage.tier(files.tier).kind === "disk",
			onProgress: ({
				phase,
				bytesDone,
				bytesTotal,
			}: {
				phase: "moving" | "verifying";
				bytesDone: number;
				bytesTotal: number;
			}) => context.report({ phase, bytesDone: before + bytesDone, bytesTotal: before + bytesTotal }),
		};
		try {
			const copy = await d.eviction.withRoom({ tier, bytes: files.size_bytes, model }, () =>
				d.accelerator.load(input, context.signal),
			);
			d.eviction.remember(tier, model, false);
			return copy;
		} catch (error) {
			if (FAULTS.includes(asGswarmError(error).reason ?? "")) d.eviction.remember(tier, model, true);
			throw error;
		}
	};
	/** Files for a GPU of this node; those of another node come to this one first, as the first half of the work. */
	const bringFiles = async (
		context: TaskContext,
		request: CopyRequest,
		bring: Parameters<DeviceWork["transfer"]>[2],
	): Promise<{ files: ModelCopy; broughtBytes: number }> => {
		const model = parseModelName(request.model_name);
		if (request.pull === undefined) {
			const source = tierOfDevice(request.source_device);
			const copy = d.holdings.require(model, source);
			return { files: isGpu(source) ? d.holdings.requireFiles(copy) : copy, broughtBytes: 0 };
		}
		const here = d.holdings.fileCopy(model, request.pull.content_id);
		if (here !== undefined) return { files: here, broughtBytes: 0 };
		const files = await bring(
			{
				...context,
				report: ({ bytesTotal, ...progress }) =>
					context.report({
						...progress,
						...(bytesTotal === undefined ? {} : { bytesTotal: 2 * bytesTotal }),
					}),
			},
			{ ...request, target_device: request.via ?? shown("disk") },
		);
		return { files, broughtBytes: files.size_bytes };
	};
	/** What a moved model leaves behind goes; why it stayed, or undefined when it is gone. */
	const leave = async (source: ModelCopy): Promise<string | undefined> => {
		if (!isGpu(source.tier)) {
			const others = d.storage
				.copies()
				.filter((c) => c.content_id === source.content_id && c.tier !== source.tier && c.status === "ready");
			// A GPU cannot give a model back: while it is to stay on this node, its files stay too.
			if (!d.storage.tier(source.tier).durable && others.length === 0) return "last_file_copy";
		}
		try {
			await d.removal.remove(source, { force: false });
			return undefined;
		} catch (error) {
			const { code, reason } = asGswarmError(error);
			if (reason === undefined || !STAYS.includes(reason)) throw error;
			return reason ?? code;
		}
	};
	const toGpu = async (
		context: TaskContext,
		request: CopyRequest,
		to: string,
		bring: Parameters<DeviceWork["transfer"]>[2],
	): Promise<Record<string, unknown>> => {
		const { files, broughtBytes } = await bringFiles(context, request, bring);
		context.report({ phase: "moving", bytesDone: broughtBytes, bytesTotal: broughtBytes + files.size_bytes });
		const copy = await load(context, files, to, broughtBytes);
		const bytes = broughtBytes + files.size_bytes;
		context.report({ bytesDone: bytes, bytesTotal: bytes });
		return { copy, ...(broughtBytes === 0 ? {} : { via: shown(files.tier) }) };
	};
	const toFiles = async (
		context: TaskContext,
		request: CopyRequest,
		{ from, to }: { from: string; to: string },
		bring: Parameters<DeviceWork["transfer"]>[2],
	): Promise<Record<string, unknown>> => {
		const resident = d.holdings.require(parseModelName(request.model_name), from);
		const there = d.storage.copy(parseModelName(request.model_name), to, resident.revision as Revision);
		if (there?.content_id === resident.content_id && there.status === "ready") return { copy: there };
		const files = d.holdings.requireFiles(resident);
		return { copy: await bring(context, { ...request, source_device: shown(files.tier) }) };
	};

	return {
		isFor: ({ source_device, target_device }) =>
			isGpu(tierOfDevice(target_device)) ||
			(source_device.startsWith(`${d.nodeName}:`) && isGpu(tierOfDevice(source_device))),
		async transfer(context, { from, to }, bring) {
			const request = context.request as unknown as CopyRequest;
			const model = parseModelName(request.model_name);
			const source = request.pull === undefined ? d.holdings.copy(model, from) : undefined;
			const { copy, ...more } = isGpu(to)
				? await toGpu(context, request, to, bring)
				: await toFiles(context, request, { from, to }, bring);
			const { tier, revision, size_bytes, content_id, simulated } = copy as ModelCopy;
			const kept = request.keep_source || source === undefined ? undefined : await leave(source);
			context.report({ phase: "ready" });
			await d.reportNow();
			return {
				device: shown(tier),
				revision,
				size_bytes,
				content_id,
				...more,
				...(simulated === undefined ? {} : { simulated }),
				...(kept === undefined ? {} : { source_kept: kept }),
			};
		},
		async verify(context, tier, { repair }) {
			const model = parseModelName(String(context.request["model_name"]));
			const copy = d.accelerator.residency(model, tier);
			if (copy === undefined && isServedOn(model, tier)) throw heldByService(model, shown(tier));
			if (copy === undefined) throw modelNotFound(model, shown(tier));
			const { revision, content_id, size_bytes: bytesTotal } = copy;
			context.report({ phase: "verifying", bytesDone: 0, bytesTotal });
			let repairedFrom: string | null = null;
			try {
				await d.accelerator.verify(copy, manifestOf(copy), context.signal, (bytesDone) =>
					context.report({ bytesDone, bytesTotal }),
				);
			} catch (error) {
				if (asGswarmError(error).reason !== "verification_failed") throw error;
				context.log.warn("verify.damaged", { model, revision, tier });
				await d.accelerator.unload(model, revision as Revision, tier);
				await d.reportNow();
				const files = d.holdings.fileCopy(model, content_id);
				if (!repair || files === undefined) throw error;
				await load(context, files, tier);
				repairedFrom = shown(files.tier);
			}
			await d.reportNow();
			return {
				device: shown(tier),
				revision,
				content_id,
				bytes_checked: bytesTotal,
				repaired_from: repairedFrom,
			};
		},
		fits,
		servable(model, tier, revision) {
			const device = d.accelerator.device(tier);
			if (!device.simulated) throw engineWithoutGpu(shown(tier));
			const resident = d.holdings.copy(model, tier, revision);
			const files =
				resident === undefined
					? d.holdings.fileCopy(model, undefined, revision)
					: d.holdings.requireFiles(resident);
			if (files === undefined) {
				const { code, message, details } = modelNotFound(model, d.nodeName);
				throw new GswarmError(code, message, {
					details,
					hint: `Bring it there first: \`gswarm model copy ${model} --to ${shown("disk")}\`.`,
				});
			}
			const isServed = isServedOn(model, tier);
			const freed = resident?.size_bytes ?? 0;
			if (!isServed) fits(tier, files.size_bytes, { model, freed });
			return files;
		},
		async giveWay({ model_name, revision, size_bytes: bytes }, tier) {
			const [model, rev] = [parseModelName(model_name), revision as Revision];
			const key = keyOf(model, revision, tier);
			const isServed = isServedOn(model, tier);
			if (d.accelerator.residency(model, tier, rev) !== undefined)
				given.set(key, await d.accelerator.handOver(model, rev, tier));
			else if (!isServed) {
				const occupy = (): Promise<Occupied> => Promise.resolve(d.accelerator.occupy(tier, bytes));
				given.set(key, await d.eviction.withRoom({ tier, bytes, model }, occupy));
			}
			return {
				[Symbol.dispose]() {
					given.get(key)?.[Symbol.dispose]();
					given.delete(key);
				},
			};
		},
		holdServed({ model, revision, tier, path }, why) {
			const files = d.storage
				.copies()
				.find(
					(c) =>
						c.model_name === model &&
						c.revision === revision &&
						c.status === "ready" &&
						d.storage.pathOf(c) === path,
				);
			if (files === undefined) throw modelNotFound(`${model}@${revision}`, shown(tier));
			const key = keyOf(model, revision, tier);
			const place = given.get(key) ?? d.accelerator.occupy(tier, files.size_bytes);
			given.delete(key);
			const hold = d.storage.hold(model, revision, files.tier, why, "serve");
			return {
				[Symbol.dispose]() {
					place[Symbol.dispose]();
					hold[Symbol.dispose]();
				},
			};
		},
		isSimulated: (tier) => d.accelerator.devices().some((one) => one.name === tier && one.simulated),
	};
}

/** What a load fails of that would fail again. */
const FAULTS: readonly string[] = ["verification_failed", "file_unreadable", "device_failed", "holder_gone"];

/** Why a moved model's source may stay without the move having failed. */
const STAYS: readonly string[] = ["in_use", "last_durable_copy", "host_unreachable"];

function tierOfDevice(device: string): string {
	return device.slice(device.indexOf(":") + 1);
}

/** What an engine has in its memory no holder can read back. */
function heldByService(model: string, device: string): GswarmError {
	return new GswarmError(
		"CONFLICT",
		`${model} on ${device} is in a service's own memory and cannot be read there.`,
		{
			reason: "in_use",
			details: { model, device },
			hint: "Verify the files that it was loaded from: `gswarm model verify` without --device reads every copy that can be.",
		},
	);
}

/** Whoever asks for a GPU does not mean the processor. */
function engineWithoutGpu(device: string): GswarmError {
	return invalid(
		"engine_without_gpu",
		`The embedded engine computes on the CPU, and would leave ${device} unused.`,
		{ device, framework: "llama" },
		"Serve it from memory instead: `--device NODE:dram`, or NODE:disk.",
	);
}
