/** A fixed set of things that one request at a time may use, with a bounded queue of those that wait. */
import { GswarmError } from "../../../../schema/errors.ts";

interface Waiter<T> {
	give(slot: T): void;
}

/** First come, first served. */
export class SlotPool<T> {
	readonly #free: T[];
	readonly #waiting: Waiter<T>[] = [];
	readonly #size: number;
	readonly #waitLimit: number;

	constructor(slots: readonly T[], options: { waitLimit: number }) {
		this.#free = [...slots];
		this.#size = slots.length;
		this.#waitLimit = options.waitLimit;
	}

	get busy(): number {
		return this.#size - this.#free.length;
	}

	get waiting(): number {
		return this.#waiting.length;
	}

	/**
	 * A slot, at once or in turn; give it back with `release`. `fitness` chooses among the free ones.
	 * Throws RESOURCE_UNAVAILABLE (503) when the queue is full, and the signal's reason when it aborts.
	 */
	acquire(signal: AbortSignal, fitness: (slot: T) => number = () => 0): Promise<T> {
		if (signal.aborted) return Promise.reject(signal.reason);
		const [first] = this.#free;
		if (first !== undefined) {
			const best = this.#free.reduce((a, b) => (fitness(b) > fitness(a) ? b : a), first);
			this.#free.splice(this.#free.indexOf(best), 1);
			return Promise.resolve(best);
		}
		if (this.#waiting.length >= this.#waitLimit)
			return Promise.reject(
				new GswarmError(
					"RESOURCE_UNAVAILABLE",
					`All ${this.#size} sequences are busy and ${this.#waiting.length} requests wait already.`,
					{ reason: "engine_busy", retryable: true, retryAfterS: 1 },
				),
			);
		return new Promise((resolve, reject) => {
			const waiter = {
				give: (slot: T) => {
					signal.removeEventListener("abort", leave);
					resolve(slot);
				},
			};
			const leave = () => {
				this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
				reject(signal.reason);
			};
			signal.addEventListener("abort", leave, { once: true });
			this.#waiting.push(waiter);
		});
	}

	release(slot: T): void {
		const next = this.#waiting.shift();
		// To the end: the first one then is the one unused for longest, whose cached prompt is missed least.
		if (next === undefined) this.#free.push(slot);
		else next.give(slot);
	}
}
