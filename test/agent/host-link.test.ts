import { expect, test } from "bun:test";
import { createHostLink, type HostLink, type Report } from "../../src/agent/node/host-link.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { createLog } from "../../src/platform/log.ts";
import type { Heartbeat } from "../../src/schema/node.ts";
import { heartbeat } from "../cluster/beat.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { until } from "../support/until.ts";

const HOST_TIME = Date.UTC(2030, 0, 1);

interface Stand extends AsyncDisposable {
	link: HostLink;
	clock: FakeClock;
	beats: Heartbeat[];
	/** What the node holds. */
	version: number;
	/** Goes to the host and back; what was sent before is there after some of these. */
	ping(): Promise<void>;
	/** What the host does with the next beats. */
	host: { away: boolean; wants: boolean; refuses: boolean; answer: Promise<unknown> };
	events: Record<string, unknown>[];
}

/** A link to a host that answers as the test says. */
function stand(host: Partial<Stand["host"]> = {}, chance = 0.5): Stand {
	const clock = new FakeClock();
	const beats: Heartbeat[] = [];
	const state = {
		away: false,
		wants: false,
		refuses: false,
		answer: Promise.resolve() as Promise<unknown>,
		...host,
	};
	const server = Bun.serve({
		hostname: "127.0.0.1",
		port: 0,
		async fetch(request) {
			if (request.method === "GET") return new Response();
			beats.push((await request.json()) as Heartbeat);
			await state.answer;
			if (state.away) return new Response(null, { status: 503 });
			if (state.refuses) {
				const error = { code: "UNAUTHORIZED", message: "no", details: { reason: "no_valid_token" } };
				return Response.json({ error }, { status: 401 });
			}
			return Response.json({ host_time_ms: HOST_TIME, want_inventory: state.wants, interval_ms: 5000 });
		},
	});
	const ping = async (): Promise<void> => void (await fetch(server.url));
	const events: Record<string, unknown>[] = [];
	const log = createLog({ clock, write: (line) => void events.push(JSON.parse(line)) });
	const self = { clock, beats, events, version: 1, host: state, ping } as Stand;
	const { incarnation: _incarnation, seq: _seq, ...report } = heartbeat();
	self.link = createHostLink(
		{ clock, ids: { ...systemIds, fraction: () => chance }, log },
		{
			hostUrl: () => `http://127.0.0.1:${server.port}`,
			trust: { ca: "", serverName: "unused" },
			nodeToken: "token",
			incarnation: 7,
			report: (): Report => ({ ...report, inventory_version: self.version }),
			inventory: () => [],
		},
	);
	self[Symbol.asyncDispose] = async () => {
		await self.link[Symbol.asyncDispose]();
		await server.stop(true);
	};
	return self;
}

const heard = (s: Stand, count: number): Promise<boolean> =>
	until(`${count} beats`, () => s.beats.length >= count && s.clock.sleeping > 0);

test("before the host's first answer its time is taken to be ours, after it it is the host's", async () => {
	const { promise, resolve } = Promise.withResolvers<undefined>();
	await using s = stand({ answer: promise });
	await until("a beat is under way", () => s.beats.length === 1);
	// The host may call before its answer has come back.
	expect(s.link.hostNowMs()).toBe(s.clock.nowMs());
	resolve(undefined);
	await until("it answered", () => s.link.connected());
	expect(s.link.hostNowMs()).toBe(HOST_TIME);
	s.clock.jumpWall(86_400_000);
	expect(s.link.hostNowMs()).toBe(HOST_TIME);
	await s.clock.advance(1000);
	expect(s.link.hostNowMs()).toBe(HOST_TIME + 1000);
});

test("a host that knows this node no more is told from one that is away, in the log once and among the problems", async () => {
	await using s = stand({ refuses: true });
	const refusals = () => s.events.filter(({ event }) => event === "host_link.refused");
	await heard(s, 1);
	await s.clock.advance(5_500);
	await heard(s, 2);
	expect(refusals()).toMatchObject([{ hint: expect.stringContaining("gswarm agent --join") }]);
	expect(s.link.problems()).toEqual([expect.stringContaining("does not know this node any more")]);
	Object.assign(s.host, { refuses: false, away: true });
	await s.clock.advance(5_500);
	await heard(s, 3);
	expect(s.link.problems()).toEqual(["the host does not answer"]);
	s.host.away = false;
	await s.clock.advance(5_500);
	await until("it answers", () => s.link.connected());
	expect([s.link.problems(), refusals()]).toEqual([[], [expect.anything()]]);
});

test.each([
	[0, 4_500],
	[0.5, 5_000],
	[0.75, 5_250],
])(
	"with a chance of %d the next beat comes after %d ms, numbered, in one incarnation",
	async (chance, pauseMs) => {
		await using s = stand({}, chance);
		for (let beat = 1; beat <= 3; beat++) {
			await heard(s, beat);
			await s.clock.advance(pauseMs - 1);
			expect(s.beats).toHaveLength(beat);
			await s.clock.advance(1);
		}
		await heard(s, 4);
		expect(s.beats.map((it) => [it.incarnation, it.seq])).toEqual([
			[7, 1],
			[7, 2],
			[7, 3],
			[7, 4],
		]);
	},
);

test("the inventory goes along first, after a change, when it is asked for, and after the host was away", async () => {
	await using s = stand();
	const next = async (): Promise<boolean> => {
		const before = s.beats.length;
		await s.link.flush(60_000);
		return s.beats.slice(before).some((it) => it.inventory !== undefined);
	};
	await heard(s, 1);
	expect(s.beats[0]?.inventory).toEqual([]);
	expect(await next()).toBe(false);
	s.version = 2;
	expect(await next()).toBe(true);
	expect(await next()).toBe(false);
	s.host.wants = true;
	await s.link.flush(60_000);
	s.host.wants = false;
	expect(await next()).toBe(true);
	s.host.away = true;
	await s.link.flush(60_000);
	s.host.away = false;
	expect(await next()).toBe(true);
});

test("a flush says whether the host has taken what is true now", async () => {
	await using s = stand();
	await heard(s, 1);
	expect(await s.link.flush(60_000)).toBe(true);
	s.host.away = true;
	expect(await s.link.flush(60_000)).toBe(false);
	expect(s.link.connected()).toBe(false);
});

test("a flush during a beat waits for the next one, which tells what is true now", async () => {
	const { promise, resolve } = Promise.withResolvers<undefined>();
	await using s = stand({ answer: promise });
	await until("a beat is under way", () => s.beats.length === 1);
	s.version = 2;
	const flushed = s.link.flush(60_000);
	for (let i = 0; i < 5; i++) await s.ping();
	expect(s.beats).toHaveLength(1);
	resolve(undefined);
	expect(await flushed).toBe(true);
	expect(s.beats.map((it) => it.inventory_version)).toEqual([1, 2]);
});

test("a flush ends with its time, heard or not", async () => {
	const { promise, resolve } = Promise.withResolvers<undefined>();
	await using s = stand({ answer: promise });
	const flushed = s.link.flush(2_000);
	await until("both wait", () => s.clock.sleeping > 0);
	await s.clock.advance(2_000);
	expect(await flushed).toBe(false);
	resolve(undefined);
});

test("a change is told at once", async () => {
	await using s = stand();
	await heard(s, 1);
	s.link.poke();
	await until("it may beat again", () => s.clock.sleeping > 0);
	await s.clock.advance(50);
	await heard(s, 2);
	expect(s.beats).toHaveLength(2);
});
