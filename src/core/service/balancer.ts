/** In which order the instances of a model are tried. Pure. */

import type { BalancePolicy } from "../../schema/service.ts";

/**
 * Candidates in the order to try them. `turn` rises by one with each request, so that equals take turns under both
 * policies and an idle cluster does not send everything to its first instance.
 */
export function orderCandidates<T extends { outstanding: number }>(
	candidates: readonly T[],
	policy: BalancePolicy,
	turn: number,
): T[] {
	if (candidates.length === 0) return [];
	const first = turn % candidates.length;
	const rotated = [...candidates.slice(first), ...candidates.slice(0, first)];
	switch (policy) {
		case "round_robin":
			return rotated;
		case "least_outstanding":
			// The sort is stable, so the rotation decides between equals.
			return rotated.sort((one, other) => one.outstanding - other.outstanding);
	}
}
