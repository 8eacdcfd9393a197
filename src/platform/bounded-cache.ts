/** A few answers kept in memory, with how often they were of use. Whoever fills one drops what is no longer true. */

export interface CacheFigures {
	name: string;
	hits: number;
	misses: number;
	entries: number;
	limit: number;
}

export interface BoundedCache<V> {
	/** The kept value, or what `make` answers, kept from now on. */
	get(key: string, make: () => V): V;
	/** As get, for what takes its time; what `make` fails with is not kept. */
	getLater(key: string, make: () => Promise<V>): Promise<V>;
	drop(key: string): void;
	clear(): void;
	figures(): CacheFigures;
}

/** The value that was asked for longest ago goes first. */
export function createBoundedCache<V>({ name, limit }: { name: string; limit: number }): BoundedCache<V> {
	const kept = new Map<string, { value: V }>();
	let [hits, misses] = [0, 0];
	const find = (key: string): { value: V } | undefined => {
		const found = kept.get(key);
		if (found === undefined) {
			misses++;
			return undefined;
		}
		hits++;
		kept.delete(key);
		kept.set(key, found);
		return found;
	};
	const keep = (key: string, value: V): V => {
		kept.delete(key);
		kept.set(key, { value });
		const [oldest] = kept.keys();
		if (kept.size > limit && oldest !== undefined) kept.delete(oldest);
		return value;
	};
	return {
		get(key, make) {
			const found = find(key);
			return found === undefined ? keep(key, make()) : found.value;
		},
		async getLater(key, make) {
			const found = find(key);
			return found === undefined ? keep(key, await make()) : found.value;
		},
		drop: (key) => void kept.delete(key),
		clear: () => kept.clear(),
		figures: () => ({ name, hits, misses, entries: kept.size, limit }),
	};
}
