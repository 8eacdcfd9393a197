/** Which reservations can be held side by side. */

/** `shared` goes with other shared holders, `exclusive` with nobody. */
export type ReservationMode = "shared" | "exclusive";

/** A task's hold on a thing by name, e.g. `model:llama-7b@disk` or `device:gpu0`. */
export interface Reservation {
	key: string;
	mode: ReservationMode;
}

/** Whether two holds on the same thing exclude each other. */
export function modesConflict(one: ReservationMode, other: ReservationMode): boolean {
	return one === "exclusive" || other === "exclusive";
}

/** The first of `needs` that conflicts with something held; undefined when all can be taken. */
export function firstConflict(
	needs: readonly Reservation[],
	held: readonly Reservation[],
): Reservation | undefined {
	return needs.find((need) =>
		held.some(({ key, mode }) => key === need.key && modesConflict(mode, need.mode)),
	);
}

/** One reservation per key, exclusive where any of them is, sorted by key. */
export function mergeReservations(reservations: readonly Reservation[]): Reservation[] {
	const modes = new Map<string, ReservationMode>();
	for (const { key, mode } of reservations) {
		if (mode === "exclusive" || !modes.has(key)) modes.set(key, mode);
	}
	return [...modes].map(([key, mode]) => ({ key, mode })).sort((a, b) => (a.key < b.key ? -1 : 1));
}
