import { expect, test } from "bun:test";
import { Database as Sqlite } from "bun:sqlite";
import { join } from "node:path";
import {
	createIdentity,
	formatToken,
	type Identity,
	identityModule,
	makeToken,
	parseToken,
} from "../../src/core/identity/identity.ts";
import { type Database, openInlineDatabase } from "../../src/platform/database.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { parseNewTokenName } from "../../src/schema/names.ts";
import type { TokenDocument, TokenRole } from "../../src/schema/token.ts";
import firstSql from "../../src/core/identity/sql/0001_identity.sql" with { type: "text" };
import { FakeClock } from "../support/fake-clock.ts";
import { tempDir } from "../support/temp-dir.ts";

interface Stand extends AsyncDisposable {
	identity: Identity;
	db: Database;
	clock: FakeClock;
	path: string;
	make(
		name: string,
		more?: { role?: TokenRole; ttlS?: number },
	): Promise<{ text: string; token: TokenDocument }>;
	token(name: string): TokenDocument | undefined;
	rows(): string;
}

function stand({ host = true } = {}): Stand {
	const dir = tempDir();
	const clock = new FakeClock();
	const path = join(dir.path, "agent.sqlite");
	const db = openInlineDatabase(path, [identityModule]);
	const identity = createIdentity({ db, clock, ids: systemIds });
	if (host) identity.keepPeople();
	return {
		identity,
		db,
		clock,
		path,
		make: (name, { role = "user", ttlS } = {}) =>
			identity.people.create({ name: parseNewTokenName(name), role, ttlS, createdBy: "admin" }),
		token: (name) => identity.people.list().find((it) => it.name === name),
		rows: () => JSON.stringify(db.read.query("SELECT * FROM token").all()),
		async [Symbol.asyncDispose]() {
			await db[Symbol.asyncDispose]();
			dir[Symbol.dispose]();
		},
	};
}

const reasonOf = async (act: Promise<unknown>): Promise<string> =>
	act.then(
		() => "done",
		(error: unknown) => String(asGswarmError(error).reason),
	);

test("a person's token has the role and name it was made with, and only its sha256 is kept", async () => {
	await using s = stand();
	const { text, token } = await s.make("ann-laptop", { role: "operator" });
	expect(text).toMatch(/^gsw_user_[0-9a-z]{8}_[0-9A-Za-z]{32}_[0-9A-Za-z]{6}$/);
	expect(s.identity.authenticate(text)).toEqual({
		role: "operator",
		id: token.token_id,
		name: "ann-laptop",
		node: undefined,
		expiresAt: null,
	});
	expect(s.rows()).not.toContain(parseToken(text)?.secret ?? "?");
	expect(s.token("ann-laptop")).toMatchObject({ status: "active", role: "operator", created_by: "admin" });
});

test("a revoked token is nobody at the next request, and who has it is told why", async () => {
	await using s = stand();
	const { text } = await s.make("ann");
	expect(s.identity.authenticate(text)).toBeDefined();
	await s.identity.people.revoke("ann");
	expect(s.identity.authenticate(text)).toBeUndefined();
	expect(s.identity.refusal(text)).toMatchObject({ status: 401, reason: "token_revoked" });
	expect(s.token("ann")?.status).toBe("revoked");
});

test("a token ends with its time to live, to the millisecond, and who has it is told why", async () => {
	await using s = stand();
	const { text } = await s.make("ann", { ttlS: 60 });
	await s.clock.advance(59_999);
	expect(s.identity.authenticate(text)).toBeDefined();
	await s.clock.advance(1);
	expect(s.identity.authenticate(text)).toBeUndefined();
	expect(s.identity.refusal(text)).toMatchObject({ status: 401, reason: "token_expired" });
});

test("to a wrong secret nothing is told of the token, whatever became of it", async () => {
	await using s = stand();
	const [ended, gone, good] = [await s.make("a", { ttlS: 1 }), await s.make("b"), await s.make("c")];
	await s.identity.people.revoke("b");
	await s.clock.advance(2000);
	const refusals = [ended, gone, good].map(({ token }) =>
		s.identity.refusal(formatToken({ kind: "user", id: token.token_id, secret: systemIds.secret(32) })),
	);
	const unknown = [undefined, "", "nonsense", formatToken(makeToken(systemIds, "user"))];
	for (const refusal of [...refusals, ...unknown.map((bearer) => s.identity.refusal(bearer))]) {
		expect(refusal).toMatchObject({
			status: 401,
			reason: "no_valid_token",
			details: { reason: "no_valid_token" },
		});
		expect(refusal.message).toBe(refusals[0]?.message ?? "");
	}
});

test("two good tokens never share a name; one that has ended gives it back", async () => {
	await using s = stand();
	const first = await s.make("ann");
	expect(await reasonOf(s.make("ann"))).toBe("token_name_taken");
	expect(await reasonOf(s.make(first.token.token_id))).toBe("token_name_taken");
	await s.identity.people.revoke("ann");
	await s.make("ann", { ttlS: 1 });
	await s.clock.advance(1000);
	const third = await s.make("ann");
	// By its name the good one is meant.
	expect((await s.identity.people.revoke("ann")).token_id).toBe(third.token.token_id);
});

