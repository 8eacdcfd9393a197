import { expect, test } from "bun:test";
import { readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { lockDirectory } from "../../src/platform/directory-lock.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const HOLDER = new URL("./lock-holder.ts", import.meta.url).pathname;

function tryLock(path: string): string {
	try {
		lockDirectory(path, () => " (the other one)")[Symbol.dispose]();
		return "got it";
	} catch (error) {
		const { status, reason, message } = asGswarmError(error);
		return `${status} ${reason} ${message}`;
	}
}

test("a second one is refused at once, with who has it, until the first gives it back", () => {
	using dir = tempDir();
	const path = join(dir.path, "lock.sqlite");
	{
		using lock = lockDirectory(path, () => "");
		void lock;
		expect(tryLock(path)).toBe(
			"409 data_dir_in_use Another agent runs on this data directory (the other one).",
		);
	}
	expect(tryLock(path)).toBe("got it");
});

test("another process is refused too, and gets it once the holder was killed", async () => {
	using dir = tempDir();
	const path = join(dir.path, "lock.sqlite");
	const holder = Bun.spawn([process.execPath, HOLDER, path], { stdout: "pipe", stderr: "inherit" });
	try {
		const said = await holder.stdout.getReader().read();
		expect(new TextDecoder().decode(said.value)).toBe("locked\n");
		expect(tryLock(path)).toStartWith("409 data_dir_in_use");
	} finally {
		holder.kill("SIGKILL");
		await holder.exited;
	}
	expect(await until("the lock is free", () => tryLock(path) === "got it")).toBe(true);
});

test("the lock and what lies beside it are for nobody else to read", () => {
	using dir = tempDir();
	using lock = lockDirectory(join(dir.path, "lock.sqlite"), () => "");
	void lock;
	const modes = readdirSync(dir.path).map((name) =>
		(statSync(join(dir.path, name)).mode & 0o777).toString(8),
	);
	expect(new Set(modes)).toEqual(new Set(["600"]));
});

test("what is wrong with the file itself is not taken for another agent", () => {
	using dir = tempDir();
	const path = join(dir.path, "lock.sqlite");
	writeFileSync(path, "this is no database, and long enough to be read as one ".repeat(20));
	expect(() => lockDirectory(path, () => "")).toThrow("not a database");
	expect(() => lockDirectory(join(dir.path, "no", "such", "directory"), () => "")).toThrow();
});
