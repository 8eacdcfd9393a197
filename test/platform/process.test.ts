import { afterEach, expect, test } from "bun:test";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { systemClock as clock } from "../../src/platform/clock.ts";
import {
	adoptProcess,
	type DetachedProcess,
	findByArgument,
	identify,
	isSameProcess,
	killGroup,
	killLeftovers,
	minimalEnvironment,
	spawnDetached,
} from "../../src/platform/process.ts";
import { type TempDir, tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const cleanUps: (() => void)[] = [];
afterEach(() => {
	for (const cleanUp of cleanUps.splice(0)) cleanUp();
});

const ENVIRONMENT = { PATH: process.env["PATH"] ?? "" };

/** Runs a shell script in the background; what it leaves is killed after the test. */
function shell(script: string, dir: TempDir = workDir()): { child: DetachedProcess; logPath: string } {
	const logPath = join(dir.path, "log");
	const child = spawnDetached({ argv: ["sh", "-c", script], environment: ENVIRONMENT, logPath });
	cleanUps.push(() => {
		if (isSameProcess(child.identity)) process.kill(-child.identity.pid, "SIGKILL");
	});
	return { child, logPath };
}

function workDir(): TempDir {
	const dir = tempDir();
	cleanUps.push(() => dir[Symbol.dispose]());
	return dir;
}

test("a child gets PATH, HOME, LANG, TMPDIR and what is given, and nothing else of our environment", async () => {
	const logPath = join(workDir().path, "log");
	process.env["CANARY_OF_THE_AGENT"] = "seen";
	cleanUps.push(() => delete process.env["CANARY_OF_THE_AGENT"]);
	const environment = minimalEnvironment(
		{ ...process.env, PATH: ENVIRONMENT.PATH, HOME: "/home/x", LANG: "C.UTF-8", HF_TOKEN: "secret" },
		{ CUDA_VISIBLE_DEVICES: "0" },
	);
	const child = spawnDetached({ argv: ["env"], environment, logPath });
	expect(await child.exited).toEqual({ code: 0, signal: null });
	const names = readFileSync(logPath, "utf8")
		.trim()
		.split("\n")
		.map((line) => line.split("=")[0]);
	expect(new Set(names.filter((name) => name !== "TMPDIR"))).toEqual(
		new Set(["CUDA_VISIBLE_DEVICES", "HOME", "LANG", "PATH"]),
	);
});

test.each([
	"BUN_OPTIONS",
	"NODE_OPTIONS",
	"LD_PRELOAD",
	"HF_TOKEN",
	"GSWARM_JOIN_TOKEN",
	"DYLD_INSERT_LIBRARIES",
])("%s is never given to a child", (name) => {
	expect(() => minimalEnvironment({}, { [name]: "x" })).toThrow(name);
	expect(minimalEnvironment({ [name]: "x" })).toEqual({});
});

test("output is appended to a file that only its owner can read", async () => {
	const dir = workDir();
	for (const word of ["one", "two"]) await shell(`echo ${word}; echo ${word} again >&2`, dir).child.exited;
	const logPath = join(dir.path, "log");
	expect(readFileSync(logPath, "utf8")).toBe("one\none again\ntwo\ntwo again\n");
	expect(statSync(logPath).mode & 0o777).toBe(0o600);
});

test("the exit code is told, and the signal where there was one", async () => {
	expect(await shell("exit 3").child.exited).toEqual({ code: 3, signal: null });
	expect(await shell("kill -KILL $$").child.exited).toEqual({ code: null, signal: "SIGKILL" });
});

test("a program that is not there is an error that names it", () => {
	const input = {
		argv: ["/nonexistent/engine"],
		environment: ENVIRONMENT,
		logPath: join(workDir().path, "log"),
	};
	expect(() => spawnDetached(input)).toThrow("/nonexistent/engine");
});

test("a child inherits no open file or socket of ours", async () => {
	using listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => {} } });
	expect(listener.port).toBeGreaterThan(0);
	const { child, logPath } = shell("ls /proc/self/fd");
	await child.exited;
	// 0, 1, 2, and the directory that ls reads.
	expect(readFileSync(logPath, "utf8").trim().split("\n")).toEqual(["0", "1", "2", "3"]);
});

