/** One at a time per key: a change of one model's directory waits for the one before it. */
export function createTurns(): <T>(key: string, work: () => Promise<T>) => Promise<T> {
	const last = new Map<string, Promise<unknown>>();
	return async (key, work) => {
		const before = last.get(key);
		// How the one before ended is its caller's business.
		const turn = (async () => {
			await before?.catch(() => {});
			return work();
		})();
		last.set(key, turn);
		try {
			return await turn;
		} finally {
			if (last.get(key) === turn) last.delete(key);
		}
	};
}
