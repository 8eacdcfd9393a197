/** Work on many things, so many at once. */

/**
 * The results in order. The first failure stops the lanes, and is thrown once each has come to the end of what it had
 * begun, so that nothing goes on behind the caller's back.
 */
export async function inLanes<T>(
	count: number,
	lanes: number,
	work: (at: number) => Promise<T>,
): Promise<T[]> {
	const results: T[] = [];
	let next = 0;
	let failed = false;
	const lane = async (): Promise<void> => {
		while (next < count && !failed) {
			const at = next++;
			try {
				results[at] = await work(at);
			} catch (error) {
				failed = true;
				throw error;
			}
		}
	};
	const ends = await Promise.allSettled(Array.from({ length: Math.min(lanes, count) }, lane));
	for (const end of ends) if (end.status === "rejected") throw end.reason;
	return results;
}
