import { describe, expect, test } from "bun:test";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { createAudit } from "../../src/core/identity/audit.ts";
import { type AuditEvent, boundedTarget, recordingOf } from "../../src/core/identity/audit-rules.ts";
import { auditModule } from "../../src/core/identity/audit-store.ts";
import { type Database, openInlineDatabase } from "../../src/platform/database.ts";
import { createLog } from "../../src/platform/log.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { tempDir } from "../support/temp-dir.ts";

const ANN = { id: "k3v9x2ma", role: "user", name: "ann" };

function event(change: Partial<AuditEvent> = {}): AuditEvent {
	return {
		listener: "host",
		action: "deleteModel",
		needs: "operator",
		method: "DELETE",
		caller: ANN,
		tried: true,
		target: { model_name: "acme/tiny" },
		status: 202,
		reason: undefined,
		address: "10.0.0.7",
		requestId: "req-1",
		...change,
	};
}

const stranger = (change: Partial<AuditEvent>): AuditEvent => event({ caller: undefined, ...change });

function open(options: Parameters<typeof createAudit>[1] = {}) {
	const dir = tempDir();
	const clock = new FakeClock();
	const lines: Record<string, unknown>[] = [];
	const log = createLog({ clock, write: (line) => void lines.push(JSON.parse(line)) });
	const db = openInlineDatabase(join(dir.path, "a.sqlite"), [auditModule]);
	const audit = createAudit({ db, clock, log }, options);
	return {
		audit,
		clock,
		db,
		lines,
		async [Symbol.asyncDispose]() {
			await audit[Symbol.asyncDispose]();
			await db[Symbol.asyncDispose]();
			dir[Symbol.dispose]();
		},
	};
}

test.each([
	["a change that somebody asked for", event(), "act"],
	["one that failed for another reason than its role", event({ status: 409, reason: "in_use" }), "act"],
	[
		"a node that asks for a secret",
		event({ needs: "node", method: "POST", action: "lookUpCredential" }),
		"act",
	],
	[
		"what the host asks of a node, for somebody who is in its own log",
		event({
			caller: { id: "host", role: "host" },
			needs: "host",
			method: "POST",
			action: "pushAuth",
			status: 200,
		}),
		"none",
	],
	[
		"a host that is refused",
		event({ caller: { id: "host", role: "host" }, status: 403, reason: "role_not_allowed" }),
		"refusal",
	],
	["a machine that joins", stranger({ needs: "join", method: "POST", action: "join", status: 200 }), "act"],
	[
		"a join that came to nothing, which anybody can send",
		stranger({ needs: "join", method: "POST", action: "join", status: 413, reason: "body_too_large" }),
		"first-refusal",
	],
	["reading", event({ method: "GET", needs: "viewer", action: "listModels", status: 200 }), "none"],
	["asking for headers alone", event({ method: "HEAD", needs: "viewer", status: 200 }), "none"],
	["a heartbeat", event({ method: "POST", needs: "node", action: "heartbeat", status: 200 }), "none"],
	["using a model", event({ method: "POST", needs: "inference", action: "chat", status: 200 }), "none"],
	["parts on a grant", stranger({ method: "GET", needs: "grant", status: 206 }), "none"],
	["a role that does not suffice", event({ status: 403, reason: "role_not_allowed" }), "refusal"],
	["the same while reading", event({ status: 403, method: "GET", action: "listAudit" }), "refusal"],
	["a page of another site", stranger({ status: 403, reason: "origin_not_allowed" }), "first-refusal"],
	["a token that is none", stranger({ status: 401, reason: "no_valid_token" }), "first-refusal"],
	[
		"a join string that is used up",
		stranger({ status: 401, reason: "join_refused", tried: false }),
		"first-refusal",
	],
	["too many guesses", stranger({ status: 429, reason: "too_many_failures" }), "first-refusal"],
	["no token at all", stranger({ status: 401, tried: false }), "none"],
	["a route that there is not", event({ action: undefined, status: 404 }), "none"],
] as const)("recorded or not: %s", (_what, it, wanted) => {
	expect(recordingOf(it)).toBe(wanted);
});

test("an entry tells who did what to which thing, from where, and how it ended", async () => {
	await using at = open();
	at.audit.record(event());
	at.audit.record(event({ caller: { id: "n0d3n0d3", role: "node", node: "node1" }, needs: "node" }));
	const { entries, lost, next_cursor } = await at.audit.list({ limit: 10 });
	expect(entries[1]).toEqual({
		seq: 1,
		at: at.clock.nowMs() / 1000,
		actor: { id: "k3v9x2ma", name: "ann", role: "user" },
		action: "deleteModel",
		target: { model_name: "acme/tiny" },
		status: 202,
		reason: null,
		address: "10.0.0.7",
		listener: "host",
		request_id: "req-1",
	});
	expect(entries[0]?.actor).toEqual({ id: "n0d3n0d3", name: "node1", role: "node" });
	expect({ lost, next_cursor }).toEqual({ lost: 0, next_cursor: null });
});

