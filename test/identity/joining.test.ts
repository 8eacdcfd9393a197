import { expect, test } from "bun:test";
import type { Database as Sqlite } from "bun:sqlite";
import { join } from "node:path";
import {
	createIdentity,
	createJoining,
	formatToken,
	type Identity,
	identityModule,
	type Joining,
	joinModule,
	makeToken,
	parseJoinString,
	parseToken,
} from "../../src/core/identity/identity.ts";
import { type Database, openInlineDatabase } from "../../src/platform/database.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { tempDir } from "../support/temp-dir.ts";

interface Stand extends AsyncDisposable {
	identity: Identity;
	joining: Joining;
	db: Database;
	clock: FakeClock;
	/** The secret that a joiner presents. */
	secret(options?: { ttlS?: number; uses?: number }): Promise<string>;
	/** `joined` or the reason of the refusal; the node's key is `key of <node>` unless another one is given. */
	spend(secret: string, node?: string, publicKey?: string): Promise<string>;
	/** What a look at it says, without spending. */
	check(secret: string, node?: string): string;
	rows(): Record<string, unknown>[];
}

const surgery = {
	room: "surgery",
	migrations: [],
	writes: { run: (db: Sqlite, sql: string): void => void db.run(sql) },
};

const reasonOf = (error: unknown): string => String(asGswarmError(error).reason);

function stand(): Stand {
	const dir = tempDir();
	const clock = new FakeClock();
	const db = openInlineDatabase(join(dir.path, "agent.sqlite"), [identityModule, joinModule, surgery]);
	const identity = createIdentity({ db, clock, ids: systemIds });
	const joining = createJoining({ db, clock });
	return {
		identity,
		joining,
		db,
		clock,
		async secret({ ttlS = 3600, uses = 1 } = {}) {
			const { tokenId, secret } = parseJoinString((await identity.createJoinString({ ttlS, uses })).text);
			return `${tokenId}.${secret}`;
		},
		spend: (secret, node = "node1", publicKey = `key of ${node}`) =>
			joining.spend(secret, { node, publicKey }).then(() => "joined", reasonOf),
		check(secret, node) {
			try {
				joining.check(secret, node === undefined ? undefined : { node, publicKey: `key of ${node}` });
				return "right";
			} catch (error) {
				return reasonOf(error);
			}
		},
		rows: () => db.read.query<Record<string, unknown>, []>("SELECT * FROM token").all(),
		async [Symbol.asyncDispose]() {
			await db[Symbol.asyncDispose]();
			dir[Symbol.dispose]();
		},
	};
}

test("no join secret is in the database, only its sha256", async () => {
	await using s = stand();
	const secret = await s.secret();
	await s.spend(secret);
	expect(JSON.stringify(s.rows())).not.toContain(secret.split(".")[1] ?? "?");
});

test("a join secret is no bearer", async () => {
	await using s = stand();
	const [id = "", text = ""] = (await s.secret()).split(".");
	expect(s.identity.authenticate(formatToken({ kind: "join", id, secret: text }))).toBeUndefined();
});

test("a join secret is spent as often as it says and not once more", async () => {
	await using s = stand();
	const secret = await s.secret({ uses: 3 });
	const ends: string[] = [];
	for (const node of ["a", "b", "c", "d"]) ends.push(await s.spend(secret, node));
	expect(ends).toEqual(["joined", "joined", "joined", "join_refused"]);
});

test("a join secret ends with its time to live, to the millisecond", async () => {
	await using s = stand();
	const secret = await s.secret({ ttlS: 60, uses: 9 });
	await s.clock.advance(59_999);
	expect([s.check(secret, "a"), await s.spend(secret, "a")]).toEqual(["right", "joined"]);
	await s.clock.advance(1);
	expect([s.check(secret, "b"), await s.spend(secret, "b")]).toEqual(["join_refused", "join_refused"]);
});

