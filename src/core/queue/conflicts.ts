/** Which reservations can be held side by side. */

/** `shared` goes with other shared holders, `exclusive` with nobody. */
export type ReservationMode = "shared" | "exclusive";

/** A task's hold on a thing by name, e.g. `model:llama-7b@disk` or `device:gpu0`, or on bytes, e.g. `bytes:disk`. */
export interface Reservation {
	key: string;
	mode: ReservationMode;
	/** Bytes of a tier that the task may fill; left out or 0 for a hold on a thing. */
	bytes?: number;
}

/** A reservation of a task. */
export interface Hold extends Reservation {
	seq: number;
}

/** Bytes that tasks may hold together, by the key of their reservations; a key that is missing has no limit. */
export type Capacity = Readonly<Record<string, number>>;

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

/** The first of `needs` whose bytes do not fit beside those that are held; undefined when all do. */
export function firstShortage(
	needs: readonly Reservation[],
	held: readonly Reservation[],
	capacity: Capacity,
): Reservation | undefined {
	return needs.find((need) => {
		const limit = capacity[need.key];
		return (
			(need.bytes ?? 0) > 0 && limit !== undefined && bytesOf(held, need.key) + (need.bytes ?? 0) > limit
		);
	});
}

/** Bytes of one key that are held. */
export function bytesOf(held: readonly Reservation[], key: string): number {
	return held.reduce((sum, one) => (one.key === key ? sum + (one.bytes ?? 0) : sum), 0);
}

/** One reservation per key, exclusive where any of them is, bytes added up; sorted by key. */
export function mergeReservations(reservations: readonly Reservation[]): Reservation[] {
	const merged = new Map<string, Reservation>();
	for (const { key, mode, bytes = 0 } of reservations) {
		const known = merged.get(key);
		const all = bytes + (known?.bytes ?? 0);
		const together = known?.mode === "exclusive" ? known.mode : mode;
		merged.set(key, all === 0 ? { key, mode: together } : { key, mode: together, bytes: all });
	}
	return [...merged.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
}