test("of a burst of guesses the first within a minute is recorded, by address", async () => {
	await using at = open();
	const guess = (address: string): void =>
		at.audit.record(stranger({ status: 401, reason: "no_valid_token", address }));
	for (let n = 0; n < 50; n++) guess("10.0.0.7");
	guess("10.0.0.8");
	await at.clock.advance(59_000);
	guess("10.0.0.7");
	expect((await at.audit.list({ limit: 10 })).entries.map((it) => it.address)).toEqual([
		"10.0.0.8",
		"10.0.0.7",
	]);
	await at.clock.advance(2_000);
	guess("10.0.0.7");
	expect((await at.audit.list({ limit: 10 })).entries.length).toBe(3);
});

test("every 403 of somebody known is recorded, however many there are", async () => {
	await using at = open();
	for (let n = 0; n < 50; n++) at.audit.record(event({ status: 403, reason: "role_not_allowed" }));
	expect((await at.audit.list({ limit: 100 })).entries.length).toBe(50);
});

test("what comes from outside is stored short and on one line", async () => {
	await using at = open();
	const target = {
		model_name: `a\u001b[31m\n${"x".repeat(500)}`,
		...Object.fromEntries(Array.from({ length: 20 }, (_, n) => [`p${n}`, ""])),
	};
	at.audit.record(event({ target }));
	const [entry] = (await at.audit.list({ limit: 1 })).entries;
	expect(Object.keys(entry?.target ?? {}).length).toBe(8);
	expect(entry?.target["model_name"]).toStartWith("a�[31m�x");
	expect(entry?.target["model_name"]?.length).toBe(200);
});

describe("reading", () => {
	test("pages come newest first, without gaps or repeats", async () => {
		await using at = open();
		for (let n = 0; n < 25; n++) at.audit.record(event({ requestId: `req-${n}` }));
		const seen: string[] = [];
		let cursor: string | undefined;
		do {
			const page = await at.audit.list({ limit: 10, cursor });
			seen.push(...page.entries.map((it) => it.request_id));
			cursor = page.next_cursor ?? undefined;
		} while (cursor !== undefined);
		expect(seen).toEqual(Array.from({ length: 25 }, (_, n) => `req-${24 - n}`));
		expect((await at.audit.list({ limit: 25 })).next_cursor).toBeNull();
	});

	test("entries are found by time, actor and action", async () => {
		await using at = open();
		at.audit.record(event({ requestId: "old" }));
		await at.clock.advance(60_000);
		const sinceS = at.clock.nowMs() / 1000;
		at.audit.record(event({ requestId: "bob", caller: { id: "bobbobbo", role: "admin", name: "bob" } }));
		at.audit.record(event({ requestId: "stop", action: "stopService" }));
		const found = async (filter: object): Promise<string[]> =>
			(await at.audit.list({ limit: 10, ...filter })).entries.map((it) => it.request_id);
		expect(await found({ since: sinceS })).toEqual(["stop", "bob"]);
		expect(await found({ actor: "bob" })).toEqual(["bob"]);
		expect(await found({ actor: "k3v9x2ma" })).toEqual(["stop", "old"]);
		expect(await found({ action: "stopService" })).toEqual(["stop"]);
		expect(await found({ action: "stopService' OR 1=1--" })).toEqual([]);
		expect(await found({ actor: "ann", action: "deleteModel", since: sinceS })).toEqual([]);
	});

	test.each(["x", "", "YXVkaXQu", Buffer.from("1.2").toString("base64url")])(
		"the cursor %j is refused",
		async (cursor) => {
			await using at = open();
			await expect(at.audit.list({ limit: 1, cursor })).rejects.toThrow(/cursor/);
		},
	);
});

