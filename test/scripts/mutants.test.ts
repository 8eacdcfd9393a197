import { expect, test } from "bun:test";
import type { Guard } from "../../scripts/mutants/guard.ts";
import { GUARDS } from "../../scripts/mutants/guards.ts";
import { listProblems, withoutGuard } from "../../scripts/mutants.ts";

const guard: Guard = { name: "n", file: "f", find: "if (bad) throw", replace: "if (false) throw", tests: [] };

test("every guard of the list is in its file exactly once, and its tests are there", () => {
	expect(listProblems(GUARDS)).toEqual([]);
	expect(GUARDS.length).toBeGreaterThanOrEqual(40);
});

test("a guard that moved, is there twice or would change nothing is an error", () => {
	expect(withoutGuard(guard, "x(); if (bad) throw y; z();")).toBe("x(); if (false) throw y; z();");
	expect(() => withoutGuard(guard, "x();")).toThrow("0 times in f, wanted once");
	expect(() => withoutGuard(guard, "if (bad) throw a; if (bad) throw b;")).toThrow(
		"2 times in f, wanted once",
	);
	expect(() => withoutGuard({ ...guard, replace: guard.find }, guard.find)).toThrow("nothing is taken out");
	// What stands in the place of a guard is text, whatever signs it has.
	expect(withoutGuard({ ...guard, replace: "$& $1" }, guard.find)).toBe("$& $1");
});

test("names are there once, files and tests exist", () => {
	const lost = { ...guard, file: "src/nowhere.ts", tests: ["test/nowhere.test.ts"] };
	const problems = listProblems([lost, lost]).join("\n");
	expect(problems).toContain("n is there twice");
	expect(problems).toContain("test/nowhere.test.ts does not exist");
	expect(problems).toContain("src/nowhere.ts");
});
