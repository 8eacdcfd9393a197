import { expect, test } from "bun:test";
import type { Database as Sqlite } from "bun:sqlite";
import { join } from "node:path";
import {
	createIdentity,
	formatToken,
	generateKeyPair,
	type Identity,
	identityModule,
	makeToken,
	parseJoinString,
	parseToken,
	signAssertion,
} from "../../src/core/identity/identity.ts";
import { type Database, openInlineDatabase } from "../../src/platform/database.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { tempDir } from "../support/temp-dir.ts";

interface Stand extends AsyncDisposable {
	identity: Identity;
	db: Database;
	clock: FakeClock;
	/** The secret that a joiner presents. */
	secret(options?: { ttlS?: number; uses?: number }): Promise<string>;
	/** `joined` or the reason of the refusal. */
	spend(secret: string, node?: string): Promise<string>;
	rows(): Record<string, unknown>[];
}

/** Rows as a later version of the room will write them. */
const surgery = {
	room: "surgery",
	migrations: [],
	writes: { run: (db: Sqlite, sql: string): void => void db.run(sql) },
};

function stand(): Stand {
	const dir = tempDir();
	const clock = new FakeClock();
	const db = openInlineDatabase(join(dir.path, "agent.sqlite"), [identityModule, surgery]);
	const identity = createIdentity({ db, clock, ids: systemIds });
	return {
		identity,
		db,
		clock,
		async secret({ ttlS = 3600, uses = 1 } = {}) {
			const { tokenId, secret } = parseJoinString((await identity.createJoinString({ ttlS, uses })).text);
			return `${tokenId}.${secret}`;
		},
		spend: (secret, node = "node1") =>
			identity.spendJoin(secret, node).then(
				() => "joined",
				(error: unknown) => String(asGswarmError(error).reason),
			),
		rows: () => db.read.query<Record<string, unknown>, []>("SELECT * FROM token").all(),
		async [Symbol.asyncDispose]() {
			await db[Symbol.asyncDispose]();
			dir[Symbol.dispose]();
		},
	};
}

test("the admin token of the data directory is an admin, and no other one is", async () => {
	await using s = stand();
	const [old, current] = [makeToken(systemIds, "admin"), makeToken(systemIds, "admin")];
	await s.identity.setAdmin(formatToken(old));
	await s.identity.setAdmin(formatToken(current));
	expect(s.identity.authenticate(formatToken(current))).toEqual({
		role: "admin",
		id: current.id,
		name: "admin",
		node: undefined,
		expiresAt: null,
	});
	expect(s.identity.authenticate(formatToken(old))).toBeUndefined();
	expect(s.identity.authenticate(formatToken({ ...current, secret: systemIds.secret(32) }))).toBeUndefined();
	expect(s.identity.authenticate(formatToken({ ...current, kind: "node" }))).toBeUndefined();
	for (const text of ["", "gsw_", "gswh.", current.secret])
		expect(s.identity.authenticate(text)).toBeUndefined();
});

test("a file that holds another kind of token makes no admin", async () => {
	await using s = stand();
	expect(s.identity.setAdmin(formatToken(makeToken(systemIds, "node")))).rejects.toThrow("admin token");
	expect(s.rows()).toEqual([]);
});

test("no secret is in the database, only its sha256", async () => {
	await using s = stand();
	const secret = await s.secret();
	const bearer = parseToken(await s.identity.spendJoin(secret, "node1"));
	const stored = JSON.stringify(s.rows());
	expect(s.rows()).toHaveLength(2);
	expect(stored).not.toContain(secret.split(".")[1] ?? "?");
	expect(stored).not.toContain(bearer?.secret ?? "?");
});

test("a join secret gives a bearer that is bound to the node, and cannot be used as a bearer itself", async () => {
	await using s = stand();
	const secret = await s.secret();
	const bearer = await s.identity.spendJoin(secret, "node1");
	expect(s.identity.authenticate(bearer)).toMatchObject({ role: "node", node: "node1" });
	const [id = "", text = ""] = secret.split(".");
	expect(s.identity.authenticate(formatToken({ kind: "join", id, secret: text }))).toBeUndefined();
});

