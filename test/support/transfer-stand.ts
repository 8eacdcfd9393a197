/** Transfers on temporary directories, with limits that make faults quick. */
import {
	createTransfers,
	type TransferInput,
	type TransferLimits,
	type TransferDependencies,
	transferModule,
	type Transfers,
} from "../../src/core/transfer/transfer.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { systemIds } from "../../src/platform/ids.ts";
import type { IoPool } from "../../src/platform/io-pool.ts";
import { silentLog } from "../../src/platform/log.ts";
import type { ModelCopy } from "../../src/schema/model.ts";
import { MODEL, type StorageStand, standStorage } from "./staged-model.ts";

export interface TransferStand extends AsyncDisposable {
	stand: StorageStand;
	transfers: Transfers;
	/** As a new start of the agent does. */
	restart(change?: { bootId?: string }): Promise<void>;
	run(input: Partial<TransferInput> & Pick<TransferInput, "source">): Promise<ModelCopy>;
}

const QUICK: Partial<TransferLimits> = { stallMs: 20_000, firstPauseMs: 1, longestPauseMs: 2 };

export async function standTransfers(
	directory: string,
	limits: Partial<TransferLimits> = {},
	options: Parameters<typeof standStorage>[1] & {
		io?: (io: IoPool) => IoPool;
		plane?: TransferDependencies["plane"];
		tags?: TransferDependencies["tags"];
	} = {},
): Promise<TransferStand> {
	const stand = await standStorage(directory, { ...options, modules: [transferModule] });
	const open = () =>
		createTransfers(
			{
				db: stand.db,
				storage: stand.storage,
				io: options.io?.(stand.io) ?? stand.io,
				clock: systemClock,
				ids: systemIds,
				log: silentLog,
				plane: options.plane,
				tags: options.tags,
			},
			{ ...QUICK, ...limits },
		);
	const held: TransferStand = {
		stand,
		transfers: await open(),
		async restart(change) {
			await held.transfers[Symbol.asyncDispose]();
			await stand.restart(change);
			held.transfers = await open();
		},
		run: (input) =>
			held.transfers.run({
				transferId: "download-1",
				tier: "disk",
				model: MODEL,
				modelType: "llm",
				signal: new AbortController().signal,
				...input,
			}),
		async [Symbol.asyncDispose]() {
			await held.transfers[Symbol.asyncDispose]();
			await stand[Symbol.asyncDispose]();
		},
	};
	return held;
}
