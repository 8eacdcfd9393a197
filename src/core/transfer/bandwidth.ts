/**
 * The rate at which bytes pass, of each transfer and of all together, changeable while they pass. Whoever has moved
 * bytes waits afterwards until they are paid for. Where all together are limited, transfers share by bytes, so
 * that a small one has its part beside any number of streams of a large one.
 */
import type { Clock } from "../../platform/clock.ts";
import { type FairShare, type Waiting, createFairShare } from "./fair-share.ts";
import type { Throttle } from "./throttle.ts";

/** Bytes per second; undefined: no limit. */
export type Rate = number | undefined;

/** What one transfer has of it. */
export interface Lane extends Throttle, Disposable {
	/** Whether there is any limit on it now. */
	isLimited(): boolean;
}

export interface Bandwidth {
	/** With the limit that the transfer was started with. Dispose it when the transfer has ended. */
	join(transferId: string, limit: Rate): Lane;
	/** Of all together: the node's own limit, and its share of the cluster's; the lower one counts. */
	setNode(limits: { own?: Rate; share?: Rate }): void;
	/** Of one transfer from now on, also when it is run again; undefined: what it was started with does not count. */
	setTransfer(transferId: string, limit: Rate): void;
	/** The transfer will not be run again. */
	forget(transferId: string): void;
	/** What counts now. */
	limits(): { own: Rate; share: Rate };
}

/** How often those who wait are looked after. */
const TICK_MS = 20;

export function createBandwidth({ clock }: { clock: Clock }, own?: Rate): Bandwidth {
	const share: FairShare = createFairShare(clock.monotonicMs());
	const changed = new Map<string, Rate>();
	const started = new Map<string, Rate>();
	/** Those who have joined under a name: several requests of one receiver, for one. */
	const members = new Map<string, number>();
	let node: { own: Rate; share: Rate } = { own, share: undefined };
	let ticking = false;

	const limitOf = (id: string): Rate => (changed.has(id) ? changed.get(id) : started.get(id));
	const advance = (): void => {
		for (const { release } of share.advance(clock.monotonicMs())) release();
	};
	const keepTicking = async (): Promise<void> => {
		if (ticking) return;
		ticking = true;
		while (share.isWaiting()) {
			await clock.sleep(TICK_MS);
			advance();
		}
		ticking = false;
	};
	const setNode: Bandwidth["setNode"] = (limits) => {
		advance();
		node = { ...node, ...limits };
		share.setRate(lower(node.own, node.share));
		advance();
	};
	setNode({});
	return {
		join(id, limit) {
			started.set(id, limit);
			members.set(id, (members.get(id) ?? 0) + 1);
			share.setFlowRate(id, limitOf(id));
			return {
				isLimited: () => limitOf(id) !== undefined || lower(node.own, node.share) !== undefined,
				pass(bytes, signal) {
					if (signal.aborted) return Promise.resolve();
					return new Promise((resolve) => {
						const done = (): void => {
							signal.removeEventListener("abort", aborted);
							resolve();
						};
						const waiting: Waiting = { bytes, release: done };
						const aborted = (): void => {
							share.remove(id, waiting);
							done();
						};
						signal.addEventListener("abort", aborted, { once: true });
						share.add(id, waiting);
						advance();
						if (share.isWaiting()) void keepTicking();
					});
				},
				[Symbol.dispose]() {
					const left = (members.get(id) ?? 1) - 1;
					members.set(id, left);
					if (left > 0) return;
					members.delete(id);
					started.delete(id);
					for (const { release } of share.leave(id)) release();
				},
			};
		},
		setNode,
		setTransfer(id, limit) {
			changed.set(id, limit);
			if (!started.has(id)) return;
			advance();
			share.setFlowRate(id, limit);
			advance();
		},
		forget: (id) => void changed.delete(id),
		limits: () => ({ ...node }),
	};
}

/** The lower of two limits. */
export function lower(a: Rate, b: Rate): Rate {
	if (a === undefined || b === undefined) return a ?? b;
	return Math.min(a, b);
}
