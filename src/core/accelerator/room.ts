/** The devices and what they hold, in memory; the processes that hold it do the work. */
import type { Clock } from "../../platform/clock.ts";
import type { Log } from "../../platform/log.ts";
import { GswarmError, modelNotFound, notFound } from "../../schema/errors.ts";
import type { ModelCopy } from "../../schema/model.ts";
import type { Accelerator, AcceleratorOptions, LoadInput, Occupied } from "./contract.ts";
import {
	type AcceleratorDevice,
	type Claim,
	type DeviceState,
	deviceOf,
	readingOf,
	type Slot,
	slotKey,
	usageOf,
} from "./device.ts";
import { createHolder, HolderTrouble } from "./holder/holder-process.ts";
import type { HeldFile, HolderPlan } from "./holder/messages.ts";
import { hasGpus } from "./probe/machine.ts";
import { createProbe } from "./probe/probe-process.ts";
import { type MachineReading, PLACES } from "./probe/reading.ts";
import { visibleGpus } from "./visible.ts";
import { fromHolder, inUse, noRoom, notTheSame, notUsable } from "./trouble.ts";

/** Threads that copy to one device: more than one, because one does not fill a fast GPU's line. */
const THREADS = 4;
const SIMULATED_THREADS = 2;
const LOOK_MS = { wait: 5000, every: 5000 };

