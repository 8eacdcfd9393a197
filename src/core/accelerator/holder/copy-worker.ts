/** The entry of a copying thread: takes jobs one after the other, each to its end. A build must make it an entry point. */
import { createXxh64Factory } from "../../../platform/hash.ts";
import {
	Cancelled,
	type Copier,
	type CopyJob,
	type CopyResult,
	createCopier,
	FileTrouble,
} from "./copier.ts";
import { DeviceError } from "./driver.ts";
import type { HolderFailure, HolderPlan } from "./messages.ts";
import { openDriver } from "./open-driver.ts";

export interface CopyOrder {
	plan: HolderPlan;
	job: CopyJob;
}

export type CopyReport =
	| { kind: "bytes"; bytes: number }
	| ({ kind: "done" } & CopyResult)
	| { kind: "failed"; failure: HolderFailure; message: string; code?: string | undefined };

const scope = globalThis as unknown as {
	postMessage(message: CopyReport): void;
	onmessage: (event: MessageEvent<CopyOrder>) => void;
};
// A message that comes while a top-level await waits would be lost: the handler is there from the first moment.
const newXxh64 = createXxh64Factory();
let copier: Copier | undefined;

scope.onmessage = (event) => {
	void run(event.data);
};

async function run({ plan, job }: CopyOrder): Promise<void> {
	const hashes = await newXxh64;
	try {
		copier ??= createCopier({
			driver: openDriver(plan),
			newXxh64: hashes,
			onBytes: (bytes) => scope.postMessage({ kind: "bytes", bytes }),
		});
		scope.postMessage({ kind: "done", ...copier.run(job) });
	} catch (error) {
		scope.postMessage({ kind: "failed", ...describe(error) });
	}
}

function describe(error: unknown): { failure: HolderFailure; message: string; code?: string | undefined } {
	if (error instanceof Cancelled) return { failure: "cancelled", message: "cancelled" };
	if (error instanceof FileTrouble) return { failure: "file", message: error.message, code: error.code };
	if (error instanceof DeviceError) return { failure: "device", message: error.message, code: error.code };
	throw error;
}
