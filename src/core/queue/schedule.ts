/**
 * Which of the tasks in line may start now: a pure function of the line, what runs, the limits and the time.
 * Waiting raises a task by one priority every five minutes, never to critical. A task that cannot start because of a
 * reservation is parked on it; when it was passed 16 times or has waited a minute, it plants what it needs, and
 * younger tasks respect that as if it were held.
 */
import { type Reservation, type ReservationMode, firstConflict } from "./conflicts.ts";

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
	parkedAtMs: number;
	bypassed: number;
}

/** A reservation that a task which waited too long will take. */
export interface Planted extends Reservation {
	seq: number;
}

export interface Limits {
	/** Tasks that may run at once. */
	slots: number;
	/** As many more, for critical tasks. */
	criticalSlots: number;
}

/** Of `held`, `planted` and `waiters`, at least what concerns the keys that the line needs. */
export interface Situation {
	line: readonly Candidate[];
	held: readonly Reservation[];
	planted: readonly Planted[];
	waiters: readonly Waiter[];
	running: number;
	limits: Limits;
	nowMs: number;
}

export interface Plan {
	start: Candidate[];
	park: { candidate: Candidate; on: Reservation }[];
	/** Waiters that were passed, once for each task that passed them. */
	passed: number[];
	/** Tasks that plant what they need from now on. */
	plant: number[];
	/** True when the slots ended the plan; the rest of the line stays as it is. */
	full: boolean;
}

/** Decides for each task of the line in order: start, park, or (slots full) nothing. */
export function schedule({ line, held, planted, waiters, running, limits, nowMs }: Situation): Plan {
	const plan: Plan = { start: [], park: [], passed: [], plant: [], full: false };
	const taken = [...held];
	for (const candidate of inOrder(line, nowMs)) {
		if (!hasSlot(candidate.rank, running + plan.start.length, limits)) {
			plan.full = true;
			break;
		}
		const { needs, seq } = candidate;
		const inTheWay = waiters.filter(
			(waiter) => waiter.seq < seq && firstConflict(needs, [waiter]) !== undefined,
		);
		const due = inTheWay.filter((waiter) => isDue(waiter, plan.passed, nowMs));
		const on = firstConflict(needs, taken) ?? firstPlanted(candidate, planted) ?? firstConflict(needs, due);
		if (on !== undefined) {
			plan.park.push({ candidate, on });
			if (wasPassedTooOften(candidate, nowMs)) plan.plant.push(seq);
		} else {
			plan.start.push(candidate);
			plan.passed.push(...inTheWay.map((waiter) => waiter.seq));
			taken.push(...needs);
		}
		for (const waiter of due) if (!plan.plant.includes(waiter.seq)) plan.plant.push(waiter.seq);
	}
	return plan;
}

/** Whether a parked task could have what it is parked on, now. */
export function mayWake(waiter: Waiter, held: readonly Reservation[], planted: readonly Planted[]): boolean {
	return (
		firstConflict([waiter], held) === undefined &&
		firstPlanted({ seq: waiter.seq, needs: [waiter] }, planted) === undefined
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

function firstPlanted(
	{ seq, needs }: Pick<Candidate, "seq" | "needs">,
	planted: readonly Planted[],
): Reservation | undefined {
	return firstConflict(
		needs,
		planted.filter((one) => one.seq < seq),
	);
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
