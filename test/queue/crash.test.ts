import { expect, test } from "bun:test";
import { existsSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openQueue, queueModule } from "../../src/core/queue/queue.ts";
import type { TaskRow } from "../../src/core/queue/task-row.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { openInlineDatabase } from "../../src/platform/database.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { silentLog } from "../../src/platform/log.ts";
import { isTerminal } from "../../src/schema/task.ts";
import { requires } from "../support/requires.ts";
import { tempDir } from "../support/temp-dir.ts";
import { checkInvariants, newMemory } from "./invariants.ts";

const LONG = process.env["LONG"] === "1";
/** Killed processes need no real disk: what the kernel has taken is there, whoever dies. */
const FAST = existsSync("/dev/shm") ? "/dev/shm" : tmpdir();
const CHILD = join(import.meta.dir, "crash-child.ts");
const LIMIT_MS = 60_000;

/** Runs a child to its end or its death, and gives what it said. */
async function linesOf(command: string[]): Promise<{ lines: string[]; died: boolean }> {
	const child = Bun.spawn(command, { stdout: "pipe", stderr: "ignore", timeout: LIMIT_MS });
	const text = await new Response(child.stdout).text();
	await child.exited;
	return { lines: text.split("\n").filter((line) => line !== ""), died: child.exitCode !== 0 };
}

/** What a death left behind is whole, everything that was acknowledged is true, and the rest comes to its end. */
async function checkAfter(path: string, lines: readonly string[]): Promise<void> {
	const said = (word: string): string[][] =>
		lines.filter((line) => line.startsWith(`${word} `)).map((line) => line.split(" ").slice(1));
	await using db = openInlineDatabase(path, [queueModule]);
	await using queue = await openQueue(
		{ db, clock: systemClock, ids: systemIds, log: silentLog },
		{ queue: "node", node: "node1" },
	);
	const memory = newMemory();
	const rows = checkInvariants(db.read, memory, { slots: 4, capacity: {} });
	const byId = new Map(rows.map((row): [string, TaskRow] => [row.task_id, row]));
	for (const [, id] of said("submitted"))
		expect({ id, isThere: byId.has(id ?? "") }).toEqual({ id, isThere: true });
	for (const [id, status] of said("ended")) expect(byId.get(id ?? "")?.state as string).toBe(status ?? "");
	// All of a batch or none.
	const batch = rows.filter(({ model, reservations }) => model === "m" && reservations === "[]");
	expect(batch.length).toBeOneOf([0, 2]);
	if (said("batch").length > 0) expect(batch.map(({ task_id }) => task_id)).toEqual(said("batch")[0] ?? []);
	// One for each key.
	const keys = db.read.query("SELECT task_id FROM queue_idempotency").all();
	expect(keys.length).toBe(rows.length - Math.max(0, batch.length - 1));
	// Who was running may run again; nobody who ended does.
	const again: string[] = [];
	queue.start({
		move: ({ taskId }) => {
			again.push(taskId);
			return Promise.resolve({ done: true });
		},
		copy: () => Promise.reject(new Error("broken")),
	});
	for (const { task_id } of rows) await queue.waitFor(task_id, AbortSignal.timeout(LIMIT_MS));
	expect(again.filter((id) => isTerminal(byId.get(id)?.state ?? "completed"))).toEqual([]);
	expect(new Set(again).size).toBe(again.length);
	checkInvariants(db.read, memory, { slots: 4, capacity: {} });
}

function forget(path: string): void {
	for (const end of ["", "-wal", "-shm"]) rmSync(`${path}${end}`, { force: true });
}

test("a kill -9 before any write of submit, claim and settle loses nothing that was acknowledged", async () => {
	using dir = tempDir(FAST);
	const path = join(dir.path, "agent.sqlite");
	const whole = await linesOf([process.execPath, CHILD, path]);
	expect(whole.died).toBe(false);
	await checkAfter(path, whole.lines);
	const writes = Number(whole.lines.at(-1)?.split(" ")[1]);
	expect(writes).toBeGreaterThan(60);
	// Every write in the long run, every fourth from a place of its own each time in the short one.
	const stride = LONG ? 1 : 4;
	for (let at = 1 + Math.floor(Math.random() * stride); at < writes; at += stride) {
		forget(path);
		const { lines, died } = await linesOf([process.execPath, CHILD, path, String(at)]);
		expect({ at, died }).toEqual({ at, died: true });
		await checkAfter(path, lines);
	}
}, 600_000);

const traced = requires("strace", "a kill -9 inside SQLite's own writes") ? test : test.skip;

traced(
	"a kill -9 inside a commit leaves the whole commit or nothing of it",
	async () => {
		using dir = tempDir();
		const path = join(dir.path, "agent.sqlite");
		const calls = "pwrite64,fsync,fdatasync,ftruncate";
		// The first calls make the tables; the commits of the tasks come after them.
		const places = LONG ? Array.from({ length: 120 }, (_, n) => 20 + 3 * n) : [60, 140, 200, 260];
		let deaths = 0;
		for (const at of places) {
			forget(path);
			const { lines, died } = await linesOf([
				"strace",
				"-f",
				"-o",
				"/dev/null",
				"-P",
				path,
				"-P",
				`${path}-wal`,
				"-e",
				`trace=${calls}`,
				"-e",
				`inject=${calls}:signal=SIGKILL:when=${at}`,
				process.execPath,
				CHILD,
				path,
			]);
			if (died) deaths++;
			if (existsSync(path)) await checkAfter(path, lines);
		}
		expect(deaths).toBeGreaterThan(0);
	},
	600_000,
);
