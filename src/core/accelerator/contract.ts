/** What the room offers, and what it needs. */
import type { GpuSummary } from "../../schema/accelerator.ts";
import type { Manifest } from "../../schema/manifest.ts";
import type { ModelCopy } from "../../schema/model.ts";
import type { ModelName, Revision } from "../../schema/names.ts";
import type { TierUsage } from "../../schema/node.ts";
import type { AcceleratorDevice, DeviceReading } from "./device.ts";
import type { HolderLimits } from "./holder/holder-process.ts";
import type { ProbePlaces } from "./probe/reading.ts";

export interface LoadInput {
	device: string;
	model: ModelName;
	revision: Revision;
	/** Where a file of the manifest is: regular, absolute, kept by the caller from going meanwhile. */
	pathOf: (path: string) => string;
	manifest: Manifest;
	/** What the copy says of itself. */
	from: Pick<ModelCopy, "content_id" | "model_type" | "source_url" | "format">;
	/** Read past the page cache: from a disk, not from memory. */
	direct: boolean;
	onProgress?: ((progress: LoadProgress) => void) | undefined;
}

export interface LoadProgress {
	phase: "moving" | "verifying";
	bytesDone: number;
	bytesTotal: number;
}

/** A file of a residency, as another process of this machine maps it (cuIpcOpenMemHandle). */
export interface ExportedFile {
	path: string;
	/** 64 bytes, hex; undefined for an empty file, and where the driver has no handles. */
	handle: string | undefined;
}

export interface Occupied extends Disposable {
	/** The driver's own figures have the bytes by now. */
	seen(): void;
}

export interface Accelerator extends AsyncDisposable {
	/** Those that can be used and those that cannot. */
	devices(): readonly AcceleratorDevice[];
	/** @throws 404 device_not_found, 503 gpu_not_usable */
	device(name: string): AcceleratorDevice;
	/** @throws 404 device_not_found, 503 gpu_not_usable */
	usage(name: string): TierUsage;
	/** All that is known of each device now. Does not wait: the figures are as old as they say. */
	readDevices(): DeviceReading[];
	/** All devices in short. */
	summaries(): GpuSummary[];
	residencies(): ModelCopy[];
	/** The residency on a device; without a revision the newest. */
	residency(model: ModelName, device: string, revision?: Revision): ModelCopy | undefined;
	/**
	 * Loads and verifies a model. The same one there already is a success. Whatever ends otherwise leaves no memory taken.
	 * @throws RESOURCE_UNAVAILABLE insufficient_space, gpu_full, gpu_not_usable; CONFLICT copy_exists;
	 * TASK_FAILED verification_failed, holder_gone, device_failed, file_unreadable; the signal's reason
	 */
	load(input: LoadInput, signal: AbortSignal): Promise<ModelCopy>;
	/** Reads back what is on the device. @throws TASK_FAILED verification_failed, 404 model_not_found */
	verify(
		copy: ModelCopy,
		manifest: Manifest,
		signal: AbortSignal,
		onBytes?: (bytes: number) => void,
	): Promise<void>;
	/** @throws CONFLICT in_use, 404 model_not_found */
	unload(model: ModelName, revision: Revision, device: string): Promise<{ freedBytes: number }>;
	/** For loaders that can map what is held. @throws 404 model_not_found */
	exportHandles(copy: ModelCopy): ExportedFile[];
	/** Why a residency is in use, once per holder; none where it is gone. */
	uses(copy: ModelCopy): readonly string[];
	/** Bytes of models that are being loaded to a device now: nobody's for good. @throws as usage */
	loadingBytes(device: string): number;
	/** Marks a residency as in use; `unload` refuses meanwhile. @throws 404 model_not_found */
	hold(model: ModelName, revision: Revision, device: string, why: string): Disposable;
	/**
	 * Bytes that a process of somebody else is about to take: an engine. On a simulated device they count until disposed,
	 * on a real one until its driver counts them (call `seen`). @throws RESOURCE_UNAVAILABLE insufficient_space
	 */
	occupy(device: string, bytes: number): Occupied;
	/** As unload, and the bytes go on to count until somebody else has taken them: nobody comes in between. */
	handOver(model: ModelName, revision: Revision, device: string): Promise<Occupied>;
	/** A residency was used, or is to stay. */
	mark(copy: ModelCopy, marks: { usedAt?: number; pinned?: boolean }): void;
	/** Of the process that holds a device's models. */
	holderPid(device: string): number | undefined;
	/** Rises with every change of the set of residencies. */
	version(): number;
	/** Residencies, devices or their memory have changed. */
	onChange(listener: () => void): Disposable;
}

export interface AcceleratorOptions {
	/** Devices are named with it in what goes wrong. */
	nodeName: string;
	/** Sizes of simulated devices; with one of them the machine's own GPUs are left alone. */
	simulatedBytes: readonly number[];
	/** Up to and including `__holder`. */
	holderCommand: readonly string[];
	/** Up to and including `__probe`; undefined: the machine's own GPUs are not looked for. */
	probeCommand?: readonly string[] | undefined;
	/** Where drivers are, where that is not their usual place. */
	places?: Partial<ProbePlaces>;
	/** How long a look at the GPUs may take, and between two of them. */
	lookMs?: { wait: number; every: number };
	/** Of the agent. */
	environment: Readonly<Record<string, string | undefined>>;
	limits?: Partial<HolderLimits>;
	/** Threads that copy to one device. */
	threads?: number;
}
