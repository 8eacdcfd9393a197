import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { choosePart, ownerOf, type SwarmPeer, type SwarmState } from "../../src/core/transfer/swarm-plan.ts";

setDefaultTimeout(60_000);

function peer(id: string, more: Partial<SwarmPeer> & { parts?: readonly number[] } = {}): SwarmPeer {
	const { parts = [], ...rest } = more;
	return {
		id,
		isOrigin: false,
		has: (part) => rest.isOrigin === true || parts.includes(part),
		isReading: () => false,
		inFlight: 0,
		maxInFlight: 2,
		rateBytesPerSecond: undefined,
		...rest,
	};
}

function state(more: Partial<SwarmState>): SwarmState {
	return { wanted: [], peers: [], members: [true], self: 0, isIdle: false, ...more };
}

describe("the next part", () => {
	const origin = peer("origin", { isOrigin: true });

	test("is first one that is ours to bring and that nobody has", () => {
		const relay = peer("relay", { parts: [0, 2] });
		const chosen = choosePart(
			state({ wanted: [0, 1, 2, 3], peers: [relay, origin], members: [true, true], self: 1 }),
		);
		expect(chosen).toEqual({ part: 1, peer: "origin" });
	});

	test("is then the rarest of what others have", () => {
		const peers = [
			peer("a", { parts: [0, 2, 4] }),
			peer("b", { parts: [0, 2] }),
			peer("c", { parts: [0] }),
			origin,
		];
		const members = [true, true];
		expect(choosePart(state({ wanted: [0, 2, 4], peers, members, self: 1 }))).toEqual({ part: 4, peer: "a" });
		expect(choosePart(state({ wanted: [0, 2], peers, members, self: 1 }))?.part).toBe(2);
	});

	test("comes from who will have sent it soonest", () => {
		const peers = [
			peer("slow", { parts: [0], rateBytesPerSecond: 10 }),
			peer("fast", { parts: [0], rateBytesPerSecond: 100 }),
			peer("busy", { parts: [0], rateBytesPerSecond: 150, inFlight: 1 }),
		];
		expect(choosePart(state({ wanted: [0], peers, members: [true, true], self: 1 }))?.peer).toBe("fast");
	});

	test("is not asked of the origin twice while its owner brings it, unless nobody does anything else", () => {
		const bringing = peer("owner", { isReading: (part) => part === 0 });
		const at = { wanted: [0, 2], peers: [bringing, origin], members: [true, true], self: 1 };
		expect(choosePart(state(at))).toBeUndefined();
		expect(choosePart(state({ ...at, isIdle: true }))).toEqual({ part: 2, peer: "origin" });
		expect(choosePart(state({ ...at, wanted: [0], isIdle: true }))).toBeUndefined();
	});

	test("of a member who is away is brought by the next one", () => {
		expect([0, 1, 2, 3].map((part) => ownerOf(part, [true, false, true]))).toEqual([0, 2, 2, 0]);
		expect(ownerOf(5, [false, false])).toBe(-1);
	});

	test("comes from the origin where a relay is much slower", () => {
		const relay = peer("relay", { parts: [0], rateBytesPerSecond: 10 });
		const quick = peer("origin", { isOrigin: true, rateBytesPerSecond: 1000 });
		const at = { wanted: [0], members: [true, true], self: 1 };
		expect(choosePart(state({ ...at, peers: [relay, quick] }))?.peer).toBe("origin");
		const same = peer("origin", { isOrigin: true, rateBytesPerSecond: 20 });
		expect(choosePart(state({ ...at, peers: [relay, same] }))?.peer).toBe("relay");
	});

	test("that came wrong once comes from the origin, whoever has it", () => {
		const relay = peer("relay", { parts: [0] });
		const at = { wanted: [0], members: [true, true], self: 1, isDoubtful: () => true };
		expect(choosePart(state({ ...at, peers: [relay, origin] }))?.peer).toBe("origin");
	});
});

/** A small generator of numbers, the same for the same seed. */
function numbers(seed: number): (below: number) => number {
	let now = seed >>> 0 || 1;
	return (below) => {
		now ^= now << 13;
		now ^= now >>> 17;
		now ^= now << 5;
		return (now >>> 0) % below;
	};
}

