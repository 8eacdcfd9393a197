import { expect, test } from "bun:test";
import { existsSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { logSize } from "../../src/platform/log-file.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const MODULE = new URL("../../src/platform/log-file.ts", import.meta.url).pathname;
const CLOCK = new URL("../../src/platform/clock.ts", import.meta.url).pathname;

/** Says something to its errors again and again, and keeps the file that it names short. */
function writer(path: string, stderr: string) {
	const program = `
		import { keepTrimmed } from ${JSON.stringify(MODULE)};
		import { systemClock as clock } from ${JSON.stringify(CLOCK)};
		void keepTrimmed({ clock, everyMs: 5, limitBytes: 10_000 }, ${JSON.stringify(path)}, new AbortController().signal);
		setInterval(() => process.stderr.write("x".repeat(999) + "\\n"), 1);
	`;
	return Bun.spawn([process.execPath, "-e", program], {
		stdout: "ignore",
		stderr: openSync(stderr, "a"),
	});
}

test("a process keeps the log that its errors go to short, and what was there before beside it", async () => {
	using dir = tempDir();
	const path = join(dir.path, "agent.log");
	const child = writer(path, path);
	try {
		await until("it was trimmed", () => existsSync(`${path}.1`) && logSize(`${path}.1`) > 10_000);
		await until("it goes on at the beginning", () => logSize(path) > 0 && logSize(path) < 100_000);
		expect(readFileSync(path, "utf8").startsWith("x")).toBe(true);
	} finally {
		child.kill("SIGKILL");
		await child.exited;
	}
}, 60_000);

test("a log that its errors do not go to is not touched", async () => {
	using dir = tempDir();
	const [path, other] = [join(dir.path, "agent.log"), join(dir.path, "elsewhere.log")];
	await Bun.write(path, "y".repeat(20_000));
	const child = writer(path, other);
	try {
		await until("it writes elsewhere", () => logSize(other) > 20_000);
		expect([logSize(path), existsSync(`${path}.1`)]).toEqual([20_000, false]);
	} finally {
		child.kill("SIGKILL");
		await child.exited;
	}
}, 60_000);