describe("what is kept", () => {
	const count = (db: Database): number =>
		db.read.query<{ n: number }, []>("SELECT count(*) AS n FROM audit").all()[0]?.n ?? 0;

	test("is the newest so many, in the order of their answers", async () => {
		await using at = open({ keep: { rows: 50, refusals: 10 } });
		for (let n = 0; n < 120; n++) {
			at.audit.record(event({ requestId: `req-${n}` }));
			if (n % 7 === 0) await at.audit.list({ limit: 1 });
		}
		const { entries } = await at.audit.list({ limit: 200 });
		expect(entries.map((it) => it.request_id)).toEqual(
			Array.from({ length: 50 }, (_, n) => `req-${119 - n}`),
		);
	});

	test("of refusals is less, so that a flood of them drops nothing that was done", async () => {
		await using at = open({ keep: { rows: 50, refusals: 10 } });
		at.audit.record(event({ requestId: "done" }));
		for (let n = 0; n < 200; n++) at.audit.record(event({ status: 403 }));
		const { entries } = await at.audit.list({ limit: 200 });
		expect(entries.at(-1)?.request_id).toBe("done");
		expect(entries.length).toBe(11);
	});

	test("of one who does much is dropped before that of others", async () => {
		await using at = open({ keep: { rows: 50, refusals: 10 } });
		const by = (id: string) => event({ caller: { id, role: "user" }, requestId: id });
		for (const id of ["ann", "ben"]) for (let n = 0; n < 8; n++) at.audit.record(by(id));
		for (let n = 0; n < 100; n++) at.audit.record(by("busy"));
		for (let n = 0; n < 100; n++) at.audit.record(by("busier"));
		const { entries } = await at.audit.list({ limit: 200 });
		const of = (id: string) => entries.filter(({ actor }) => actor.id === id).length;
		expect([of("ann"), of("ben"), entries.length]).toEqual([8, 8, 50]);
	});

	test("is at most 100,000 rows unless told otherwise, and a page of so many is quick", async () => {
		await using at = open({ maxWaiting: 200_000 });
		for (let n = 0; n < 101_500; n++)
			at.audit.record(event({ caller: n === 0 ? ANN : { id: "x", role: "user" } }));
		await at.audit.list({ limit: 1 });
		expect(count(at.db)).toBeLessThanOrEqual(101_000);
		expect(count(at.db)).toBeGreaterThan(99_999);
		const from = Bun.nanoseconds();
		expect((await at.audit.list({ limit: 50, actor: "nobody" })).entries).toEqual([]);
		expect((Bun.nanoseconds() - from) / 1e6).toBeLessThan(500);
	}, 60_000);
});

describe("when the writer is in trouble", () => {
	function failing(failure: () => Error | undefined) {
		const at = open();
		const { read } = at.db;
		const written: number[] = [];
		const gate = Promise.withResolvers<void>();
		const db = {
			read,
			writer: () => ({
				append: async ({ rows }: { rows: { status: number }[] }) => {
					await gate.promise;
					const error = failure();
					if (error !== undefined) throw error;
					written.push(...rows.map((row) => row.status));
				},
			}),
		} as unknown as Database;
		const lines: Record<string, unknown>[] = [];
		const log = createLog({ clock: at.clock, write: (line) => void lines.push(JSON.parse(line)) });
		return { at, db, log, lines, written, gate };
	}

	test("a full disk loses entries, which are counted and logged, and later ones are written again", async () => {
		let full = true;
		const { at, db, log, lines, written, gate } = failing(() =>
			full
				? new GswarmError("RESOURCE_UNAVAILABLE", "The disk is full.", { reason: "disk_full" })
				: undefined,
		);
		await using _at = at;
		const audit = createAudit({ db, clock: at.clock, log });
		gate.resolve();
		for (let n = 0; n < 3; n++) audit.record(event({ status: 200 + n }));
		expect((await audit.list({ limit: 1 })).lost).toBe(3);
		expect(lines.map((line) => line["event"])).toContain("audit.lost");
		full = false;
		audit.record(event({ status: 299 }));
		expect((await audit.list({ limit: 1 })).lost).toBe(3);
		expect(written).toEqual([299]);
	});

	test("a writer that stands still makes nobody wait, and what waits has a limit", async () => {
		const { at, db, log, gate, written } = failing(() => undefined);
		await using _at = at;
		const audit = createAudit({ db, clock: at.clock, log }, { maxWaiting: 10 });
		for (let n = 0; n < 50; n++) audit.record(event({ status: 200 + n }));
		gate.resolve();
		// The first was with the writer already.
		expect((await audit.list({ limit: 1 })).lost).toBe(39);
		expect(written).toEqual(Array.from({ length: 11 }, (_, n) => 200 + n));
	});

	test("a stop waits for what was recorded, and takes nothing after it", async () => {
		const { at, db, log, gate, written } = failing(() => undefined);
		await using _at = at;
		const audit = createAudit({ db, clock: at.clock, log });
		for (let n = 0; n < 5; n++) audit.record(event({ status: 200 + n }));
		const stopped = audit[Symbol.asyncDispose]();
		audit.record(event({ status: 300 }));
		gate.resolve();
		await stopped;
		expect(written).toEqual([200, 201, 202, 203, 204]);
	});
});

test("a database of an earlier version gets the table", async () => {
	using dir = tempDir();
	mkdirSync(join(dir.path, "d"));
	const path = join(dir.path, "d", "a.sqlite");
	await openInlineDatabase(path, [])[Symbol.asyncDispose]();
	expect(existsSync(path)).toBe(true);
	const db = openInlineDatabase(path, [auditModule]);
	expect(db.read.query("SELECT count(*) AS n FROM audit").all()).toEqual([{ n: 0 }]);
	await db[Symbol.asyncDispose]();
});

test("a token that somebody gave as a name is told by its id alone", () => {
	const token = `gsw_user_ab12cd34_${"S".repeat(32)}_A1b2C3`;
	expect(boundedTarget({ model_name: `acme/${token}`, long: `${"x".repeat(180)}${token}` })).toEqual({
		model_name: "acme/gsw_user_ab12cd34_[redacted]",
		long: `${"x".repeat(180)}gsw_user_ab12cd34_[r`,
	});
});