interface Running {
	part: number;
	from: string;
	left: number;
}

/** Receivers that follow the plan, with news a step late and lines of different speeds; who dies is silent. */
function simulate(seed: number): { sent: number; parts: number; receivers: number; whole: boolean } {
	const draw = numbers(seed);
	const receivers = 1 + draw(8);
	const parts = 8 + draw(40);
	const speeds = Array.from({ length: receivers }, () => 1 + draw(3));
	const dies = draw(3) === 0 && receivers > 1 ? { who: draw(receivers), at: draw(60) } : undefined;
	const have = Array.from({ length: receivers }, () => new Set<number>());
	let seen = have.map((set) => new Set(set));
	const running: Running[][] = Array.from({ length: receivers }, () => []);
	const idle = Array.from({ length: receivers }, () => 0);
	let sent = 0;
	for (let step = 0; step < 5000; step++) {
		const isDead = (who: number): boolean => dies !== undefined && dies.who === who && step >= dies.at;
		for (let who = 0; who < receivers; who++) {
			if (isDead(who)) continue;
			const mine = running[who] ?? [];
			for (;;) {
				const wanted = Array.from({ length: parts }, (_, part) => part).filter(
					(part) => have[who]?.has(part) !== true && !mine.some((one) => one.part === part),
				);
				const inFlight = (id: string): number => mine.filter((one) => one.from === id).length;
				const relays = have.flatMap((_, other) =>
					other === who || isDead(other)
						? []
						: [
								peer(String(other), {
									has: (part) => seen[other]?.has(part) === true,
									isReading: (part) =>
										running[other]?.some((one) => one.from === "origin" && one.part === part) === true,
									inFlight: inFlight(String(other)),
								}),
							],
				);
				const chosen = choosePart({
					wanted,
					peers: [
						...relays,
						peer("origin", { isOrigin: true, inFlight: inFlight("origin"), maxInFlight: 1 }),
					],
					members: have.map((_, other) => !isDead(other)),
					self: who,
					isIdle: (idle[who] ?? 0) > 5,
				});
				if (chosen === undefined) break;
				expect(wanted).toContain(chosen.part);
				// Nobody has a part on its way twice, from wherever.
				expect(mine.some((one) => one.part === chosen.part)).toBe(false);
				if (chosen.peer === "origin") sent++;
				else expect(seen[Number(chosen.peer)]?.has(chosen.part)).toBe(true);
				mine.push({ ...chosen, from: chosen.peer, left: 4 });
			}
			idle[who] = mine.length === 0 ? (idle[who] ?? 0) + 1 : 0;
			for (const one of mine) one.left -= speeds[who] ?? 1;
			for (const one of mine.filter(({ left }) => left <= 0)) {
				const from = one.from === "origin" ? undefined : Number(one.from);
				if (from === undefined || !isDead(from)) have[who]?.add(one.part);
			}
			running[who] = mine.filter(({ left }) => left > 0);
		}
		seen = have.map((set) => new Set(set));
		const living = have.filter((_, who) => !isDead(who));
		if (living.every((set) => set.size === parts)) return { sent, parts, receivers, whole: true };
	}
	return { sent, parts, receivers, whole: false };
}

test("whatever the speeds, and whoever dies, all living receivers get everything, and the origin is read about once", () => {
	let [sent, parts] = [0, 0];
	for (let seed = 1; seed <= 300; seed++) {
		const run = simulate(seed);
		expect({ seed, whole: run.whole }).toEqual({ seed, whole: true });
		// Who dies takes with it what it alone had, and what it was reading.
		expect({ seed, often: run.sent <= run.parts * 2 + 2 }).toEqual({ seed, often: true });
		sent += run.sent;
		parts += run.parts;
	}
	expect(sent / parts).toBeLessThan(1.25);
});

interface Flow {
	part: number;
	from: number;
	to: number;
	left: number;
}

const ORIGIN = -1;
/** A part of 8 MiB over a line of 200 Mbit/s, in steps of the simulation. */
const STEPS_PER_PART = 7;
/** News travels so many steps. */
const NEWS_STEPS = 3;

