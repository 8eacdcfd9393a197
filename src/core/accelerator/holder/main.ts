/**
 * The entry of `gswarm __holder PLAN`: holds models in the memory of one device for the agent that started it. Orders
 * come as lines on stdin, reports go as lines to stdout. What it holds is gone when it ends, and it ends with its agent:
 * when stdin ends, and where the kernel can be asked, with the agent's process.
 */
import { dieWithParent } from "../../../platform/blocking-socket.ts";
import { systemClock } from "../../../platform/clock.ts";
import { createLineReader } from "../../../platform/line-reader.ts";
import { type Crew, CrewFailure, createCrew } from "./crew.ts";
import { type DeviceDriver, DeviceError } from "./driver.ts";
import { type HeldFile, type HolderPlan, MAX_ORDER_CHARS, type Order, type Report } from "./messages.ts";
import { openDriver } from "./open-driver.ts";
import type { PlacedFile } from "./pieces.ts";

/** Runs until stdin ends; the process is to end with it. */
export async function runHolder(args: readonly string[]): Promise<void> {
	dieWithParent();
	const plan = JSON.parse(args[0] ?? "") as HolderPlan;
	const out = Bun.stdout.writer();
	const tell = (report: Report): void => {
		void out.write(`${JSON.stringify(report)}\n`);
		void out.flush();
	};
	let driver: DeviceDriver;
	try {
		driver = openDriver(plan);
		tell({ kind: "open", ...driver.memory() });
	} catch (error) {
		if (!(error instanceof DeviceError)) throw error;
		tell({ kind: "unable", message: error.message, code: error.code });
		return;
	}
	const keeper = createKeeper({ driver, crew: createCrew(plan), tell });
	const read = createLineReader((line) => keeper.follow(JSON.parse(line) as Order), {
		maxChars: MAX_ORDER_CHARS,
	});
	for await (const piece of Bun.stdin.stream()) read(piece);
}

/** Progress is told this often at most. */
const TELL_EVERY_MS = 100;

interface Held {
	files: PlacedFile[];
	stop: AbortController;
}

interface Tools {
	driver: DeviceDriver;
	crew: Crew;
	tell: (report: Report) => void;
}

/** Does what is ordered one after the other: a device copies no faster for two. */
function createKeeper({ driver, crew, tell }: Tools): { follow(order: Order): void } {
	const held = new Map<number, Held>();
	let last: Promise<void> = Promise.resolve();
	const inTurn = (work: () => Promise<void>): void => {
		last = last.then(work);
	};
	const release = (id: number): void => {
		for (const { address, sizeBytes } of held.get(id)?.files ?? []) if (sizeBytes > 0) driver.free(address);
		held.delete(id);
	};
	const meter = (id: number, phase: "moving" | "verifying"): ((bytes: number) => void) => {
		let bytes = 0;
		let toldMs = systemClock.monotonicMs();
		return (more) => {
			bytes += more;
			const nowMs = systemClock.monotonicMs();
			if (nowMs - toldMs < TELL_EVERY_MS) return;
			toldMs = nowMs;
			tell({ kind: "progress", id, phase, bytes });
		};
	};
	const load = async ({ id, files, direct }: Extract<Order, { kind: "load" }>, one: Held): Promise<void> => {
		try {
			one.stop.signal.throwIfAborted();
			allocate(driver, files, one.files);
			tell({ kind: "allocated", id, freeBytes: driver.memory().freeBytes });
			const { signal } = one.stop;
			const job = { files: one.files, direct };
			const { isDirect } = await crew.run({ kind: "load", ...job }, meter(id, "moving"), signal);
			tell({ kind: "progress", id, phase: "verifying", bytes: 0 });
			const { bad } = await crew.run({ kind: "verify", ...job }, meter(id, "verifying"), signal);
			if (bad.length > 0) {
				release(id);
				tell({ kind: "verified", id, bad, freeBytes: freeBytesOf(driver) });
				return;
			}
			const handles = one.files.map((file) =>
				file.sizeBytes === 0 ? null : (driver.handleOf(file.address) ?? null),
			);
			tell({ kind: "loaded", id, freeBytes: driver.memory().freeBytes, handles, isDirect });
		} catch (error) {
			release(id);
			tell({ kind: "failed", id, ...describe(error, one.stop.signal, driver) });
		}
	};
	const verify = async (id: number, one: Held): Promise<void> => {
		const { signal } = one.stop;
		try {
			const job = { kind: "verify" as const, files: one.files, direct: false };
			const { bad } = await crew.run(job, meter(id, "verifying"), signal);
			tell({ kind: "verified", id, bad });
		} catch (error) {
			// What is held stays held, and may be asked about again.
			one.stop = new AbortController();
			tell({ kind: "failed", id, ...describe(error, signal, driver) });
		}
	};
	return {
		follow(order) {
			const { id } = order;
			switch (order.kind) {
				case "load": {
					const one: Held = { files: [], stop: new AbortController() };
					held.set(id, one);
					inTurn(() => load(order, one));
					return;
				}
				case "verify":
					inTurn(async () => {
						const one = held.get(id);
						if (one !== undefined) await verify(id, one);
					});
					return;
				case "unload":
					inTurn(() => {
						release(id);
						tell({ kind: "unloaded", id, freeBytes: driver.memory().freeBytes });
						return Promise.resolve();
					});
					return;
				case "cancel":
					held.get(id)?.stop.abort();
			}
		},
	};
}

/** Places for all files, in `placed` as they are made, so that whoever gives up knows what to free. */
function allocate(driver: DeviceDriver, files: readonly HeldFile[], placed: PlacedFile[]): void {
	for (const file of files) {
		const address = file.sizeBytes === 0 ? 0 : driver.allocate(file.sizeBytes);
		placed.push({ ...file, address });
	}
}

function freeBytesOf(driver: DeviceDriver): number | undefined {
	try {
		return driver.memory().freeBytes;
	} catch (error) {
		if (error instanceof DeviceError) return undefined;
		throw error;
	}
}

/** As it is told, when everything that was taken for it is free again. */
function describe(
	error: unknown,
	signal: AbortSignal,
	driver: DeviceDriver,
): Omit<Extract<Report, { kind: "failed" }>, "kind" | "id"> {
	const freeBytes = freeBytesOf(driver);
	if (signal.aborted) return { failure: "cancelled", message: "cancelled", freeBytes };
	if (error instanceof CrewFailure)
		return { failure: error.failure, message: error.message, code: error.code, freeBytes };
	if (!(error instanceof DeviceError)) throw error;
	const { message, code, isOutOfMemory } = error;
	return { failure: isOutOfMemory ? "memory" : "device", message, code, freeBytes };
}