test("of twenty who take one name at the same time, one gets it", async () => {
	await using s = stand();
	const ends = await Promise.all(Array.from({ length: 20 }, () => reasonOf(s.make("ann"))));
	expect(ends.filter((it) => it === "done")).toHaveLength(1);
});

test("what is unknown, and the admin's own token, cannot be revoked; a join string can", async () => {
	await using s = stand();
	const admin = makeToken(systemIds, "admin");
	await s.identity.setAdmin(formatToken(admin));
	expect(await reasonOf(s.identity.people.revoke("nobody"))).toBe("token_not_found");
	expect(await reasonOf(s.identity.people.revoke(admin.id))).toBe("admin_token");
	expect(s.identity.authenticate(formatToken(admin))).toMatchObject({ role: "admin", name: "admin" });
	await s.identity.createJoinString({ ttlS: 60, uses: 2 });
	const [joining] = s.identity.people.list().filter((it) => it.kind === "join");
	expect(joining).toMatchObject({ status: "active", uses_left: 2, name: null });
	expect((await s.identity.people.revoke(joining?.token_id ?? "")).status).toBe("revoked");
});

test("there are 10,000 good tokens at most; those that ended do not count", async () => {
	await using s = stand();
	const surgery = {
		room: "surgery",
		migrations: [],
		writes: { run: (db: Sqlite, sql: string): void => void db.run(sql) },
	};
	await using more = openInlineDatabase(s.path, [identityModule, surgery]);
	await more.writer(surgery).run(
		`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
		 INSERT INTO token (token_id, kind, role, secret_sha256, created_at, name)
		 SELECT 'id' || i, 'user', 'viewer', '', 0, 'name' || i FROM n`,
	);
	expect(await reasonOf(s.make("one-more"))).toBe("too_many_tokens");
	await s.identity.people.revoke("name7");
	expect(await reasonOf(s.make("one-more"))).toBe("done");
	expect(await reasonOf(s.make("and-another"))).toBe("too_many_tokens");
});

test("names are parsed, never cleaned up, and those of the agent itself are taken", () => {
	for (const name of ["ann", "Ann.Smith@example", "ci_42", "a".repeat(63)])
		expect(parseNewTokenName(name) as string).toBe(name);
	for (const name of [
		"",
		"-x",
		".x",
		"a b",
		"a/b",
		"a..b",
		"a\n",
		"ä",
		"a".repeat(64),
		"admin",
		"host",
		"a\0",
	])
		expect(() => parseNewTokenName(name)).toThrow();
});

test("the last use is kept, with one write a minute", async () => {
	await using s = stand();
	const { text } = await s.make("ann");
	const used = (): number | null | undefined => s.token("ann")?.last_used_at;
	expect(used()).toBeNull();
	const first = s.clock.nowMs() / 1000;
	s.identity.authenticate(text);
	await s.clock.advance(59_000);
	s.identity.authenticate(text);
	await s.clock.advance(0);
	expect(used()).toBe(first);
	await s.clock.advance(1000);
	s.identity.authenticate(text);
	await s.clock.advance(0);
	expect(used()).toBe(first + 60);
});

test("the version rises with every change of people's tokens, also when the clock stands or goes back", async () => {
	await using s = stand();
	const { people } = s.identity;
	const seen = [people.version()];
	await s.make("a");
	seen.push(people.version());
	await s.make("b");
	seen.push(people.version());
	s.clock.jumpWall(-86_400_000);
	await people.revoke("a");
	seen.push(people.version());
	expect(seen).toEqual([...new Set(seen)].sort((a, b) => a - b));
	await people.revoke("a");
	await s.identity.createJoinString({ ttlS: 60, uses: 1 });
	expect(people.version()).toBe(seen.at(-1) ?? -1);
	expect(people.snapshot()).toMatchObject({
		auth_version: seen.at(-1),
		tokens: [{ name: "b", role: "user" }],
	});
});

test("a database of the version before keeps its admin, nodes and join strings", async () => {
	const dir = tempDir();
	const path = join(dir.path, "agent.sqlite");
	const before = { ...identityModule, migrations: [firstSql] };
	await openInlineDatabase(path, [before])[Symbol.asyncDispose]();
	const admin = makeToken(systemIds, "admin");
	const node = makeToken(systemIds, "node");
	const raw = new Sqlite(path);
	for (const [token, kind, name] of [
		[admin, "admin", null],
		[node, "node", "node7"],
	] as const) {
		const hash = new Bun.CryptoHasher("sha256").update(token.secret).digest("hex");
		raw
			.query(
				"INSERT INTO token (token_id, kind, role, secret_sha256, node, created_at) VALUES (?, ?, ?, ?, ?, 1)",
			)
			.run(token.id, kind, kind, hash, name);
	}
	raw.close();
	await using db = openInlineDatabase(path, [identityModule]);
	const identity = createIdentity({ db, clock: new FakeClock(), ids: systemIds });
	identity.keepPeople();
	expect(identity.authenticate(formatToken(admin))).toMatchObject({ role: "admin" });
	expect(identity.authenticate(formatToken(node))).toMatchObject({
		role: "node",
		node: "node7",
		name: "node7",
	});
	await identity.people.create({
		name: parseNewTokenName("ann"),
		role: "user",
		ttlS: undefined,
		createdBy: "admin",
	});
	expect(identity.people.list().map((it) => it.name)).toEqual(["ann", "admin"]);
	dir[Symbol.dispose]();
});
