import { expect, test } from "bun:test";
import { join } from "node:path";
import {
	createIdentity,
	formatToken,
	generateKeyPair,
	type Identity,
	identityModule,
	makeToken,
} from "../../src/core/identity/identity.ts";
import { CAUTIOUS_AFTER_MS, FORGET_AFTER_MS, roleAfter } from "../../src/core/identity/pushed-tokens.ts";
import { secretHash } from "../../src/core/identity/token.ts";
import { openInlineDatabase } from "../../src/platform/database.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { type AuthSnapshot, TOKEN_ROLES } from "../../src/schema/token.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { tempDir } from "../support/temp-dir.ts";

interface Node extends AsyncDisposable {
	identity: Identity;
	clock: FakeClock;
	/** The host's wall clock. */
	host: { nowMs: number };
}

/** A node's identity: it trusts a host, and keeps no people of its own. */
function node(): Node {
	const dir = tempDir();
	const clock = new FakeClock();
	const db = openInlineDatabase(join(dir.path, "agent.sqlite"), [identityModule]);
	const identity = createIdentity({ db, clock, ids: systemIds });
	const host = { nowMs: clock.nowMs() };
	const { publicKey } = generateKeyPair();
	identity.trustHost({ nodeName: "node1", hostPublicKey: publicKey, hostNowMs: () => host.nowMs });
	return {
		identity,
		clock,
		host,
		async [Symbol.asyncDispose]() {
			await db[Symbol.asyncDispose]();
			dir[Symbol.dispose]();
		},
	};
}

function person(role: string, expires_at: number | null = null) {
	const token = makeToken(systemIds, "user");
	const pushed: AuthSnapshot["tokens"][number] = {
		token_id: token.id,
		name: `a-${role}`,
		role,
		secret_sha256: secretHash(token.secret),
		expires_at,
	};
	return { text: formatToken(token), token, pushed };
}

test("less is believed the longer the host is silent", () => {
	for (const role of TOKEN_ROLES) {
		const reads = role === "viewer" || role === "inference";
		expect(roleAfter(0, role)).toBe(role);
		expect(roleAfter(CAUTIOUS_AFTER_MS, role)).toBe(role);
		expect(roleAfter(CAUTIOUS_AFTER_MS + 1, role)).toBe(reads ? role : "reader");
		expect(roleAfter(FORGET_AFTER_MS, role)).toBe(reads ? role : "reader");
		expect(roleAfter(FORGET_AFTER_MS + 1, role)).toBeUndefined();
	}
});

test("a node accepts what its host pushed, and nobody before", async () => {
	await using n = node();
	const ann = person("user");
	expect(n.identity.authenticate(ann.text)).toBeUndefined();
	n.identity.pushed.take({ auth_version: 5, tokens: [ann.pushed] });
	expect(n.identity.authenticate(ann.text)).toEqual({
		role: "user",
		id: ann.token.id,
		name: "a-user",
		node: undefined,
		expiresAt: null,
	});
	const wrong = formatToken({ ...ann.token, secret: systemIds.secret(32) });
	const otherKind = formatToken({ ...ann.token, kind: "admin" });
	for (const text of [wrong, otherKind]) expect(n.identity.authenticate(text)).toBeUndefined();
});

test("a push takes the place of the one before: who is not in it is nobody", async () => {
	await using n = node();
	const [ann, bob] = [person("user"), person("viewer")];
	n.identity.pushed.take({ auth_version: 5, tokens: [ann.pushed, bob.pushed] });
	n.identity.pushed.take({ auth_version: 6, tokens: [bob.pushed] });
	expect(n.identity.authenticate(ann.text)).toBeUndefined();
	expect(n.identity.authenticate(bob.text)).toBeDefined();
	expect(n.identity.pushed.version()).toBe(6);
});

test("cut off from its host for a minute a node lets people read and ask models, after ten minutes nothing", async () => {
	await using n = node();
	const people = TOKEN_ROLES.map((role) => person(role));
	n.identity.pushed.take({ auth_version: 5, tokens: people.map((it) => it.pushed) });
	const roles = () => people.map((it) => n.identity.authenticate(it.text)?.role);
	await n.clock.advance(60_000);
	expect(roles()).toEqual([...TOKEN_ROLES]);
	await n.clock.advance(1);
	expect(roles()).toEqual(["viewer", "inference", "reader", "reader", "reader"]);
	await n.clock.advance(540_000);
	expect(roles()).toEqual([undefined, undefined, undefined, undefined, undefined]);
	expect(n.identity.pushed.version()).toBeUndefined();
	n.identity.pushed.confirm(5);
	expect(roles()[0]).toBeUndefined();
});

