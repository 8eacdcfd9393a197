/** What is known of an instance: its row in memory, changed through the transition table, and written when it changed. */
import type { Log } from "../../platform/log.ts";
import type { ProcessIdentity } from "../../platform/process.ts";
import { type InstanceEvent, nextState } from "./instance-states.ts";
import type { Load } from "./load.ts";
import type { ServiceRow, ServiceStore } from "./service-store.ts";

export class InstanceRecord {
	readonly row: ServiceRow;
	readonly #store: ServiceStore;
	readonly #log: Log;
	readonly #load: Load;
	readonly #onChange: () => void;
	#isUnsaved = false;
	#changed = Promise.withResolvers<void>();

	constructor(
		{ store, log, load, onChange }: { store: ServiceStore; log: Log; load: Load; onChange: () => void },
		row: ServiceRow,
	) {
		this.row = row;
		this.#store = store;
		this.#log = log;
		this.#load = load;
		this.#onChange = onChange;
	}

	/** The row on disk is older than the one in memory, because writing it failed. */
	get isUnsaved(): boolean {
		return this.#isUnsaved;
	}

	move(event: InstanceEvent): void {
		const from = this.row.state;
		const to = nextState(from, event);
		if (to === undefined) throw new Error(`an instance that is ${from} knows no ${event}`);
		this.row.state = to;
		if (from !== to) this.#log.info("service.state", { from, to });
		this.signalChange();
	}

	signalChange(): void {
		this.#changed.resolve();
		this.#changed = Promise.withResolvers();
		this.#onChange();
	}

	/** Resolves at the next change, or when the signal aborts. */
	async whenChanged(signal: AbortSignal): Promise<void> {
		const aborted = Promise.withResolvers<void>();
		const onAbort = (): void => aborted.resolve();
		signal.addEventListener("abort", onAbort, { once: true });
		await Promise.race([this.#changed.promise, aborted.promise]);
		signal.removeEventListener("abort", onAbort);
	}

	setProcess({ pid, startTime, bootId }: ProcessIdentity): void {
		Object.assign(this.row, { pid, start_time: startTime, boot_id: bootId });
	}

	clearProcess(): void {
		Object.assign(this.row, { pid: null, start_time: null, boot_id: null, base_url: null });
	}

	async save(): Promise<void> {
		this.row.requests = this.#load.total;
		await this.#store.put({ ...this.row });
		this.#isUnsaved = false;
	}

	/** Where a full disk must not cost a running engine; the row is written at the next chance. */
	async trySave(): Promise<void> {
		try {
			await this.save();
		} catch (error) {
			this.#isUnsaved = true;
			this.#log.warn("service.row_unsaved", { error });
		}
	}
}
