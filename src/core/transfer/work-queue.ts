/** Requests that several lanes take; some come back or are added while others run. */

export interface WorkQueue<T> {
	add(...items: readonly T[]): void;
	/** Counts as under way until it settles; its failure ends the queue. */
	track(work: Promise<unknown>): void;
	/** Resolves when nothing waits and nothing is under way. @throws what the first failed work threw */
	run(lanes: number, work: (item: T, lane: number) => Promise<void>): Promise<void>;
}

export interface WorkQueueEvents {
	/** Once, at the first failure, so that what is under way can be stopped. */
	onFailure: () => void;
	/** No item waits or is in a lane; tracked work may still add some. */
	onIdle: () => void;
}

export function createWorkQueue<T>({ onFailure, onIdle }: WorkQueueEvents): WorkQueue<T> {
	const items: T[] = [];
	let inLanes = 0;
	let underWay = 0;
	let failure: { error: unknown } | undefined;
	let wake = Promise.withResolvers<void>();

	const changed = (): void => {
		wake.resolve();
		wake = Promise.withResolvers<void>();
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
			const item = items.shift();
			if (item === undefined) {
				if (underWay === 0) return;
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
		async run(lanes, work) {
			await Promise.all(Array.from({ length: lanes }, (_, index) => lane(index, work)));
			while (underWay > 0) await wake.promise;
			if (failure !== undefined) throw failure.error;
		},
	};
}