test("the host's word that nothing has changed keeps tokens good; another version does not", async () => {
	await using n = node();
	const ann = person("user");
	const role = () => n.identity.authenticate(ann.text)?.role;
	n.identity.pushed.take({ auth_version: 5, tokens: [ann.pushed] });
	for (let minute = 0; minute < 30; minute++) {
		await n.clock.advance(59_000);
		n.identity.pushed.confirm(5);
	}
	expect(role()).toBe("user");
	for (const version of [6, 4, undefined]) {
		await n.clock.advance(59_000);
		n.identity.pushed.confirm(version);
	}
	expect(role()).toBe("reader");
	n.identity.pushed.confirm(5);
	expect(role()).toBe("user");
});

test("a token ends by the host's clock, on a node whose own is wrong too", async () => {
	await using n = node();
	const ends = n.host.nowMs / 1000 + 60;
	const ann = person("user", ends);
	n.identity.pushed.take({ auth_version: 5, tokens: [ann.pushed] });
	n.clock.jumpWall(86_400_000);
	expect(n.identity.authenticate(ann.text)).toMatchObject({ expiresAt: ends });
	n.host.nowMs += 60_000;
	expect(n.identity.authenticate(ann.text)).toBeUndefined();
	expect(n.identity.refusal(ann.text)).toMatchObject({ status: 401, reason: "token_expired" });
	const wrong = formatToken({ ...ann.token, secret: systemIds.secret(32) });
	expect(n.identity.refusal(wrong)).toMatchObject({ reason: "no_valid_token" });
});

test("a role that this version does not know gives nothing", async () => {
	await using n = node();
	const people = ["host", "node", "reader", "root", "__proto__"].map((role) => person(role));
	n.identity.pushed.take({ auth_version: 5, tokens: people.map((it) => it.pushed) });
	for (const { text } of people) expect(n.identity.authenticate(text)).toBeUndefined();
});

test("rows of a host that this machine once was let nobody in on a node; only its own admin token does", async () => {
	const dir = tempDir();
	const clock = new FakeClock();
	await using db = openInlineDatabase(join(dir.path, "agent.sqlite"), [identityModule]);
	const former = createIdentity({ db, clock, ids: systemIds });
	former.keepPeople();
	const { text } = await former.people.create({
		name: "ann" as never,
		role: "admin",
		ttlS: undefined,
		createdBy: "admin",
	});
	const admin = formatToken(makeToken(systemIds, "admin"));
	const now = createIdentity({ db, clock, ids: systemIds });
	await now.setAdmin(admin);
	expect(former.authenticate(text)).toBeDefined();
	expect(now.authenticate(text)).toBeUndefined();
	expect(now.refusal(text)).toMatchObject({ reason: "no_valid_token" });
	expect(now.authenticate(admin)).toMatchObject({ role: "admin" });
	dir[Symbol.dispose]();
});

test("an older push that comes late does not bring back who was revoked", async () => {
	await using n = node();
	const { pushed } = n.identity;
	const ann = person("user");
	expect(pushed.take({ auth_version: 1, tokens: [ann.pushed] })).toBe(1);
	expect(pushed.take({ auth_version: 2, tokens: [] })).toBe(2);
	expect(pushed.take({ auth_version: 1, tokens: [ann.pushed] })).toBe(2);
	// An answer that was under way when the newer one was pushed says nothing of now.
	pushed.confirm(1);
	expect(pushed.take({ auth_version: 1, tokens: [ann.pushed] })).toBe(2);
	pushed.confirm(2);
	expect(pushed.take({ auth_version: 1, tokens: [ann.pushed] })).toBe(2);
	expect(pushed.find(ann.token.id)).toBeUndefined();
});

test("a host that came back from a backup is believed: it says itself that it is at an older version", async () => {
	await using n = node();
	const { pushed } = n.identity;
	const ann = person("user");
	pushed.take({ auth_version: 7, tokens: [] });
	pushed.confirm(7);
	pushed.confirm(3);
	expect(pushed.take({ auth_version: 3, tokens: [ann.pushed] })).toBe(3);
	expect(pushed.find(ann.token.id)?.role).toBe("user");
	// What was forgotten stands in nobody's way.
	await n.clock.advance(FORGET_AFTER_MS + 1);
	expect(pushed.take({ auth_version: 1, tokens: [] })).toBe(1);
});
