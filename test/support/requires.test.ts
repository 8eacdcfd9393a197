import { afterEach, expect, spyOn, test } from "bun:test";
import { hasHardware, requires } from "./requires.ts";

const before = process.env.REQUIRE;
afterEach(() => {
	if (before === undefined) delete process.env.REQUIRE;
	else process.env.REQUIRE = before;
});

test("a missing program skips, and is an error where everything is required", () => {
	delete process.env.REQUIRE;
	expect(requires("sh", "a suite")).toBe(true);
	expect(requires("no-such-program", "a test of the skip line")).toBe(false);
	process.env.REQUIRE = "all";
	expect(() => requires("no-such-program", "a suite", "no-package")).toThrow(
		"needs Debian package no-package",
	);
});

test("hardware that is not there is told of, and nobody is asked to install it", () => {
	process.env.REQUIRE = "all";
	const said = spyOn(console, "error").mockImplementation(() => {});
	expect(hasHardware("moon", false, "the tides")).toBe(false);
	expect(said.mock.calls).toEqual([["ABSENT (this machine has no moon): the tides"]]);
	said.mockRestore();
	expect(hasHardware("processor", true, "a suite")).toBe(true);
});