/** @returns the room, and when it has looked for the first time at what the machine has */
export function createRoom(
	{ clock, log }: { clock: Clock; log: Log },
	options: AcceleratorOptions,
): { room: Accelerator; looked: Promise<void> } {
	const states = new Map<string, DeviceState>();
	const listeners = new Set<() => void>();
	let version = 0;
	let nextId = 1;

	/** As people and the host know it. */
	const shown = (device: string): string => `${options.nodeName}:${device}`;
	const changed = (isInventory: boolean): void => {
		if (isInventory) version++;
		for (const listener of listeners) listener();
	};
	const addDevice = (
		device: AcceleratorDevice,
		plan: HolderPlan,
		given: Record<string, string>,
	): DeviceState => {
		const state: DeviceState = {
			device,
			slots: new Map(),
			claims: new Set(),
			freeBytes: undefined,
			freeAtMs: 0,
			reading: undefined,
			holder: createHolder(
				{ clock, log: log.with({ device: device.name }) },
				{
					command: options.holderCommand,
					environment: options.environment,
					given,
					plan,
					...(options.limits === undefined ? {} : { limits: options.limits }),
					onMemory: (freeBytes) => {
						state.freeBytes = freeBytes;
						state.freeAtMs = clock.monotonicMs();
					},
					onGone(ids) {
						for (const [key, { id }] of state.slots) if (ids.includes(id)) state.slots.delete(key);
						if (ids.length > 0) log.warn("accelerator.lost", { device: device.name, models: ids.length });
						changed(ids.length > 0);
					},
				},
			),
		};
		states.set(device.name, state);
		return state;
	};
	for (const [index, memoryBytes] of options.simulatedBytes.entries()) {
		const device = {
			name: `gpu${index}`,
			product: "simulated GPU",
			uuid: undefined,
			totalBytes: memoryBytes,
			simulated: true,
			problem: undefined,
		};
		addDevice(device, { driver: "sim", memoryBytes, threads: options.threads ?? SIMULATED_THREADS }, {});
	}
	const places = { ...PLACES, ...options.places };
	/** The devices are what the look says; one that was there before and is not any more stays, and says so. */
	const take = ({ gpus }: MachineReading, askedMs: number): void => {
		const before = JSON.stringify([...states.values()].map(({ device }) => device));
		const mine = visibleGpus(gpus, options.environment["CUDA_VISIBLE_DEVICES"]);
		for (const gpu of mine) {
			const device = deviceOf(gpu);
			const plan = { driver: "cuda", library: places.cuda, threads: options.threads ?? THREADS } as const;
			// It sees this one alone, by what does not change when another driver counts the devices anew.
			const given = { CUDA_DEVICE_ORDER: "PCI_BUS_ID", CUDA_VISIBLE_DEVICES: gpu.uuid ?? String(gpu.index) };
			const state = states.get(device.name) ?? addDevice(device, plan, given);
			state.device = device;
			state.reading = { gpu, at: clock.nowMs() / 1000 };
			const { totalBytes, usedBytes } = gpu;
			// What a holder said later counts.
			if (totalBytes === null || usedBytes === null || askedMs < state.freeAtMs) continue;
			state.freeBytes = Math.max(0, totalBytes - usedBytes);
			state.freeAtMs = askedMs;
		}
		for (const state of states.values())
			if (!mine.some(({ index }) => state.device.name === `gpu${index}`))
				setProblem(state, "it is not there any more");
		if (JSON.stringify([...states.values()].map(({ device }) => device)) !== before) changed(false);
	};
	const setProblem = (state: DeviceState, problem: string): void => {
		state.device = { ...state.device, problem };
	};
	const stop = new AbortController();
	const lookMs = options.lookMs ?? LOOK_MS;
	const { probeCommand: command, environment } = options;
	const isLooking = command !== undefined && options.simulatedBytes.length === 0 && hasGpus(places.root);
	const probe = isLooking
		? createProbe({ clock, log }, { command, environment, places, waitMs: lookMs.wait })
		: undefined;
	const lookOnce = async (): Promise<void> => {
		const askedMs = clock.monotonicMs();
		const reading = await probe?.look();
		if (stop.signal.aborted || probe === undefined) return;
		if (reading !== undefined) {
			take(reading, askedMs);
			return;
		}
		for (const state of states.values()) setProblem(state, "its driver does not answer");
		changed(false);
	};
	const lookOn = async (first: Promise<void>): Promise<void> => {
		await first;
		while (!stop.signal.aborted) {
			await clock.sleep(lookMs.every, stop.signal);
			if (!stop.signal.aborted) await lookOnce();
		}
	};
	const looked = lookOnce();
	const looking = probe === undefined ? Promise.resolve() : lookOn(looked);

	const stateOf = (name: string): DeviceState => {
		const state = states.get(name);
		if (state === undefined) {
			const known = [...states.keys()].join(", ");
			throw notFound(
				"device",
				shown(name),
				known === "" ? "This node has no GPU." : `Its GPUs are ${known}.`,
			);
		}
		if (state.device.problem !== undefined) throw notUsable(shown(name), state.device.problem);
		return state;
	};
	const slotOf = (
		copy: Pick<ModelCopy, "model_name" | "revision" | "tier">,
	): { state: DeviceState; slot: Slot } => {
		const state = states.get(copy.tier);
		const slot = state?.slots.get(slotKey(copy));
		if (state === undefined || slot === undefined)
			throw modelNotFound(`${copy.model_name}@${copy.revision}`, shown(copy.tier));
		return { state, slot };
	};
	const claim = (state: DeviceState, bytes: number, { isLoad }: Pick<Claim, "isLoad">): Claim => {
		const { available, total } = usageOf(state);
		// What could have room may wait for it.
		const reason = bytes > total ? "insufficient_space" : "gpu_full";
		if (bytes > available) throw noRoom(shown(state.device.name), bytes, available, reason);
		const one: Claim = { bytes, isCounted: false, isLoad };
		state.claims.add(one);
		changed(false);
		return one;
	};
	/** The same model is there: with these contents, or with others. */
	const already = (state: DeviceState, input: LoadInput): ModelCopy | undefined => {
		const slot = state.slots.get(slotKey({ model_name: input.model, revision: input.revision }));
		if (slot === undefined || slot.copy.content_id === input.from.content_id) return slot?.copy;
		throw new GswarmError(
			"CONFLICT",
			`${slotKey(slot.copy)} is on ${shown(input.device)} already with other contents.`,
			{
				reason: "copy_exists",
				details: { content_id: slot.copy.content_id, device: shown(input.device) },
				hint: "Delete what is there first.",
			},
		);
	};
	const keep = (
		state: DeviceState,
		input: LoadInput,
		id: number,
		handles: readonly (string | null)[],
	): ModelCopy => {
		const copy: ModelCopy = {
			model_name: input.model,
			revision: input.revision,
			tier: input.device,
			status: "ready",
			size_bytes: input.manifest.total_bytes,
			...input.from,
			ready_at: clock.nowMs() / 1000,
			last_used_at: null,
			...(state.device.simulated ? { simulated: true as const } : {}),
		};
		const paths = input.manifest.files.map(({ path }) => path);
		state.slots.set(slotKey(copy), { id, copy, handles, paths, uses: [] });
		return copy;
	};
	/** Frees a residency; its bytes stay claimed. */
	const release = async (
		model: string,
		revision: string,
		device: string,
	): Promise<{ copy: ModelCopy; claim: Claim; state: DeviceState }> => {
		const { state, slot } = slotOf({ model_name: model, revision, tier: device });
		const { copy, uses, id } = slot;
		if (uses.length > 0) throw inUse(copy, shown(device), uses);
		// Nobody takes a hold on it any more; its bytes count until they are free.
		state.slots.delete(slotKey(copy));
		const going: Claim = { bytes: copy.size_bytes, isCounted: true, isLoad: false };
		state.claims.add(going);
		try {
			await state.holder.unload(id);
		} catch (error) {
			state.claims.delete(going);
			changed(true);
			throw fromHolder(error, shown(device), copy.size_bytes);
		}
		// Of a real device the driver counts what is free now.
		going.isCounted = state.device.simulated;
		log.info("accelerator.unloaded", { device, model, freed_bytes: copy.size_bytes });
		return { copy, claim: going, state };
	};
	const occupied = (state: DeviceState, one: Claim): Occupied => {
		const free = (): void => {
			if (state.claims.delete(one)) changed(false);
		};
		return {
			seen() {
				if (!state.device.simulated) free();
			},
			[Symbol.dispose]: free,
		};
	};
	const load = async (input: LoadInput, signal: AbortSignal): Promise<ModelCopy> => {
		const { device, manifest, direct, onProgress } = input;
		const state = stateOf(device);
		const there = already(state, input);
		if (there !== undefined) return there;
		const bytesTotal = manifest.total_bytes;
		const one = claim(state, bytesTotal, { isLoad: true });
		const id = nextId++;
		const startedMs = clock.monotonicMs();
		try {
			const outcome = await state.holder.load(
				{ id, files: filesOf(input), direct },
				{
					onAllocated() {
						one.isCounted = true;
						changed(false);
					},
					onProgress: (phase, bytesDone) => onProgress?.({ phase, bytesDone, bytesTotal }),
				},
				signal,
			);
			if (outcome.kind === "damaged") {
				const [first] = outcome.bad;
				const file = manifest.files[first?.file ?? 0]?.path ?? "";
				const about = { model: input.model, device: shown(device), file, part: first?.part ?? 0 };
				throw notTheSame(about, outcome.bad.length);
			}
			if (signal.aborted) {
				// The cancel came when it was done: it counts all the same, and nothing stays.
				await state.holder.unload(id);
				signal.throwIfAborted();
			}
			const copy = keep(state, input, id, outcome.handles);
			const ms = Math.round(clock.monotonicMs() - startedMs);
			const about = { device, model: input.model, bytes: bytesTotal, ms, direct: outcome.isDirect };
			log.info("accelerator.loaded", about);
			return copy;
		} catch (error) {
			if (error instanceof HolderTrouble && signal.aborted) signal.throwIfAborted();
			throw fromHolder(error, shown(device), bytesTotal);
		} finally {
			// In the same step in which the slot begins to count.
			state.claims.delete(one);
			changed(true);
		}
	};

	const room: Accelerator = {
		devices: () => [...states.values()].map(({ device }) => device),
		device: (name) => stateOf(name).device,
		usage: (name) => usageOf(stateOf(name)),
		readDevices: () => [...states.values()].map(readingOf),
		summaries: () =>
			[...states.values()].map(({ device: { name, product, problem, simulated } }) => ({
				device: name,
				product,
				problem: problem ?? null,
				...(simulated ? { simulated } : {}),
			})),
		residencies: () =>
			[...states.values()].flatMap(({ slots }) => [...slots.values()].map(({ copy }) => copy)),
		residency(model, device, revision) {
			const copies = [...(states.get(device)?.slots.values() ?? [])]
				.map(({ copy }) => copy)
				.filter((c) => c.model_name === model && (revision === undefined || c.revision === revision));
			return copies.sort((a, b) => b.ready_at - a.ready_at)[0];
		},
		load,
		async verify(copy, manifest, signal, onBytes) {
			const { state, slot } = slotOf(copy);
			slot.uses.push("verification");
			try {
				const bad = await state.holder.verify(slot.id, (bytes) => onBytes?.(bytes), signal);
				const [first] = bad;
				if (first === undefined) return;
				const file = manifest.files[first.file]?.path ?? "";
				const about = { model: copy.model_name, device: shown(copy.tier), file, part: first.part };
				throw notTheSame(about, bad.length);
			} catch (error) {
				if (error instanceof HolderTrouble && signal.aborted) signal.throwIfAborted();
				throw fromHolder(error, shown(copy.tier), copy.size_bytes);
			} finally {
				slot.uses.splice(slot.uses.indexOf("verification"), 1);
			}
		},
		async unload(model, revision, device) {
			const { copy, claim: going, state } = await release(model, revision, device);
			state.claims.delete(going);
			changed(true);
			return { freedBytes: copy.size_bytes };
		},
		async handOver(model, revision, device) {
			const { claim: going, state } = await release(model, revision, device);
			changed(true);
			return occupied(state, going);
		},
		exportHandles(copy) {
			const { slot } = slotOf(copy);
			return slot.paths.map((path, at) => ({ path, handle: slot.handles[at] ?? undefined }));
		},
		loadingBytes: (name) =>
			[...stateOf(name).claims].reduce((sum, { bytes, isLoad }) => sum + (isLoad ? bytes : 0), 0),
		uses: (copy) => [...(states.get(copy.tier)?.slots.get(slotKey(copy))?.uses ?? [])],
		hold(model, revision, device, why) {
			const { uses } = slotOf({ model_name: model, revision, tier: device }).slot;
			uses.push(why);
			let held = true;
			return {
				[Symbol.dispose]() {
					if (held) uses.splice(uses.indexOf(why), 1);
					held = false;
				},
			};
		},
		occupy(name, bytes) {
			const state = stateOf(name);
			const one = claim(state, bytes, { isLoad: false });
			one.isCounted = state.device.simulated;
			return occupied(state, one);
		},
		mark(copy, { usedAt, pinned }) {
			const { slot } = slotOf(copy);
			if (usedAt !== undefined) slot.copy = { ...slot.copy, last_used_at: usedAt };
			if (pinned !== undefined) slot.copy = { ...slot.copy, pinned };
			if (pinned !== undefined) changed(true);
		},
		holderPid: (device) => states.get(device)?.holder.pid(),
		version: () => version,
		onChange(listener) {
			const entry = (): void => listener();
			listeners.add(entry);
			return { [Symbol.dispose]: () => void listeners.delete(entry) };
		},
		async [Symbol.asyncDispose]() {
			listeners.clear();
			stop.abort();
			await probe?.[Symbol.asyncDispose]();
			await looking;
			await Promise.all([...states.values()].map(({ holder }) => holder[Symbol.asyncDispose]()));
		},
	};
	return { room, looked };
}

function filesOf({ manifest, pathOf }: LoadInput): HeldFile[] {
	return manifest.files.map(({ path, size_bytes, part_size_bytes, xxh64 }) => ({
		path: pathOf(path),
		sizeBytes: size_bytes,
		partSizeBytes: part_size_bytes,
		xxh64,
	}));
}
