import { expect, test } from "bun:test";
import fc from "fast-check";
import {
	type Reservation,
	firstConflict,
	mergeReservations,
	modesConflict,
} from "../../src/core/queue/conflicts.ts";

const reservation: fc.Arbitrary<Reservation> = fc.record({
	key: fc.constantFrom("device:disk", "device:gpu0", "model:a@disk", "model:b@disk"),
	mode: fc.constantFrom("shared", "exclusive"),
});
const some = fc.array(reservation, { maxLength: 6 });

test("only shared goes with shared", () => {
	expect(modesConflict("shared", "shared")).toBe(false);
	expect(modesConflict("shared", "exclusive")).toBe(true);
	expect(modesConflict("exclusive", "shared")).toBe(true);
	expect(modesConflict("exclusive", "exclusive")).toBe(true);
});

test("two tasks conflict the same way round and only over a key that both need", () => {
	fc.assert(
		fc.property(some, some, (one, other) => {
			const conflict = firstConflict(one, other);
			expect(conflict === undefined).toBe(firstConflict(other, one) === undefined);
			if (conflict !== undefined) expect(other.map(({ key }) => key)).toContain(conflict.key);
		}),
	);
});

test("shared reservations never conflict, whatever they are of", () => {
	fc.assert(
		fc.property(some, some, (one, other) => {
			const shared = (list: Reservation[]): Reservation[] => list.map(({ key }) => ({ key, mode: "shared" }));
			expect(firstConflict(shared(one), shared(other))).toBeUndefined();
		}),
	);
});

test("merging keeps each key once and conflicts with just what its parts conflicted with", () => {
	fc.assert(
		fc.property(some, some, (parts, other) => {
			const merged = mergeReservations(parts);
			expect(new Set(merged.map(({ key }) => key)).size).toBe(merged.length);
			expect(firstConflict(merged, other) === undefined).toBe(firstConflict(parts, other) === undefined);
			expect(mergeReservations([...parts].reverse())).toEqual(merged);
		}),
	);
});
