/** A process that publishes and removes is killed at every rename, fsync and unlink; the next start must find one story. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { requires } from "../support/requires.ts";
import { MODEL, publishFiles, standStorage } from "../support/staged-model.ts";
import { tempDir } from "../support/temp-dir.ts";

setDefaultTimeout(300_000);

const CHILD = new URL("../support/publish-child.ts", import.meta.url).pathname;
/** More than there are of any call; the process ends by itself before. */
const MOST_CALLS = 200;

const withStrace = requires("strace", "kill at every system call of a publication") ? test : test.skip;

/** Runs the child until its n-th call; answers what it said, or undefined when it was not killed. */
async function killedAt(directory: string, call: string, nth: number): Promise<string | undefined> {
	const inject = `${call}:signal=SIGKILL:when=${nth}`;
	const command = ["strace", "-f", "-o", "/dev/null", "-e", `trace=${call}`, "-e", `inject=${inject}`];
	const child = Bun.spawn([...command, process.execPath, CHILD, directory], {
		stdout: "pipe",
		stderr: "ignore",
	});
	const said = await new Response(child.stdout).text();
	const code = await child.exited;
	return code === 0 ? undefined : said;
}

withStrace.each(["rename", "unlinkat", "fsync"])(
	"killed at any %s, a start finds a whole copy or none, and no rest",
	async (call) => {
		let killed = 0;
		for (let nth = 1; nth < MOST_CALLS; nth++) {
			using dir = tempDir();
			const said = await killedAt(dir.path, call, nth);
			if (said === undefined) break;
			killed++;
			await using stand = await standStorage(dir.path);
			const { storage } = stand;
			const [copy] = storage.copies();
			if (copy !== undefined) {
				const { damaged } = await storage.verify(copy, new AbortController().signal);
				expect({ call, nth, status: copy.status, damaged }).toEqual({
					call,
					nth,
					status: "ready",
					damaged: [],
				});
			}
			const models = readdirSync(join(dir.path, "disk/models")).flatMap((name) =>
				readdirSync(join(dir.path, "disk/models", name)),
			);
			expect({ call, nth, models: models.length }).toEqual({ call, nth, models: copy === undefined ? 0 : 1 });
			expect(readdirSync(join(dir.path, "disk/trash"))).toEqual([]);
			expect(readdirSync(join(dir.path, "disk/staging"))).toEqual(
				storage.staged().map((one) => one.transferId),
			);
			if (said.includes("removed")) expect(copy).toBeUndefined();
			expect((await publishFiles(storage, { transferId: "download-2" })).status).toBe("ready");
			expect(storage.copy(MODEL, "disk")?.status).toBe("ready");
		}
		expect(killed).toBeGreaterThan(2);
	},
);