/** How many steps it takes until all receivers have all parts, when every machine's line carries one part's rate each way. */
function stepsToAll(receivers: number, parts: number): { steps: number; sent: number } {
	const have = Array.from({ length: receivers }, () => new Map<number, number>());
	const chosen = new Map<string, number>();
	let flows: Flow[] = [];
	let sent = 0;
	const idle = Array.from({ length: receivers }, () => 0);
	for (let step = 0; step < 100 * parts * STEPS_PER_PART; step++) {
		const knows = (who: number, part: number): boolean =>
			(have[who]?.get(part) ?? Number.POSITIVE_INFINITY) + NEWS_STEPS <= step;
		const isReading = (who: number, part: number): boolean =>
			(chosen.get(`${who} ${part}`) ?? Number.POSITIVE_INFINITY) + NEWS_STEPS <= step &&
			flows.some((flow) => flow.to === who && flow.part === part);
		for (let who = 0; who < receivers; who++) {
			for (;;) {
				const mine = flows.filter((flow) => flow.to === who);
				if (mine.length >= 8) break;
				const wanted = Array.from({ length: parts }, (_, part) => part).filter(
					(part) => have[who]?.has(part) !== true && !mine.some((flow) => flow.part === part),
				);
				const from = (other: number): number => mine.filter((flow) => flow.from === other).length;
				const relays = have.flatMap((_, other) =>
					other === who
						? []
						: [
								peer(String(other), {
									has: (part) => knows(other, part),
									isReading: (part) => isReading(other, part),
									inFlight: from(other),
								}),
							],
				);
				const maxInFlight = Math.max(1, Math.round(4 / receivers));
				const origin = peer(String(ORIGIN), { isOrigin: true, inFlight: from(ORIGIN), maxInFlight });
				const choice = choosePart({
					wanted,
					peers: [...relays, origin],
					members: have.map(() => true),
					self: who,
					isIdle: (idle[who] ?? 0) > 20,
				});
				if (choice === undefined) break;
				if (choice.peer === String(ORIGIN)) {
					sent++;
					chosen.set(`${who} ${choice.part}`, step);
				}
				flows.push({ part: choice.part, from: Number(choice.peer), to: who, left: STEPS_PER_PART });
			}
			idle[who] = flows.some((flow) => flow.to === who) ? 0 : (idle[who] ?? 0) + 1;
		}
		const rates = fairRates(flows);
		for (const [at, flow] of flows.entries()) flow.left -= rates[at] ?? 0;
		for (const flow of flows) if (flow.left <= 1e-9) have[flow.to]?.set(flow.part, step);
		flows = flows.filter((flow) => flow.left > 1e-9);
		if (have.every((set) => set.size === parts)) return { steps: step + 1, sent };
	}
	throw new Error("it does not end");
}

/** Max-min fair: what each flow gets when every line, in and out, carries 1. */
function fairRates(flows: readonly Flow[]): number[] {
	const rates = flows.map(() => 0);
	const open = new Set(flows.keys());
	const left = new Map<string, number>();
	const linesOf = (at: number): string[] => [`out ${flows[at]?.from}`, `in ${flows[at]?.to}`];
	for (const at of open) for (const line of linesOf(at)) left.set(line, 1);
	while (open.size > 0) {
		const users = new Map<string, number>();
		for (const at of open) for (const line of linesOf(at)) users.set(line, (users.get(line) ?? 0) + 1);
		const share = Math.min(...[...users].map(([line, count]) => (left.get(line) ?? 0) / count));
		for (const at of open) rates[at] = (rates[at] ?? 0) + share;
		for (const [line, count] of users) left.set(line, (left.get(line) ?? 0) - share * count);
		for (const at of open) if (linesOf(at).some((line) => (left.get(line) ?? 0) < 1e-9)) open.delete(at);
	}
	return rates;
}

test("by the plan, eight receivers of 64 parts take less than 1.3 times as long as one, and the origin sends little more than once", () => {
	const one = stepsToAll(1, 64);
	const eight = stepsToAll(8, 64);
	expect(one.sent).toBe(64);
	expect(eight.steps / one.steps).toBeLessThan(1.3);
	expect(eight.sent / 64).toBeLessThan(1.1);
});
