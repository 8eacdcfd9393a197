/**
 * Whether `program` is there for a suite that needs it: `const it = requires("nginx", "copy rate") ? test : test.skip`.
 * A missing one is said in a line of its own, and is an error where REQUIRE=all is set, so that the machine that
 * checks everything cannot skip in silence.
 */
export function requires(program: string, suite: string, debianPackage: string = program): boolean {
	if (Bun.which(program)) return true;
	const line = `SKIP (needs Debian package ${debianPackage}): ${suite}`;
	if (process.env.REQUIRE === "all") throw new Error(`${line}; REQUIRE=all makes a skip a failure`);
	console.error(line);
	return false;
}

/**
 * Whether this machine has a piece of hardware that no package brings. Without it the suite is not there at all, and a
 * line says so: nobody can install it, so that it is no skipped test, with REQUIRE=all neither.
 */
export function hasHardware(what: string, isThere: boolean, suite: string): boolean {
	if (!isThere) console.error(`ABSENT (this machine has no ${what}): ${suite}`);
	return isThere;
}
