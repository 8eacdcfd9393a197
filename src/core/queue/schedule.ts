/**
 * Which of the tasks in line may start now: a pure function of the line, what runs, the limits and the time.
 * Waiting raises a task by one priority every five minutes, never to critical. A task that cannot start because of a
 * reservation is parked on it; when it was passed 16 times or has waited a minute, it plants what it needs, and
 * younger tasks respect that as if it were held.
 */
import {
	type Capacity,
	type Hold,
	type Reservation,
	type ReservationMode,
	firstConflict,
	firstShortage,
} from "./conflicts.ts";

const CRITICAL_RANK = 0;
const AGEING_STEP_MS = 5 * 60_000;
const MAX_BYPASSED = 16;
const LONGEST_PARKED_MS = 60_000;

/** Ranks of the priorities, the most urgent first. */
export const RANKS: readonly number[] = [0, 1, 2, 3];

/** A task in line. */
export interface Candidate {
	seq: number;
	rank: number;
	createdAtMs: number;
	needs: readonly Reservation[];
	/** Set when it was parked before. */
	parkedAtMs: number | undefined;
	bypassed: number;
}

/** A task that waits for one reservation, at the head of its line. */
export interface Waiter {
	seq: number;
	key: string;
	mode: ReservationMode;
	/** 0 when it waits for a thing. */
	bytes: number;
	parkedAtMs: number;
	bypassed: number;
}

export interface Limits {
	/** Tasks that may run at once. */
	slots: number;
	/** As many more, for critical tasks. */
	criticalSlots: number;
}

/** Of `held`, `planted` and `waiters`, at least what concerns the keys that the line needs. */
export interface Situation<Task extends Candidate = Candidate> {
	line: readonly Task[];
	held: readonly Hold[];
	/** What tasks that waited too long will take. */
	planted: readonly Hold[];
	waiters: readonly Waiter[];
	capacity: Capacity;
	running: number;
	limits: Limits;
	nowMs: number;
}

export interface Plan<Task extends Candidate = Candidate> {
	start: Task[];
	park: { candidate: Task; on: Reservation }[];
	/** Waiters that were passed, once for each task that passed them. */
	passed: number[];
	/** Tasks that plant what they need from now on. */
	plant: number[];
	/** True when the slots ended the plan; the rest of the line stays as it is. */
	full: boolean;
}

/** Decides for each task of the line in order: start, park, or (slots full) nothing. */
export function schedule<Task extends Candidate>(situation: Situation<Task>): Plan<Task> {
	const { line, held, planted, waiters, capacity, running, limits, nowMs } = situation;
	const plan: Plan<Task> = { start: [], park: [], passed: [], plant: [], full: false };
	const taken = [...held];
	for (const candidate of inOrder(line, nowMs)) {
		if (!hasSlot(candidate.rank, running + plan.start.length, limits)) {
			plan.full = true;
			break;
		}
		const { needs, seq } = candidate;
		const inTheWay = waiters.filter((waiter) => waiter.seq < seq && wantsTheSame(needs, waiter));
		const due = inTheWay.filter((waiter) => fitsAlone(waiter, capacity) && isDue(waiter, plan.passed, nowMs));
		const on = firstObstacle(candidate, taken, [...planted, ...due], capacity);
		if (on !== undefined) {
			plan.park.push({ candidate, on });
			if (wasPassedTooOften(candidate, nowMs)) plan.plant.push(seq);
		} else {
			plan.start.push(candidate);
			plan.passed.push(...inTheWay.map((waiter) => waiter.seq));
			taken.push(...needs.map((need) => ({ ...need, seq })));
		}
		for (const waiter of due) if (!plan.plant.includes(waiter.seq)) plan.plant.push(waiter.seq);
	}
	return plan;
}

/** Whether a parked task could have what it is parked on, now. */
export function mayWake(
	waiter: Waiter,
	held: readonly Hold[],
	planted: readonly Hold[],
	capacity: Capacity,
): boolean {
	return firstObstacle({ seq: waiter.seq, needs: [waiter] }, held, planted, capacity) === undefined;
}

/**
 * The first of its needs that a task cannot have: others hold it, or an older one that waited too long will take it.
 * What somebody holds is not counted a second time as planted, and what would not fit even alone holds up nobody.
 */
export function firstObstacle(
	{ seq, needs }: Pick<Candidate, "seq" | "needs">,
	held: readonly Hold[],
	planted: readonly Hold[],
	capacity: Capacity,
): Reservation | undefined {
	if (needs.length === 0) return undefined;
	const older = planted.filter((one) => one.seq < seq && fitsAlone(one, capacity));
	const more = older.filter((one) => !held.some((hold) => hold.seq === one.seq && hold.key === one.key));
	return (
		firstConflict(needs, held) ??
		firstConflict(needs, older) ??
		firstShortage(needs, [...held, ...more], capacity)
	);
}

/** The priority that counts after so much waiting. */
export function effectiveRank(rank: number, createdAtMs: number, nowMs: number): number {
	if (rank === CRITICAL_RANK) return CRITICAL_RANK;
	const raised = Math.max(0, Math.floor((nowMs - createdAtMs) / AGEING_STEP_MS));
	return Math.max(CRITICAL_RANK + 1, rank - raised);
}

/** By effective priority, then by age. */
export function inOrder<T extends Pick<Candidate, "seq" | "rank" | "createdAtMs">>(
	line: readonly T[],
	nowMs: number,
): T[] {
	const rankOf = (task: T): number => effectiveRank(task.rank, task.createdAtMs, nowMs);
	return [...line].sort((a, b) => rankOf(a) - rankOf(b) || a.seq - b.seq);
}

/** Whether one more task of this priority may run beside `running` others. */
export function hasSlot(rank: number, running: number, { slots, criticalSlots }: Limits): boolean {
	return running < slots || (rank === CRITICAL_RANK && running < slots + criticalSlots);
}

/** Whether who starts with these needs takes something that the waiter waits for. */
function wantsTheSame(needs: readonly Reservation[], waiter: Waiter): boolean {
	if (firstConflict(needs, [waiter]) !== undefined) return true;
	return waiter.bytes > 0 && needs.some(({ key, bytes = 0 }) => key === waiter.key && bytes > 0);
}

function fitsAlone(one: Reservation, capacity: Capacity): boolean {
	return firstShortage([one], [], capacity) === undefined;
}

function isDue({ seq, parkedAtMs, bypassed }: Waiter, passedNow: readonly number[], nowMs: number): boolean {
	const passed = bypassed + passedNow.filter((other) => other === seq).length;
	return passed >= MAX_BYPASSED || nowMs - parkedAtMs >= LONGEST_PARKED_MS;
}

/** A task that was woken, found what it waits for taken, and so is parked again. */
function wasPassedTooOften({ parkedAtMs, bypassed }: Candidate, nowMs: number): boolean {
	if (parkedAtMs === undefined) return false;
	return bypassed + 1 >= MAX_BYPASSED || nowMs - parkedAtMs >= LONGEST_PARKED_MS;
}
