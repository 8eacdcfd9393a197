import { expect, test } from "bun:test";
import { allows, type CallerRole, type NeededRole } from "../../src/core/identity/roles.ts";

const CALLERS: readonly CallerRole[] = ["viewer", "inference", "user", "operator", "admin", "node", "host"];
const PEOPLE: readonly CallerRole[] = ["viewer", "user", "operator", "admin"];
const NEEDED: readonly NeededRole[] = ["public", "join", "grant", ...CALLERS];

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
	expect(may).toEqual(["public", "node"]);
	expect(CALLERS.filter((have) => allows(have, "node"))).toEqual(["node"]);
});

test("the host stands for people whom it has checked, never for a node; nobody stands for the host", () => {
	expect(NEEDED.filter((need) => allows("host", need))).toEqual([
		"public",
		"viewer",
		"inference",
		"user",
		"operator",
		"admin",
		"host",
	]);
	expect(CALLERS.filter((have) => allows(have, "host"))).toEqual(["host"]);
});

test("an inference token asks models and reads nothing; users and above may ask models, viewers may not", () => {
	expect(NEEDED.filter((need) => allows("inference", need))).toEqual(["public", "inference"]);
	expect(CALLERS.filter((have) => allows(have, "inference"))).toEqual([
		"inference",
		"user",
		"operator",
		"admin",
		"host",
	]);
});

test("what carries its own secret, join and grant, is nobody's by role; what is public is everybody's", () => {
	expect(CALLERS.filter((have) => allows(have, "join") || allows(have, "grant"))).toEqual([]);
	expect(CALLERS.filter((have) => allows(have, "public"))).toEqual([...CALLERS]);
});
