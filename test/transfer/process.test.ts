/** Transfers that are killed, that run out of disk, that are watched for memory: each in a process of its own. */
import { Database as Sqlite } from "bun:sqlite";
import { expect, test } from "bun:test";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { partSizeBytes } from "../../src/schema/manifest.ts";
import { requires } from "../support/requires.ts";
import { tempDir } from "../support/temp-dir.ts";
import type { ChildEvent, ChildInput } from "../support/transfer-child.ts";
import { until } from "../support/until.ts";

const MIB = 1024 * 1024;
const PART = partSizeBytes(1);
const CHILD = new URL("../support/transfer-child.ts", import.meta.url).pathname;
const LIMIT_MS = 120_000;

interface Child {
	events: ChildEvent[];
	process: Bun.Subprocess<"ignore", "pipe", "inherit">;
	reading: Promise<void>;
}

function start(input: ChildInput, before: readonly string[] = []): Child {
	const command = [...before, process.execPath, CHILD, JSON.stringify(input)];
	const child = Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "inherit" });
	const events: ChildEvent[] = [];
	const reading = (async () => {
		let text = "";
		for await (const piece of child.stdout.pipeThrough(new TextDecoderStream())) {
			text += piece;
			const lines = text.split("\n");
			text = lines.pop() ?? "";
			for (const line of lines) events.push(JSON.parse(line) as ChildEvent);
		}
	})();
	return { events, process: child, reading };
}

async function ended(child: Child): Promise<ChildEvent[]> {
	await child.reading;
	expect(await child.process.exited).toBe(0);
	return child.events;
}

function rowsIn(directory: string): number {
	using db = new Sqlite(join(directory, "agent.sqlite"), { readonly: true });
	return db.query("SELECT part_index FROM transfer_part").all().length;
}

test(
	"a transfer killed with -9 goes on where it was: parts with a row are not asked for again",
	async () => {
		using dir = tempDir();
		const sizeBytes = 4 * PART + 5;
		const input = { directory: dir.path, sizeBytes };
		const first = start({ ...input, hangAt: 2 * PART + MIB });
		await until(
			"it is in the middle of its third part",
			() => first.events.some(({ event }) => event === "reached"),
			LIMIT_MS,
		);
		await until("the rows of two parts are there", () => rowsIn(dir.path) === 2);
		first.process.kill("SIGKILL");
		await first.process.exited;
		expect(existsSync(join(dir.path, "disk/models/acme%2Ftiny"))).toBe(false);
		const [done] = await ended(start(input));
		expect(done).toMatchObject({ event: "done", status: "ready" });
		const asked = done?.reads ?? [];
		expect(Math.min(...asked.map((read) => read.start))).toBe(2 * PART);
		expect(asked.reduce((sum, read) => sum + read.end - read.start, 0)).toBe(2 * PART + 5);
	},
	LIMIT_MS,
);

const isRoot = process.getuid?.() === 0;
if (!isRoot)
	console.error("SKIP (needs root to mount a small tmpfs): a disk that runs full under a transfer");
const onSmallDisk =
	isRoot && requires("unshare", "a disk that runs full under a transfer", "util-linux") ? test : test.skip;

onSmallDisk(
	"a disk that runs full under a transfer fails it, leaves nothing behind, and the agent goes on",
	async () => {
		using dir = tempDir();
		const mounted = join(dir.path, "small");
		mkdirSync(mounted);
		const mount = `mount -t tmpfs -o size=${4 * PART} tmpfs "$0" && exec "$@"`;
		const fill = { directory: mounted, at: PART };
		const child = start({ directory: mounted, sizeBytes: 3 * PART, fill }, [
			"unshare",
			"-m",
			"sh",
			"-c",
			mount,
			mounted,
		]);
		const [failed, after] = await ended(child);
		expect(failed).toEqual({
			event: "failed",
			code: "RESOURCE_UNAVAILABLE",
			reason: "disk_full",
			staged: 0,
			copies: 0,
		});
		expect(after).toMatchObject({ event: "after", status: "ready" });
	},
	LIMIT_MS,
);

test(
	"anonymous memory does not grow with the size of a file",
	async () => {
		using dir = tempDir(existsSync("/dev/shm") ? "/dev/shm" : undefined);
		const [memory] = await ended(start({ directory: dir.path, sizeBytes: 400 * MIB, measure: true }));
		const { idleBytes = 0, peakBytes = Number.POSITIVE_INFINITY } = memory ?? {};
		expect(peakBytes - idleBytes).toBeLessThan(128 * MIB);
	},
	LIMIT_MS,
);
