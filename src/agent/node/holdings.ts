/**
 * What the node holds of models, wherever it is: copies on its disks and in memory, residencies on its GPUs, and models
 * that an engine has on a GPU. The last two are gone with the process that holds them.
 */
import type { Accelerator } from "../../core/accelerator/accelerator.ts";
import type { Services } from "../../core/service/service.ts";
import type { Storage } from "../../core/storage/storage.ts";
import { GswarmError, modelNotFound } from "../../schema/errors.ts";
import type { ModelCopy } from "../../schema/model.ts";
import type { ModelName } from "../../schema/names.ts";

export interface Holdings {
	copies(): ModelCopy[];
	/** The copy on a device of the node; without a revision the newest ready one. */
	copy(model: ModelName, tier: string, revision?: string): ModelCopy | undefined;
	/** The ready one. @throws 404 device_not_found, gpu_not_usable, MODEL_NOT_FOUND naming the device */
	require(model: ModelName, tier: string): ModelCopy;
	/** A ready copy in files, the nearest first, of that content and revision where they are given. */
	fileCopy(model: ModelName, contentId?: string, revision?: string): ModelCopy | undefined;
	/** The same of something on a GPU. @throws 409 no_file_copy */
	requireFiles(copy: ModelCopy): ModelCopy;
	/** What is on GPUs alone. */
	onGpus(): ModelCopy[];
	/** The GPUs that can be used. */
	gpus(): string[];
	/** Rises with every change of what is on GPUs. */
	gpuVersion(): number;
}

export function isGpu(tier: string): boolean {
	return tier.startsWith("gpu");
}

export function createHoldings({
	nodeName,
	storage,
	accelerator,
	services,
}: {
	nodeName: string;
	storage: Storage;
	accelerator: Accelerator;
	services: Pick<Services, "list" | "onChange">;
}): Holdings {
	let servedVersion = 0;
	let servedBefore = "";
	/** An engine that takes requests has the model on its device. */
	const served = (): ModelCopy[] => {
		const prefix = `${nodeName}:gpu`;
		return services.list().flatMap((service): ModelCopy[] => {
			if (service.state !== "ready" || !service.device.startsWith(prefix)) return [];
			const tier = service.device.slice(nodeName.length + 1);
			const files = holdings.fileCopy(service.model_name as ModelName, undefined, service.revision);
			if (files === undefined) return [];
			const { last_used_at: _used, pinned: _pinned, purpose: _purpose, ...rest } = files;
			const readyAt = service.started_at ?? files.ready_at;
			return [{ ...rest, tier, ready_at: readyAt, ...(service.simulated ? { simulated: true } : {}) }];
		});
	};
	// Lives as long as the services do.
	services.onChange(() => {
		const now = JSON.stringify(served().map(({ model_name, tier }) => [model_name, tier]));
		if (now !== servedBefore) servedVersion++;
		servedBefore = now;
	});
	const holdings: Holdings = {
		copies: () => [...storage.copies(), ...holdings.onGpus()],
		onGpus() {
			const held = accelerator.residencies();
			const more = served().filter(
				(one) =>
					!held.some(
						({ model_name, revision, tier }) =>
							model_name === one.model_name && revision === one.revision && tier === one.tier,
					),
			);
			return [...held, ...more];
		},
		copy(model, tier, revision) {
			// The revision has been parsed by whoever knows it from a copy.
			if (!isGpu(tier)) return storage.copy(model, tier, revision as Parameters<Storage["copy"]>[2]);
			return holdings
				.onGpus()
				.filter((c) => c.model_name === model && c.tier === tier)
				.filter((c) => revision === undefined || c.revision === revision)
				.sort((a, b) => b.ready_at - a.ready_at)[0];
		},
		require(model, tier) {
			if (isGpu(tier)) accelerator.device(tier);
			else storage.tier(tier);
			const copy = holdings.copy(model, tier);
			if (copy === undefined || copy.status !== "ready") throw modelNotFound(model, `${nodeName}:${tier}`);
			return copy;
		},
		fileCopy(model, contentId, revision) {
			const ready = storage
				.copies()
				.filter((c) => c.model_name === model && c.status === "ready")
				.filter((c) => contentId === undefined || c.content_id === contentId)
				.filter((c) => revision === undefined || c.revision === revision);
			const isMemory = (c: ModelCopy): boolean => storage.tier(c.tier).kind === "dram";
			return ready.sort((a, b) => Number(isMemory(b)) - Number(isMemory(a)) || b.ready_at - a.ready_at)[0];
		},
		requireFiles(copy) {
			const files = holdings.fileCopy(copy.model_name as ModelName, copy.content_id);
			if (files !== undefined) return files;
			throw new GswarmError(
				"CONFLICT",
				`${JSON.stringify(copy.model_name)} is on ${nodeName}:${copy.tier} alone: this node has no files of it to copy.`,
				{
					reason: "no_file_copy",
					details: { model: copy.model_name, device: `${nodeName}:${copy.tier}` },
					hint: "Name a device that has its files; `gswarm model locations NAME` shows where they are.",
				},
			);
		},
		gpus: () =>
			accelerator
				.devices()
				.filter(({ problem }) => problem === undefined)
				.map(({ name }) => name),
		gpuVersion: () => accelerator.version() + servedVersion,
	};
	return holdings;
}