test("a node that spent a secret may ask again with it under the same key, and spends nothing", async () => {
	await using s = stand();
	const secret = await s.secret({ ttlS: 60, uses: 2 });
	expect(await s.spend(secret, "a")).toBe("joined");
	expect(await s.spend(secret, "a")).toBe("joined");
	expect(await s.spend(secret, "b")).toBe("joined");
	await s.clock.advance(61_000);
	expect([s.check(secret, "a"), await s.spend(secret, "a")]).toEqual(["right", "joined"]);
	// Another key is another node, whatever it calls itself; and so is another name.
	expect(await s.spend(secret, "a", "another key")).toBe("join_refused");
	expect(await s.spend(secret, "c", "key of a")).toBe("join_refused");
});

test("asking again needs the whole secret, and a secret that was not revoked", async () => {
	await using s = stand();
	const secret = await s.secret();
	expect(await s.spend(secret)).toBe("joined");
	expect(await s.spend(`${secret.split(".")[0]}.${systemIds.secret(32)}`)).toBe("join_refused");
	await s.db.writer(surgery).run("UPDATE token SET revoked_at = 1");
	expect([s.check(secret), await s.spend(secret)]).toEqual(["join_refused", "join_refused"]);
});

test("a look at a secret spends nothing, and tells a wrong one before anything else is known", async () => {
	await using s = stand();
	const secret = await s.secret();
	for (let i = 0; i < 3; i++) expect([s.check(secret), s.check(secret, "a")]).toEqual(["right", "right"]);
	expect(await s.spend(secret, "a")).toBe("joined");
	expect([s.check(secret), s.check(secret, "b")]).toEqual(["right", "join_refused"]);
});

test("a wrong secret is refused and spends nothing", async () => {
	await using s = stand();
	const secret = await s.secret({ uses: 1 });
	const [id = ""] = secret.split(".");
	const wrong = [
		`${id}.${systemIds.secret(32)}`,
		`${id}.`,
		`${secret}.x`,
		`${secret}x`,
		"",
		".",
		id,
		`zzzzzzzz.${secret.split(".")[1]}`,
		`' OR 1=1 --.x`,
	];
	for (const text of wrong) {
		expect([text, s.check(text)]).toEqual([text, "join_refused"]);
		expect([text, await s.spend(text)]).toEqual([text, "join_refused"]);
	}
	expect(await s.spend(secret)).toBe("joined");
});

test("an admin's or a node's secret is no join secret", async () => {
	await using s = stand();
	const admin = makeToken(systemIds, "admin");
	await s.identity.setAdmin(formatToken(admin));
	const node = parseToken(await s.identity.createNodeBearer("node9"));
	expect(await s.spend(`${admin.id}.${admin.secret}`)).toBe("join_refused");
	expect(await s.spend(`${node?.id}.${node?.secret}`)).toBe("join_refused");
});

test("of twenty who spend one use at the same time, exactly one is let in", async () => {
	await using s = stand();
	const secret = await s.secret({ uses: 1 });
	const ends = await Promise.all(Array.from({ length: 20 }, (_, i) => s.spend(secret, `node${i}`)));
	expect(ends.filter((it) => it === "joined")).toHaveLength(1);
	expect(ends.filter((it) => it === "join_refused")).toHaveLength(19);
});

test("a join string that asks for approval says so each time, and no other one does", async () => {
	await using s = stand();
	const [plain, approved] = [await s.secret(), await s.secret()];
	await s.joining.requireApproval(approved.split(".")[0] ?? "");
	const joiner = { node: "a", publicKey: "key" };
	expect(await s.joining.spend(plain, joiner)).toEqual({ needsApproval: false });
	expect(await s.joining.spend(approved, joiner)).toEqual({ needsApproval: true });
	expect(await s.joining.spend(approved, joiner)).toEqual({ needsApproval: true });
});

test("a node that is forgotten has no bearer and has spent nothing; others keep theirs", async () => {
	await using s = stand();
	const secret = await s.secret({ uses: 2 });
	await s.spend(secret, "a");
	await s.spend(secret, "b");
	const [a, b] = [await s.identity.createNodeBearer("a"), await s.identity.createNodeBearer("b")];
	await s.joining.forget("a");
	expect([s.identity.authenticate(a)?.node, s.identity.authenticate(b)?.node]).toEqual([undefined, "b"]);
	expect([await s.spend(secret, "a"), await s.spend(secret, "b")]).toEqual(["join_refused", "joined"]);
});
