/** Requests under way at one upstream: the balancer reads it, a drain waits for it. */
import type { Clock } from "../../platform/clock.ts";

export class Load {
	#outstanding = 0;
	#total: number;
	#idle = Promise.withResolvers<void>();

	readonly #onBegin: (() => void) | undefined;

	constructor(total = 0, onBegin?: () => void) {
		this.#total = total;
		this.#onBegin = onBegin;
		this.#idle.resolve();
	}

	get outstanding(): number {
		return this.#outstanding;
	}

	/** Requests since the service was started. */
	get total(): number {
		return this.#total;
	}

	/** Counts a request in; the returned function counts it out, once. */
	begin(): () => void {
		if (this.#outstanding === 0) this.#idle = Promise.withResolvers();
		this.#outstanding++;
		this.#total++;
		this.#onBegin?.();
		let isOpen = true;
		return () => {
			if (!isOpen) return;
			isOpen = false;
			this.#outstanding--;
			if (this.#outstanding === 0) this.#idle.resolve();
		};
	}

	/** Resolves when nothing is under way, or after `limitMs`; true when nothing is. */
	async whenIdle({ clock }: { clock: Clock }, limitMs: number): Promise<boolean> {
		const done = new AbortController();
		await Promise.race([this.#idle.promise, clock.sleep(limitMs, done.signal)]);
		done.abort();
		return this.#outstanding === 0;
	}
}
