import { expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
	closeFile,
	fileError,
	openOurs,
	renameDurably,
	setLength,
	syncData,
	syncPath,
	writeAt,
	writeFileDurably,
} from "../../src/platform/durable-file.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import { tempDir } from "../support/temp-dir.ts";

const MODULE = new URL("../../src/platform/durable-file.ts", import.meta.url).pathname;

test("bytes lie at their position, the file has the length it was given, mode 0600", async () => {
	using dir = tempDir();
	const path = join(dir.path, "f");
	const fd = await openOurs(path);
	await setLength(fd, 10);
	await writeAt(fd, Buffer.from("cd"), 2);
	await writeAt(fd, Buffer.from("ab"), 0);
	await syncData(fd);
	await closeFile(fd);
	expect(readFileSync(path, "latin1")).toBe("abcd\0\0\0\0\0\0");
	expect(statSync(path).mode & 0o777).toBe(0o600);
});

test("a write that the system cuts short is not taken for a whole one", async () => {
	using dir = tempDir();
	const path = join(dir.path, "f");
	// Above this size of a file the system writes a part, then fails.
	const script = `import { openOurs, writeAt } from ${JSON.stringify(MODULE)};
		await writeAt(await openOurs(${JSON.stringify(path)}), new Uint8Array(1 << 20), 0);
		console.log("whole");`;
	const child = Bun.spawn(["sh", "-c", 'ulimit -f 16; exec "$@"', "sh", process.execPath, "-e", script], {
		stdout: "pipe",
		stderr: "ignore",
	});
	expect(await new Response(child.stdout).text()).toBe("");
	expect(await child.exited).not.toBe(0);
	expect(statSync(path).size).toBeLessThan(1 << 20);
});

test("a symbolic link in the place of a file of ours is not followed", async () => {
	using dir = tempDir();
	writeFileSync(join(dir.path, "target"), "theirs");
	symlinkSync(join(dir.path, "target"), join(dir.path, "f"));
	const opened = await openOurs(join(dir.path, "f")).catch((error: NodeJS.ErrnoException) => error.code);
	expect(opened).toBe("ELOOP");
	const synced = await syncPath(join(dir.path, "f")).catch((error: NodeJS.ErrnoException) => error.code);
	expect(synced).toBe("ELOOP");
});

test("a small file is replaced whole, what an interrupted write left does not matter", async () => {
	using dir = tempDir();
	const path = join(dir.path, "f");
	await writeFileDurably(path, "one");
	writeFileSync(`${path}.new`, "half of something longer");
	await writeFileDurably(path, "two");
	expect(readFileSync(path, "utf8")).toBe("two");
	expect(statSync(path).mode & 0o777).toBe(0o600);
	expect(readdirSync(dir.path)).toEqual(["f"]);
});

test("a rename moves between directories", async () => {
	using dir = tempDir();
	using other = tempDir(dir.path);
	writeFileSync(join(dir.path, "a"), "a");
	await renameDurably(join(dir.path, "a"), join(other.path, "b"));
	expect(existsSync(join(dir.path, "a"))).toBe(false);
	expect(readFileSync(join(other.path, "b"), "utf8")).toBe("a");
});

test.each([
	["ENOSPC", "disk_full", 507, false],
	["EDQUOT", "disk_full", 507, false],
	["EIO", "io_error", 503, false],
	["EROFS", "io_error", 503, false],
	["EMFILE", "system_limit", 503, true],
])("%s is an operating failure: %s", (code, reason, status, retryable) => {
	const cause = Object.assign(new Error("x /secret/path"), { code });
	const error = fileError(cause, "Writing model.gguf");
	expect(error).toBeInstanceOf(GswarmError);
	expect(error).toMatchObject({ code: "RESOURCE_UNAVAILABLE", reason, status, retryable, cause });
	expect((error as GswarmError).message).not.toContain("/secret");
});

test("an error that is none of the filesystem's stays what it is", () => {
	const bug = new TypeError("x is undefined");
	expect(fileError(bug, "Writing")).toBe(bug);
	const failure = new GswarmError("CONFLICT", "no", {});
	expect(fileError(failure, "Writing")).toBe(failure);
});
