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
	parseToken,
	signAssertion,
} from "../../src/core/identity/identity.ts";
import { type Database, openInlineDatabase } from "../../src/platform/database.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { tempDir } from "../support/temp-dir.ts";

interface Stand extends AsyncDisposable {
	identity: Identity;
	db: Database;
	clock: FakeClock;
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

test("a new bearer of a node takes the place of its former one, and of no other node's; no secret is kept", async () => {
	await using s = stand();
	const first = await s.identity.createNodeBearer("node1");
	const other = await s.identity.createNodeBearer("node2");
	const second = await s.identity.createNodeBearer("node1");
	expect(s.identity.authenticate(first)).toBeUndefined();
	expect(s.identity.authenticate(second)).toMatchObject({ role: "node", node: "node1" });
	expect(s.identity.authenticate(other)).toMatchObject({ node: "node2" });
	for (const text of [other, second])
		expect(JSON.stringify(s.rows())).not.toContain(parseToken(text)?.secret ?? "?");
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
