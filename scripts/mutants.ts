/**
 * Takes out one guard at a time and runs its tests: `bun scripts/mutants.ts`. A guard whose tests stay green is one
 * that nobody would miss until somebody attacks; it is printed as SURVIVED and makes the run fail.
 *
 * `--only NAME,…` takes some guards (a part of a name is enough), `--list` names them, `--head` takes the last commit
 * instead of the working tree. The guards are in mutants/, by theme. Nothing is changed in the working tree: its files
 * are copied into a temporary directory, and the tests run there.
 */
import {
	cpSync,
	existsSync,
	mkdirSync,
	mkdtempSync,
	readFileSync,
	rmSync,
	symlinkSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { Guard } from "./mutants/guard.ts";
import { GUARDS } from "./mutants/guards.ts";

const ROOT = new URL("..", import.meta.url).pathname;
/** A watchdog; a test that hangs without its guard has noticed, too. */
const LIMIT_MS = 120_000;
/** Something failed that is no test: the file itself. */
const NO_TEST = "no test by name";

interface Outcome {
	guard: Guard;
	/** The test that failed, or what is wrong with the guard itself. */
	red: string | undefined;
	problem?: string;
}

/** What the file looks like without its guard. @throws Error when the text to take out is not there exactly once */
export function withoutGuard({ name, file, find, replace }: Guard, text: string): string {
	const count = text.split(find).length - 1;
	if (count !== 1) throw new Error(`${name}: its text is ${count} times in ${file}, wanted once`);
	if (find === replace) throw new Error(`${name}: nothing is taken out`);
	return text.replace(find, () => replace);
}

/** What is wrong with the list itself; the gate asks, so that a guard that moved takes its entry along. */
export function listProblems(guards: readonly Guard[], root = ROOT): string[] {
	const problems: string[] = [];
	const names = new Set<string>();
	for (const guard of guards) {
		if (names.has(guard.name)) problems.push(`${guard.name} is there twice`);
		names.add(guard.name);
		for (const test of guard.tests) {
			if (!existsSync(join(root, test))) problems.push(`${guard.name}: ${test} does not exist`);
		}
		try {
			withoutGuard(guard, readFileSync(join(root, guard.file), "utf8"));
		} catch (error) {
			problems.push(error instanceof Error ? error.message : String(error));
		}
	}
	return problems;
}

if (import.meta.main) process.exit(await main(process.argv.slice(2)));

async function main(args: readonly string[]): Promise<number> {
	if (args[0] === "--list") {
		for (const { name, file } of GUARDS) console.log(`${name.padEnd(40)} ${file}`);
		return 0;
	}
	const options = args.filter((arg) => arg !== "--head");
	const parts = options[0] === "--only" && options.length === 2 ? (options[1]?.split(",") ?? []) : undefined;
	const guards = GUARDS.filter(({ name }) => parts?.some((part) => name.includes(part)) ?? true);
	if (guards.length === 0 || (options.length > 0 && parts === undefined)) {
		console.error("usage: bun scripts/mutants.ts [--head] [--only NAME,…] | --list");
		return 2;
	}
	const copy = mkdtempSync(join(tmpdir(), "gswarm-mutants-"));
	try {
		if (args.includes("--head")) copyHead(copy);
		else copyTree(copy);
		symlinkSync(join(ROOT, "node_modules"), join(copy, "node_modules"));
		const problems = listProblems(guards, copy);
		for (const problem of problems) console.error(problem);
		const outcomes: Outcome[] = [];
		const green = new Map<string, string | undefined>();
		for (const guard of guards) {
			if (problems.some((problem) => problem.startsWith(`${guard.name}: `))) continue;
			const outcome = await tryGuard(copy, guard, green);
			outcomes.push(outcome);
			console.log(line(outcome));
		}
		const missed = outcomes.filter(({ red }) => red !== undefined).length;
		console.log(`\n${missed} of ${guards.length} guards are missed by a test`);
		return missed === guards.length ? 0 : 1;
	} finally {
		rmSync(copy, { recursive: true, force: true });
	}
}

/** What git has or would take. */
function copyTree(target: string): void {
	const listed = Bun.spawnSync(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], {
		cwd: ROOT,
	});
	for (const path of listed.stdout.toString().split("\0")) {
		if (path === "" || !existsSync(join(ROOT, path))) continue;
		mkdirSync(dirname(join(target, path)), { recursive: true });
		cpSync(join(ROOT, path), join(target, path));
	}
}

/** The last commit, while the working tree is between two states. */
function copyHead(target: string): void {
	const archive = Bun.spawnSync(["git", "archive", "HEAD"], { cwd: ROOT, maxBuffer: 1 << 30 });
	const { exitCode } = Bun.spawnSync(["tar", "-x", "-C", target], { stdin: archive.stdout });
	if (archive.exitCode !== 0 || exitCode !== 0) throw new Error("the last commit could not be unpacked");
}

/** `green`: what the tests said with all guards in place, by their names. */
async function tryGuard(
	copy: string,
	guard: Guard,
	green: Map<string, string | undefined>,
): Promise<Outcome> {
	const tests = guard.tests.join(" ");
	if (!green.has(tests)) green.set(tests, await firstFailure(copy, guard.tests));
	const before = green.get(tests);
	if (before !== undefined) return { guard, red: undefined, problem: `fails with the guard too: ${before}` };
	const path = join(copy, guard.file);
	const text = readFileSync(path, "utf8");
	writeFileSync(path, withoutGuard(guard, text));
	try {
		const red = await firstFailure(copy, guard.tests);
		if (red === NO_TEST) return { guard, red: undefined, problem: "what is left does not even load" };
		return { guard, red };
	} finally {
		writeFileSync(path, text);
	}
}

/** The name of the first test that failed; undefined when all passed. */
async function firstFailure(cwd: string, tests: readonly string[]): Promise<string | undefined> {
	const child = Bun.spawn(
		[process.execPath, "test", "--bail=1", "--timeout=30000", ...tests.map((test) => `./${test}`)],
		{
			cwd,
			env: { ...process.env, NO_COLOR: "1", CI: "true" },
			stdio: ["ignore", "pipe", "pipe"],
			timeout: LIMIT_MS,
			killSignal: "SIGKILL",
		},
	);
	const [out, err] = await Promise.all([child.stdout.text(), child.stderr.text()]);
	const exitCode = await child.exited;
	if (exitCode === 0) return undefined;
	if (child.signalCode === "SIGKILL") return `it hangs (${LIMIT_MS / 1000} s)`;
	return /^\(fail\) (.*?)(?: \[[\d.]+m?s\])?$/m.exec(`${out}\n${err}`)?.[1] ?? NO_TEST;
}

function line({ guard, red, problem }: Outcome): string {
	const end = red ?? (problem === undefined ? "SURVIVED" : `ERROR: ${problem}`);
	return `${guard.name.padEnd(40)} → ${end}`;
}
