const FIRST_PAUSE_MS = 1;
const LONGEST_PAUSE_MS = 50;

/**
 * Waits until `condition` answers something truthy and returns that answer.
 * Fails with `what` when `deadlineMs` have passed; an error of the condition counts as "not yet" and is shown then.
 */
export async function until<Answer>(
	what: string,
	condition: () => Answer | Promise<Answer>,
	deadlineMs = 20_000,
): Promise<NonNullable<Answer>> {
	const deadline = performance.now() + deadlineMs;
	let pauseMs = FIRST_PAUSE_MS;
	for (;;) {
		let last: unknown;
		try {
			const answer = await condition();
			if (answer) return answer;
			last = answer;
		} catch (error) {
			last = error;
		}
		if (performance.now() > deadline) {
			const cause = last instanceof Error ? last : undefined;
			throw new Error(`waited ${deadlineMs} ms until ${what}; last answer: ${String(last)}`, { cause });
		}
		await Bun.sleep(pauseMs);
		pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
	}
}
