/** Requests that several lanes take; some come back or are added while others run. */

export interface WorkQueue<T> {
	add(...items: readonly T[]): void;
	/** Counts as under way until it settles; its failure ends the queue. */
	track(work: Promise<unknown>): void;
	/** A lane that waits looks again whether there is something for it. */
	poke(): void;
	/** Resolves when nothing waits and nothing is under way. @throws what the first failed work threw */
	run(lanes: number, work: (item: T, lane: number) => Promise<void>): Promise<void>;
}

export interface WorkQueueEvents<T> {
	/** Once, at the first failure, so that what is under way can be stopped. */
	onFailure: () => void;
	/** No item waits or is in a lane; tracked work may still add some. */
	onIdle: () => void;
	/** Which item comes next; undefined: none of them now. Default: the first. Its failure ends the queue. */
	take?: ((items: readonly T[]) => number | undefined) | undefined;
}

export function createWorkQueue<T>({ onFailure, onIdle, take = () => 0 }: WorkQueueEvents<T>): WorkQueue<T> {
	const items: T[] = [];
	let inLanes = 0;
	let underWay = 0;
	let failure: { error: unknown } | undefined;
	let wake = Promise.withResolvers<void>();

	const changed = (): void => {
		wake.resolve();
		wake = Promise.withResolvers<void>();
	};
	const next = (): T | undefined => {
		if (items.length === 0) return undefined;
		try {
			const at = take(items);
			return at === undefined ? undefined : items.splice(at, 1)[0];
		} catch (error) {
			track(Promise.reject(error));
			return undefined;
		}
	};
	const track = (work: Promise<unknown>): void => {
		underWay++;
		work
			.catch((error: unknown) => {
				if (failure !== undefined) return;
				failure = { error };
				onFailure();
			})
			.finally(() => {
				underWay--;
				changed();
			});
	};
	const lane = async (index: number, work: (item: T, lane: number) => Promise<void>): Promise<void> => {
		while (failure === undefined) {
			const item = next();
			if (item === undefined) {
				if (underWay === 0 && items.length === 0) return;
				await wake.promise;
				continue;
			}
			inLanes++;
			const done = work(item, index).finally(() => {
				inLanes--;
				if (inLanes === 0 && items.length === 0) onIdle();
			});
			track(done);
			await done.catch(() => {});
		}
	};
	return {
		add(...more) {
			items.push(...more);
			changed();
		},
		track,
		poke: changed,
		async run(lanes, work) {
			await Promise.all(Array.from({ length: lanes }, (_, index) => lane(index, work)));
			while (underWay > 0) await wake.promise;
			if (failure !== undefined) throw failure.error;
		},
	};
}
