/**
 * The gate: `bun run check`. Runs every step even after one has failed, says one line per step, shows the output
 * of those that failed, and ends with `N passed, N failed, N skipped` on a line of its own. Exits 1 on any failure.
 *
 * `--only types,lint` runs some steps. `REQUIRE=all` makes a skipped test a failure. `LONG=1` (`bun run test:long`)
 * lifts the time limits and lets the tests do their long rounds.
 */
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";

interface Totals {
	passed: number;
	failed: number;
	skipped: number;
}

interface Step {
	name: string;
	command: readonly string[];
	/** A watchdog, about ten times what the step needs; only a hung step meets it. */
	limitMs: number;
	/** A run of bun test: its summary is added to the totals. */
	isTests?: boolean;
}

const MINUTE_MS = 60_000;

/** Suites that start many processes or fill both cores: they run after all others, one file at a time. */
const ALONE = ["e2e"];

const STEPS: readonly Step[] = [
	{ name: "format", command: ["biome", "format", "--reporter=summary", "."], limitMs: MINUTE_MS },
	{
		name: "lint",
		command: [
			"oxlint",
			"--type-aware",
			"--deny-warnings",
			"--report-unused-disable-directives",
			"--format=unix",
		],
		limitMs: MINUTE_MS,
	},
	{ name: "types", command: ["tsc", "--noEmit"], limitMs: MINUTE_MS },
	{ name: "generated", command: ["bun", "scripts/generate.ts", "--check"], limitMs: MINUTE_MS },
	{ name: "unused", command: ["knip", "--no-progress"], limitMs: MINUTE_MS },
	{ name: "build", command: ["bun", "scripts/build.ts"], limitMs: 3 * MINUTE_MS },
	{
		name: "tests",
		command: [
			"bun",
			"test",
			"--only-failures",
			"--timeout=30000",
			`--parallel=${Math.min(4, availableParallelism())}`,
			...ALONE.map((folder) => `--path-ignore-patterns=**/test/${folder}/**`),
		],
		limitMs: 7 * MINUTE_MS,
		isTests: true,
	},
	...ALONE.map((folder) => ({
		name: folder,
		command: ["bun", "test", "--only-failures", "--timeout=120000", `./test/${folder}/`],
		limitMs: 5 * MINUTE_MS,
		isTests: true,
	})),
];

if (import.meta.main) process.exit(await check(process.argv.slice(2)));

async function check(args: readonly string[]): Promise<number> {
	const only = selection(args);
	if (only === "unknown") return 2;
	const totals: Totals = { passed: 0, failed: 0, skipped: 0 };
	for (const step of STEPS.filter(({ name }) => only === undefined || only.includes(name))) {
		const { passed, failed, skipped } = await runStep(step);
		totals.passed += passed;
		totals.failed += failed;
		totals.skipped += skipped;
	}
	console.log(`\n${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`);
	return totals.failed === 0 ? 0 : 1;
}

async function runStep({ name, command, limitMs, isTests = false }: Step): Promise<Totals> {
	const start = performance.now();
	const { exitCode, output, timedOut } = await execute(command, process.env.LONG ? undefined : limitMs);
	const found = isTests ? testTotals(output) : { passed: 0, failed: 0, skipped: 0 };
	const problems: string[] = [];
	if (timedOut) problems.push(`killed after its limit of ${limitMs / 1000} s`);
	// A step counts as one failure, and so does a test run that ends badly without a failed test (a crash, no files).
	if (exitCode !== 0 && found.failed === 0) {
		found.failed = 1;
		problems.push(`exit code ${exitCode}`);
	}
	if (process.env.REQUIRE === "all" && found.skipped > 0) {
		problems.push(`${found.skipped} skipped, and REQUIRE=all makes a skip a failure`);
		found.failed += found.skipped;
	}
	const seconds = ((performance.now() - start) / 1000).toFixed(1).padStart(6);
	const counts = isTests ? `  ${found.passed} passed, ${found.failed} failed, ${found.skipped} skipped` : "";
	console.log(`${name.padEnd(10)} ${seconds} s  ${found.failed === 0 ? "ok" : "FAILED"}${counts}`);
	if (found.failed > 0) console.log(indent([...problems, output.trimEnd()].join("\n")));
	else if (isTests) {
		// What is skipped, and suites for hardware that is not here.
		const notes = output.match(found.skipped > 0 ? /^(SKIP|ABSENT).*$/gm : /^ABSENT.*$/gm) ?? [];
		if (notes.length > 0) console.log(indent(notes.join("\n")));
	}
	return found;
}

/**
 * Runs a program of node_modules/.bin or the PATH in the root of the repository, with nothing to read. Its output goes
 * to a file, not a pipe: the order of both streams is kept, and a process that outlives the step holds nobody up.
 */
async function execute(
	[program = "", ...args]: readonly string[],
	limitMs: number | undefined,
): Promise<{ exitCode: number; output: string; timedOut: boolean }> {
	const root = new URL("..", import.meta.url).pathname;
	const path = `${root}node_modules/.bin:${process.env.PATH}`;
	const executable = program === "bun" ? process.execPath : Bun.which(program, { PATH: path });
	if (executable === null)
		return { exitCode: 127, output: `${program} is missing: bun install`, timedOut: false };
	const dir = mkdtempSync(join(tmpdir(), "gswarm-check-"));
	const file = join(dir, "output");
	const output = openSync(file, "w");
	try {
		const child = Bun.spawn([executable, ...args], {
			cwd: root,
			env: { ...process.env, PATH: path, NO_COLOR: "1", CI: "true" },
			stdio: ["ignore", output, output],
			...(limitMs === undefined ? {} : { timeout: limitMs }),
		});
		const exitCode = await child.exited;
		return { exitCode, output: readFileSync(file, "utf8"), timedOut: child.signalCode === "SIGTERM" };
	} finally {
		closeSync(output);
		rmSync(dir, { recursive: true });
	}
}

/** The numbers of bun test's closing summary; a `todo` counts as skipped, an error outside of tests is in `fail`. */
export function testTotals(output: string): Totals {
	const count = (word: string): number =>
		Number([...output.matchAll(new RegExp(`^ *(\\d+) ${word}$`, "gm"))].at(-1)?.[1] ?? 0);
	return { passed: count("pass"), failed: count("fail"), skipped: count("skip") + count("todo") };
}

function selection(args: readonly string[]): readonly string[] | "unknown" | undefined {
	if (args.length === 0) return undefined;
	const names = args[0] === "--only" ? (args[1]?.split(",") ?? []) : [];
	const known = STEPS.map(({ name }) => name);
	if (args.length === 2 && names.length > 0 && names.every((name) => known.includes(name))) return names;
	console.error(`usage: bun run check [--only STEP,…] with steps of: ${known.join(", ")}`);
	return "unknown";
}

function indent(text: string): string {
	return text.replace(/^(?=.)/gm, "           ");
}
