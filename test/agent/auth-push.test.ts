import { expect, test } from "bun:test";
import { createAuthPush } from "../../src/agent/host/auth-push.ts";
import { silentLog } from "../../src/platform/log.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import type { AuthSnapshot } from "../../src/schema/token.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { until } from "../support/until.ts";

type Answer = () => Promise<{ auth_version: number }>;

interface Stand {
	push: ReturnType<typeof createAuthPush>;
	clock: FakeClock;
	/** `node version` of every push, as it was sent. */
	sent: string[];
	/** What a node does with the next pushes; without one it takes them. */
	answers: Map<string, Answer>;
	state: { version: number; silentS: Record<string, number | null>; status: Record<string, string> };
}

/** A host with these nodes, of which those with the status alive can be reached. */
function stand(...names: string[]): Stand {
	const clock = new FakeClock();
	const sent: string[] = [];
	const answers: Stand["answers"] = new Map();
	const state: Stand["state"] = {
		version: 1,
		silentS: Object.fromEntries(names.map((name) => [name, 1])),
		status: Object.fromEntries(names.map((name) => [name, "alive"])),
	};
	const client = (node: string) => ({
		call: async (_id: string, { body }: { body: AuthSnapshot }) => {
			sent.push(`${node} ${body.auth_version}`);
			return (await answers.get(node)?.()) ?? { auth_version: body.auth_version };
		},
	});
	const push = createAuthPush({
		clock,
		log: silentLog,
		people: { version: () => state.version, snapshot: () => ({ auth_version: state.version, tokens: [] }) },
		nodes: {
			client,
			reachable: () => names.filter((name) => state.status[name] === "alive").map((name) => ({ name })),
		} as never,
		cluster: {
			documents: () =>
				names.map((name) => ({ name, status: state.status[name], last_seen_s: state.silentS[name] })),
		} as never,
	});
	return { push, clock, sent, answers, state };
}

const never: Answer = () => new Promise(() => {});

test("everybody who can be reached is told, and nobody is left", async () => {
	const s = stand("a", "b");
	expect(await s.push.everybody()).toEqual([]);
	expect(s.sent.sort()).toEqual(["a 1", "b 1"]);
});

test("a node that does not answer is waited for no longer than 3 s, and is named", async () => {
	const s = stand("a", "b");
	s.answers.set("b", never);
	const told = s.push.everybody();
	await until("it waits", () => s.clock.sleeping > 0);
	await s.clock.advance(3_000);
	expect(await told).toEqual(["b"]);
});

test("one that fails, or takes an older version, is named", async () => {
	const s = stand("a", "b", "c");
	s.answers.set("a", () => Promise.reject(new GswarmError("NETWORK_ERROR", "gone", { reason: "reset" })));
	s.answers.set("b", async () => ({ auth_version: 0 }));
	expect(await s.push.everybody()).toEqual(["a", "b"]);
});

test("one that is away is named as long as it may remember, and one that waits to join never", async () => {
	const s = stand("suspect", "silent", "dead", "unheard", "forgotten", "waits");
	Object.assign(s.state.status, {
		suspect: "suspect",
		silent: "unreachable",
		dead: "dead",
		unheard: "suspect",
		forgotten: "dead",
		waits: "waiting",
	});
	Object.assign(s.state.silentS, { dead: 600, forgotten: 601, unheard: null, waits: null });
	expect(await s.push.everybody()).toEqual(["suspect", "silent", "dead", "unheard"]);
	expect(s.sent).toEqual([]);
});

test("a push under way carries what was true before, so another one follows it", async () => {
	const s = stand("a");
	const { promise, resolve } = Promise.withResolvers<{ auth_version: number }>();
	s.answers.set("a", () => promise);
	s.push.heard("a", undefined);
	await until("the first is under way", () => s.sent.length === 1);
	s.state.version = 2;
	const told = s.push.everybody();
	s.answers.delete("a");
	resolve({ auth_version: 1 });
	expect(await told).toEqual([]);
	expect(s.sent).toEqual(["a 1", "a 2"]);
});

test("a node that reports another version, or none, is pushed to; one with the same is not", async () => {
	const s = stand("a");
	s.push.heard("a", 1);
	await s.clock.advance(0);
	expect(s.sent).toEqual([]);
	s.push.heard("a", undefined);
	// While that is under way its next report changes nothing.
	s.push.heard("a", undefined);
	await until("it was pushed to", () => s.sent.length === 1);
	await s.push[Symbol.asyncDispose]();
	s.push.heard("a", 7);
	await s.clock.advance(0);
	expect(s.sent).toEqual(["a 1"]);
});