test("a new bearer of a node takes the place of its former one, and of no other node's", async () => {
	await using s = stand();
	const secret = await s.secret({ uses: 2 });
	const first = await s.identity.spendJoin(secret, "node1");
	const other = await s.identity.createNodeBearer("node2");
	const second = await s.identity.spendJoin(secret, "node1");
	expect(s.identity.authenticate(first)).toBeUndefined();
	expect(s.identity.authenticate(second)).toMatchObject({ node: "node1" });
	expect(s.identity.authenticate(other)).toMatchObject({ node: "node2" });
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
	expect(await s.spend(secret)).toBe("joined");
	await s.clock.advance(1);
	expect(await s.spend(secret)).toBe("join_refused");
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
	for (const text of wrong) expect([text, await s.spend(text)]).toEqual([text, "join_refused"]);
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

test("a refused join keeps the bearer that the node had", async () => {
	await using s = stand();
	const bearer = await s.identity.createNodeBearer("node1");
	expect(await s.spend(`${systemIds.short(8)}.${systemIds.secret(32)}`, "node1")).toBe("join_refused");
	expect(s.identity.authenticate(bearer)).toMatchObject({ node: "node1" });
});

test("of twenty who spend one use at the same time, exactly one is let in", async () => {
	await using s = stand();
	const secret = await s.secret({ uses: 1 });
	const ends = await Promise.all(Array.from({ length: 20 }, (_, i) => s.spend(secret, `node${i}`)));
	expect(ends.filter((it) => it === "joined")).toHaveLength(1);
	expect(ends.filter((it) => it === "join_refused")).toHaveLength(19);
	expect(s.rows().filter((row) => row["kind"] === "node")).toHaveLength(1);
});

test("a revoked and an expired bearer are nobody at the next request", async () => {
	await using s = stand();
	const bearer = await s.identity.createNodeBearer("node1");
	const expiring = s.clock.nowMs() / 1000 + 60;
	await s.db.writer(surgery).run(`UPDATE token SET expires_at = ${expiring}`);
	await s.clock.advance(59_999);
	expect(s.identity.authenticate(bearer)).toBeDefined();
	await s.clock.advance(1);
	expect(s.identity.authenticate(bearer)).toBeUndefined();
	await s.db.writer(surgery).run("UPDATE token SET expires_at = NULL");
	expect(s.identity.authenticate(bearer)).toBeDefined();
	await s.db.writer(surgery).run("UPDATE token SET revoked_at = 1");
	expect(s.identity.authenticate(bearer)).toBeUndefined();
});

test("a revoked join secret lets nobody in", async () => {
	await using s = stand();
	const secret = await s.secret();
	await s.db.writer(surgery).run("UPDATE token SET revoked_at = 1");
	expect(await s.spend(secret)).toBe("join_refused");
});

test("a node accepts the assertions of its own host, for itself, by the host's clock", async () => {
	await using s = stand();
	const host = generateKeyPair();
	const text = signAssertion(host.privateKey, "node1", 1_000_000);
	expect(s.identity.authenticate(text)).toBeUndefined();
	let hostNowMs = 1_000_000;
	s.identity.trustHost({ nodeName: "node1", hostPublicKey: host.publicKey, hostNowMs: () => hostNowMs });
	expect(s.identity.authenticate(text)).toEqual({
		role: "host",
		id: "host",
		name: "host",
		node: undefined,
		expiresAt: null,
	});
	// The node's own clock says something else, and nobody asks it.
	s.clock.jumpWall(86_400_000);
	expect(s.identity.authenticate(text)).toBeDefined();
	hostNowMs += 60_000;
	expect(s.identity.authenticate(text)).toBeUndefined();
	expect(s.identity.authenticate(signAssertion(host.privateKey, "node2", hostNowMs))).toBeUndefined();
	expect(
		s.identity.authenticate(signAssertion(generateKeyPair().privateKey, "node1", hostNowMs)),
	).toBeUndefined();
});
