import { expect, test } from "bun:test";
import fc from "fast-check";
import { type Hold, type Reservation, bytesOf, firstConflict } from "../../src/core/queue/conflicts.ts";
import {
	type Candidate,
	type Situation,
	type Waiter,
	effectiveRank,
	hasSlot,
	inOrder,
	schedule,
} from "../../src/core/queue/schedule.ts";

const MINUTE_MS = 60_000;
const NOW_MS = 100 * MINUTE_MS;

const key = fc.constantFrom("a", "b", "c");
const room = fc.record({
	key: fc.constantFrom("bytes:d"),
	mode: fc.constant("shared" as const),
	bytes: fc.integer({ min: 1, max: 12 }),
});
const reservation: fc.Arbitrary<Reservation> = fc.oneof(
	fc.record({ key, mode: fc.constantFrom("shared" as const, "exclusive" as const) }),
	room,
);
const needs = fc.uniqueArray(reservation, { maxLength: 3, selector: (one) => one.key });
const candidate: fc.Arbitrary<Candidate> = fc.record({
	seq: fc.integer({ min: 1, max: 60 }),
	rank: fc.integer({ min: 0, max: 3 }),
	createdAtMs: fc.integer({ min: NOW_MS - 30 * MINUTE_MS, max: NOW_MS }),
	needs,
	parkedAtMs: fc.option(fc.integer({ min: NOW_MS - 2 * MINUTE_MS, max: NOW_MS }), { nil: undefined }),
	bypassed: fc.integer({ min: 0, max: 20 }),
});
const someHold: fc.Arbitrary<Hold> = fc
	.tuple(reservation, fc.integer({ min: 71, max: 80 }))
	.map(([one, seq]) => ({ ...one, seq }));
const planted: fc.Arbitrary<Hold> = fc
	.tuple(reservation, fc.integer({ min: 1, max: 60 }))
	.map(([one, seq]) => ({ ...one, seq }));
const waiter: fc.Arbitrary<Waiter> = fc
	.tuple(
		reservation,
		fc.record({
			seq: fc.integer({ min: 1, max: 70 }),
			parkedAtMs: fc.integer({ min: NOW_MS - 2 * MINUTE_MS, max: NOW_MS }),
			bypassed: fc.integer({ min: 0, max: 20 }),
		}),
	)
	.map(([one, rest]) => ({ bytes: 0, ...one, ...rest }));
const situation: fc.Arbitrary<Situation> = fc.record({
	line: fc.uniqueArray(candidate, { maxLength: 12, selector: ({ seq }) => seq }),
	held: fc.array(someHold, { maxLength: 3 }),
	planted: fc.array(planted, { maxLength: 3 }),
	waiters: fc.array(waiter, { maxLength: 3 }),
	capacity: fc.oneof(
		fc.constant({}),
		fc.integer({ min: 0, max: 20 }).map((bytes) => ({ "bytes:d": bytes })),
	),
	running: fc.integer({ min: 0, max: 6 }),
	limits: fc.record({ slots: fc.integer({ min: 1, max: 5 }), criticalSlots: fc.integer({ min: 0, max: 1 }) }),
	nowMs: fc.constant(NOW_MS),
});

test("what starts never conflicts with what is held, with each other, or with what an older task planted", () => {
	fc.assert(
		fc.property(situation, (given) => {
			const { start } = schedule(given);
			const taken = [...given.held];
			for (const { needs: wanted, seq } of start) {
				expect(firstConflict(wanted, taken)).toBeUndefined();
				expect(
					firstConflict(
						wanted,
						given.planted.filter((one) => one.seq < seq),
					),
				).toBeUndefined();
				taken.push(...wanted.map((one) => ({ ...one, seq })));
			}
		}),
	);
});

test("what starts never takes more bytes together than there are", () => {
	fc.assert(
		fc.property(situation, (given) => {
			const { start } = schedule(given);
			const limit = given.capacity["bytes:d"] ?? Number.POSITIVE_INFINITY;
			const before = bytesOf(given.held, "bytes:d");
			const added = bytesOf(
				start.flatMap((one) => one.needs),
				"bytes:d",
			);
			if (added > 0) expect(before + added).toBeLessThanOrEqual(limit);
		}),
	);
});

test("the slots are never exceeded, and the one kept is for critical tasks alone", () => {
	fc.assert(
		fc.property(situation, (given) => {
			const { start } = schedule(given);
			const { slots, criticalSlots } = given.limits;
			if (start.length > 0) expect(given.running + start.length).toBeLessThanOrEqual(slots + criticalSlots);
			const beyond = start.slice(Math.max(0, slots - given.running));
			expect(beyond.every(({ rank }) => rank === 0)).toBe(true);
		}),
	);
});

test("every task of the line starts or is parked, in order, until the slots are full", () => {
	fc.assert(
		fc.property(situation, (given) => {
			const { start, park, full } = schedule(given);
			const decided = new Set([...start, ...park.map((one) => one.candidate)].map(({ seq }) => seq));
			expect(decided.size).toBe(start.length + park.length);
			const order = inOrder(given.line, given.nowMs).map(({ seq }) => seq);
			expect(order.slice(0, decided.size).every((seq) => decided.has(seq))).toBe(true);
			if (!full) expect(decided.size).toBe(order.length);
			else
				expect(
					hasSlot(
						given.line.find(({ seq }) => seq === order[decided.size])?.rank ?? 0,
						given.running + start.length,
						given.limits,
					),
				).toBe(false);
		}),
	);
});

test("a task is parked only on something that it needs", () => {
	fc.assert(
		fc.property(situation, (given) => {
			for (const { candidate: task, on } of schedule(given).park) expect(task.needs).toContainEqual(on);
		}),
	);
});