test("a child leads a process group and session of its own", async () => {
	const { child } = shell("sleep 60");
	const stat = readFileSync(`/proc/${child.identity.pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
	expect(stat.slice(2, 4)).toEqual([String(child.identity.pid), String(child.identity.pid)]);
	await killGroup({ clock }, child.identity, { graceMs: 5000 });
});

test("a process is the same only with its start time and its boot", () => {
	const { identity } = shell("sleep 60").child;
	expect(identify(identity.pid)).toEqual(identity);
	expect(isSameProcess(identity)).toBe(true);
	expect(isSameProcess({ ...identity, startTime: String(Number(identity.startTime) - 1) })).toBe(false);
	expect(isSameProcess({ ...identity, bootId: "0d3e3c5e-0000-4000-8000-000000000000" })).toBe(false);
});

test("the start time is read past a name with spaces and parentheses", async () => {
	const { path } = workDir();
	const program = join(path, "a) S 1 (b c");
	writeFileSync(program, "#!/bin/sh\nsleep 60\n", { mode: 0o755 });
	const child = spawnDetached({ argv: [program], environment: ENVIRONMENT, logPath: join(path, "log") });
	cleanUps.push(() => process.kill(-child.identity.pid, "SIGKILL"));
	await until("the name shows", () =>
		readFileSync(`/proc/${child.identity.pid}/comm`, "utf8").includes("a) S"),
	);
	expect(identify(child.identity.pid)).toEqual(child.identity);
	// Field 22 of 52, counted from the end, where no name is in the way.
	const fields = readFileSync(`/proc/${child.identity.pid}/stat`, "utf8").trim().split(" ");
	expect(child.identity.startTime).toBe(fields.at(22 - 53) ?? "");
});

test("a process that ended is nobody, also while its parent has not asked for its exit code", async () => {
	const { child } = shell("exit 0");
	await child.exited;
	expect(isSameProcess(child.identity)).toBe(false);
	// A zombie of our own making: a shell that has a finished child and never waits for it.
	const { child: parent, logPath } = shell("sh -c 'echo $$' & exec sleep 60");
	const pid = await until("the zombie's pid is known", () => Number(readFileSync(logPath, "utf8")));
	await until("it is a zombie", () => readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z "));
	expect(identify(pid)).toBeUndefined();
	expect(identify(parent.identity.pid)).toBeDefined();
});

test("killing ends the whole group, and by force what ignores SIGTERM", async () => {
	const { child, logPath } = shell(
		"trap '' TERM; (trap '' TERM; echo $$; sleep 60) & echo up; while :; do sleep 1; done",
	);
	await until("both are up", () => readFileSync(logPath, "utf8").split("\n").length > 2);
	const status = child.exited;
	await killGroup({ clock }, child.identity, { graceMs: 50 });
	expect(isSameProcess(child.identity)).toBe(false);
	expect((await status).signal).toBe("SIGKILL");
	await until("nobody of the group is left", () => !hasGroup(child.identity.pid));
});

test("killing waits for a process that leaves in its own time", async () => {
	const { child, logPath } = shell("trap 'echo leaving; exit 0' TERM; echo up; while :; do sleep 0.02; done");
	await until("it is up", () => readFileSync(logPath, "utf8").includes("up"));
	await killGroup({ clock }, child.identity, { graceMs: 20_000 });
	expect(readFileSync(logPath, "utf8")).toContain("leaving");
	expect(await child.exited).toEqual({ code: 0, signal: null });
});

test("a process that has somebody else's old pid is not killed", async () => {
	const { child } = shell("sleep 60");
	const recycled = { ...child.identity, startTime: String(Number(child.identity.startTime) - 1) };
	await killGroup({ clock }, recycled, { graceMs: 10 });
	killLeftovers(recycled);
	killLeftovers(child.identity);
	expect(isSameProcess(child.identity)).toBe(true);
});

test("what an ended child has left in its group can be ended", async () => {
	const { child, logPath } = shell("sleep 60 & echo up");
	await child.exited;
	expect(readFileSync(logPath, "utf8")).toBe("up\n");
	expect(hasGroup(child.identity.pid)).toBe(true);
	killLeftovers(child.identity);
	await until("the group is empty", () => !hasGroup(child.identity.pid));
});

test("the end of an adopted process is noticed", async () => {
	const { child } = shell("sleep 60");
	using adopted = adoptProcess({ clock }, child.identity);
	process.kill(child.identity.pid, "SIGKILL");
	expect(await adopted.exited).toEqual({ code: null, signal: null });
});

test("a process is found by one of its arguments", () => {
	// The colon keeps the shell from becoming the sleep.
	const { child } = shell("sleep 60; : found-by-this");
	const found = findByArgument("sleep 60; : found-by-this");
	expect(found).toEqual([child.identity]);
	expect(findByArgument("sleep 60; : found-by")).toEqual([]);
});

/** Whether the process group has a living member. */
function hasGroup(group: number): boolean {
	try {
		process.kill(-group, 0);
	} catch {
		return false;
	}
	const { stdout } = Bun.spawnSync(["ps", "-e", "-o", "pgid=,stat="]);
	return stdout
		.toString()
		.split("\n")
		.some((line) => {
			const [pgid, stat] = line.trim().split(/\s+/);
			return Number(pgid) === group && stat?.startsWith("Z") !== true;
		});
}
