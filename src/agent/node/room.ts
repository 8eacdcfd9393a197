/**
 * Room on the tiers of this node, as its tasks take it. The queue keeps the count: bytes that do not fit beside what
 * other tasks hold are waited for in line, holding nothing, and what would not fit even alone is refused. What a tier
 * can evict by itself counts as room: it is made once a task has it.
 */
import { type Capacity, type TaskContext, bytesReservation } from "../../core/queue/queue.ts";
import type { Storage } from "../../core/storage/storage.ts";
import type { Eviction } from "./eviction.ts";

export interface Room {
	/** Bytes that tasks may hold together on each tier now, by the key of their reservations. */
	capacity(): Capacity;
	/** @throws 507 insufficient_space: more than all tasks together could have */
	fits: Eviction["fits"];
	/** Takes it for a task that runs. @throws 507 insufficient_space; no_room_now: the task goes back to the line */
	take(context: Pick<TaskContext, "reserve">, tier: string, bytes: number): Promise<void>;
}

export function createRoom({
	storage,
	eviction,
}: {
	storage: Pick<Storage, "tiers" | "roomForAll">;
	eviction: Pick<Eviction, "fits" | "evictableBytes">;
}): Room {
	const forAll = (tier: string): number => storage.roomForAll(tier) + eviction.evictableBytes(tier);
	return {
		capacity: () =>
			Object.fromEntries(storage.tiers().map(({ name }) => [bytesReservation(name, 0).key, forAll(name)])),
		fits: (tier, bytes) => eviction.fits(tier, bytes),
		async take({ reserve }, tier, bytes) {
			await eviction.fits(tier, bytes);
			await reserve(bytesReservation(tier, bytes));
		},
	};
}
