import { expect, test } from "bun:test";
import {
	allows,
	type CallerRole,
	mayGrant,
	type NeededRole,
	roleRefused,
} from "../../src/core/identity/roles.ts";
import { TOKEN_ROLES } from "../../src/schema/token.ts";

const CALLERS: readonly CallerRole[] = [...TOKEN_ROLES, "reader", "node", "host"];
const PEOPLE = ["viewer", "user", "operator", "admin"] as const;
const NEEDED: readonly NeededRole[] = ["public", "any", "join", "grant", ...TOKEN_ROLES, "node", "host"];

test("viewer < user < operator < admin: each may do what the one before may, and only admin all", () => {
	PEOPLE.forEach((have, mine) => {
		PEOPLE.forEach((need, wanted) => {
			expect([have, need, allows(have, need)]).toEqual([have, need, mine >= wanted]);
		});
	});
});

test("what a role may do, the next higher role of people may too", () => {
	for (const need of NEEDED) {
		for (const [at, have] of PEOPLE.entries()) {
			const next = PEOPLE[at + 1];
			if (next !== undefined && allows(have, need))
				expect([have, need, allows(next, need)]).toEqual([have, need, true]);
		}
	}
});

test("a node reports and asks as a node, and may nothing that people may", () => {
	const may = NEEDED.filter((need) => allows("node", need));
	expect(may).toEqual(["public", "any", "node"]);
	expect(CALLERS.filter((have) => allows(have, "node"))).toEqual(["node"]);
});

test("the host stands for people whom it has checked, never for a node; nobody stands for the host", () => {
	expect(NEEDED.filter((need) => allows("host", need))).toEqual(["public", "any", ...TOKEN_ROLES, "host"]);
	expect(CALLERS.filter((have) => allows(have, "host"))).toEqual(["host"]);
});

test("an inference token asks models and reads nothing; users and above may ask models, viewers may not", () => {
	expect(NEEDED.filter((need) => allows("inference", need))).toEqual(["public", "any", "inference"]);
	expect(CALLERS.filter((have) => allows(have, "inference"))).toEqual([
		"inference",
		"user",
		"operator",
		"admin",
		"reader",
		"host",
	]);
});

test("who is left with reading on a node without its host reads and asks models, and no more", () => {
	expect(NEEDED.filter((need) => allows("reader", need))).toEqual(["public", "any", "viewer", "inference"]);
	expect(roleRefused("reader", "user")).toMatchObject({ status: 503, reason: "host_unreachable" });
	expect(roleRefused("viewer", "user")).toMatchObject({
		status: 403,
		reason: "role_not_allowed",
		details: { role: "viewer", needed: "user" },
	});
});

test("what carries its own secret, join and grant, is nobody's by role; public and any are everybody's", () => {
	expect(CALLERS.filter((have) => allows(have, "join") || allows(have, "grant"))).toEqual([]);
	expect(CALLERS.filter((have) => allows(have, "public") && allows(have, "any"))).toEqual([...CALLERS]);
});

test("only an admin gives rights away, and nobody more than they have", () => {
	const granting = CALLERS.filter((have) => TOKEN_ROLES.some((wanted) => mayGrant(have, wanted)));
	expect(granting).toEqual(["admin", "host"]);
	expect(TOKEN_ROLES.filter((wanted) => mayGrant("admin", wanted))).toEqual([...TOKEN_ROLES]);
});