const plain = (seq: number, more: Partial<Candidate> = {}): Candidate => ({
	seq,
	rank: 2,
	createdAtMs: NOW_MS,
	needs: [],
	parkedAtMs: undefined,
	bypassed: 0,
	...more,
});
const empty: Situation = {
	line: [],
	held: [],
	planted: [],
	waiters: [],
	capacity: {},
	running: 0,
	limits: { slots: 4, criticalSlots: 1 },
	nowMs: NOW_MS,
};
const started = (given: Partial<Situation>): number[] =>
	schedule({ ...empty, ...given }).start.map(({ seq }) => seq);

test("the more urgent goes first, and the older of two equals", () => {
	expect(started({ line: [plain(1, { rank: 3 }), plain(3), plain(2), plain(4, { rank: 0 })] })).toEqual([
		4, 2, 3, 1,
	]);
});

test("waiting raises a task by one priority every five minutes and never to critical", () => {
	expect(effectiveRank(3, 0, 5 * MINUTE_MS - 1)).toBe(3);
	expect(effectiveRank(3, 0, 5 * MINUTE_MS)).toBe(2);
	expect(effectiveRank(3, 0, 10 * MINUTE_MS)).toBe(1);
	expect(effectiveRank(3, 0, 1000 * MINUTE_MS)).toBe(1);
	expect(effectiveRank(0, 0, 0)).toBe(0);
	expect(effectiveRank(2, 10, 0)).toBe(2);
});

test("with all slots taken a critical task still starts, and only one", () => {
	const line = [plain(1), plain(2, { rank: 0 }), plain(3, { rank: 0 })];
	expect(started({ line, running: 4 })).toEqual([2]);
	expect(started({ line, running: 5 })).toEqual([]);
});

const reader: Hold[] = [{ key: "a", mode: "shared", seq: 90 }];
const writer: Waiter = { seq: 1, key: "a", mode: "exclusive", bytes: 0, parkedAtMs: NOW_MS, bypassed: 0 };

test("a reader passes a waiting writer 16 times and then waits behind it", () => {
	const line = [plain(5, { needs: reader })];
	const passing = schedule({ ...empty, line, held: reader, waiters: [{ ...writer, bypassed: 15 }] });
	expect(passing).toMatchObject({ start: [{ seq: 5 }], passed: [1], plant: [] });
	const stopped = schedule({ ...empty, line, held: reader, waiters: [{ ...writer, bypassed: 16 }] });
	expect(stopped).toMatchObject({ start: [], park: [{ candidate: { seq: 5 } }], plant: [1] });
});

test("readers that start in one go are counted one by one", () => {
	const line = [5, 6, 7].map((seq) => plain(seq, { needs: reader }));
	const plan = schedule({ ...empty, line, held: reader, waiters: [{ ...writer, bypassed: 14 }] });
	expect(plan.start.map(({ seq }) => seq)).toEqual([5, 6]);
	expect(plan.plant).toEqual([1]);
});

test("after a minute no younger task passes a waiting writer, and an older one still may", () => {
	const waiters = [{ ...writer, seq: 5, parkedAtMs: NOW_MS - MINUTE_MS }];
	expect(started({ line: [plain(6, { needs: reader })], held: reader, waiters })).toEqual([]);
	expect(started({ line: [plain(4, { needs: reader })], held: reader, waiters })).toEqual([4]);
});

test("a task that was woken and found its place taken plants what it needs when it has waited a minute", () => {
	const late = plain(3, { needs: [{ key: "a", mode: "exclusive" }], parkedAtMs: NOW_MS - MINUTE_MS });
	expect(schedule({ ...empty, line: [late], held: reader }).plant).toEqual([3]);
	expect(schedule({ ...empty, line: [{ ...late, parkedAtMs: NOW_MS }], held: reader }).plant).toEqual([]);
});

const bytes = (amount: number): Reservation => ({ key: "bytes:d", mode: "shared", bytes: amount });

test("a task starts when its bytes fit beside those of others, and a smaller one may pass it 16 times", () => {
	const capacity = { "bytes:d": 10 };
	const held = [{ ...bytes(6), seq: 90 }];
	const line = [plain(1, { needs: [bytes(5)] }), plain(2, { needs: [bytes(4)] })];
	expect(started({ line, held, capacity })).toEqual([2]);
	expect(started({ line, capacity })).toEqual([1, 2]);
	const large = { seq: 1, key: "bytes:d", mode: "shared", bytes: 5, parkedAtMs: NOW_MS } as const;
	const small = [plain(2, { needs: [bytes(4)] })];
	const passing = schedule({ ...empty, capacity, held, line: small, waiters: [{ ...large, bypassed: 15 }] });
	expect(passing).toMatchObject({ start: [{ seq: 2 }], passed: [1] });
	const stopped = schedule({ ...empty, capacity, held, line: small, waiters: [{ ...large, bypassed: 16 }] });
	expect(stopped).toMatchObject({ start: [], plant: [1] });
});

test("a task that would not fit into an empty tier holds up nobody, however long it waits", () => {
	const giant = { seq: 1, key: "bytes:d", mode: "shared", bytes: 50, parkedAtMs: 0, bypassed: 99 } as const;
	const given = {
		capacity: { "bytes:d": 10 },
		line: [plain(2, { needs: [bytes(4)] })],
		waiters: [giant],
		planted: [{ ...bytes(50), seq: 1 }],
	};
	expect(started(given)).toEqual([2]);
});

test("bytes that a task both planted and holds count once", () => {
	const capacity = { "bytes:d": 10 };
	const mine = { ...bytes(5), seq: 1 };
	expect(
		started({ capacity, line: [plain(2, { needs: [bytes(5)] })], held: [mine], planted: [mine] }),
	).toEqual([2]);
});
