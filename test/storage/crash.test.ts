/** A process that publishes or removes is killed at every rename, fsync and unlink; the next start must find one story. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { requires } from "../support/requires.ts";
import { MODEL, publishFiles, standStorage } from "../support/staged-model.ts";
import { tempDir } from "../support/temp-dir.ts";

setDefaultTimeout(300_000);

const CHILD = new URL("../support/publish-child.ts", import.meta.url).pathname;
const STAGED = "disk/staging/download-1";
const PARENT = "disk/models/acme%2Ftiny";
/** Commits of the database come from one thread, so that they can be counted; there are fewer than these. */
const COMMITS = Array.from({ length: 30 }, (_, at) => ({
	call: "fsync",
	path: "agent.sqlite-wal",
	nth: at + 1,
}));

interface Point {
	call: string;
	/** Below the test's directory; undefined: any. strace counts calls per thread, a path makes the point exact. */
	path?: string;
	nth?: number;
}

const PUBLISHING: Point[] = [
	{ call: "fsync", path: `${STAGED}/model/config.json` },
	{ call: "fsync", path: `${STAGED}/model/weights/part-1.bin` },
	{ call: "fsync", path: `${STAGED}/model/weights` },
	{ call: "fsync", path: `${STAGED}/model` },
	{ call: "fsync", path: "disk/models" },
	{ call: "rename", path: `${STAGED}/model` },
	{ call: "fsync", path: PARENT },
	{ call: "fsync", path: STAGED },
	{ call: "unlinkat", nth: 1 },
	{ call: "unlinkat", nth: 2 },
];
const REMOVING: Point[] = [
	{ call: "rename", path: `${PARENT}/@main-1` },
	{ call: "fsync", path: "disk/trash" },
	{ call: "fsync", path: PARENT },
	{ call: "rmdir", path: PARENT },
	{ call: "unlinkat", nth: 1 },
	{ call: "unlinkat", nth: 2 },
	{ call: "unlinkat", nth: 4 },
];

const withStrace = requires("strace", "kill at every system call of a publication") ? test : test.skip;

/** Whether the child was killed at that point; false: it came to its end. */
async function killedAt(what: string, directory: string, { call, path, nth = 1 }: Point): Promise<boolean> {
	const filter = path === undefined ? [] : ["-P", join(directory, path)];
	const inject = ["-e", `trace=${call}`, "-e", `inject=${call}:signal=SIGKILL:when=${nth}`];
	const child = Bun.spawn(
		["strace", "-f", "-o", "/dev/null", ...filter, ...inject, process.execPath, CHILD, what, directory],
		{ stdout: "pipe", stderr: "ignore" },
	);
	const said = await new Response(child.stdout).text();
	return (await child.exited) !== 0 && said === "";
}

/** What every start has to find, whatever happened before. */
async function expectOneStory(directory: string, point: Point): Promise<void> {
	await using stand = await standStorage(directory);
	const { storage } = stand;
	const [copy] = storage.copies();
	const { damaged } =
		copy === undefined ? { damaged: [] } : await storage.verify(copy, {}, new AbortController().signal);
	const modelsPath = join(directory, "disk/models");
	const found = {
		status: copy?.status ?? "none",
		damaged,
		directories: readdirSync(modelsPath).flatMap((name) => readdirSync(join(modelsPath, name))).length,
		trash: readdirSync(join(directory, "disk/trash")),
		staging: readdirSync(join(directory, "disk/staging")),
	};
	const staging = storage.staged().map((one) => one.transferId);
	const directories = copy === undefined ? 0 : 1;
	expect({ ...point, ...found }).toEqual({
		...point,
		status: copy === undefined ? "none" : "ready",
		damaged: [],
		directories,
		trash: [],
		staging,
	});
	expect((await publishFiles(storage, { transferId: "download-2" })).status).toBe("ready");
	expect(storage.copy(MODEL, "disk")?.status).toBe("ready");
}

withStrace("killed anywhere in a publication, the next start finds the whole copy or none", async () => {
	for (const point of PUBLISHING) {
		using dir = tempDir();
		expect({ ...point, killed: await killedAt("publish", dir.path, point) }).toEqual({
			...point,
			killed: true,
		});
		await expectOneStory(dir.path, point);
	}
});

withStrace("killed anywhere in a removal, the next start finds the whole copy or none", async () => {
	for (const point of REMOVING) {
		using dir = tempDir();
		{
			await using stand = await standStorage(dir.path);
			await publishFiles(stand.storage);
		}
		expect({ ...point, killed: await killedAt("remove", dir.path, point) }).toEqual({
			...point,
			killed: true,
		});
		await expectOneStory(dir.path, point);
	}
});

withStrace("killed at any commit of a publication, the next start finds the whole copy or none", async () => {
	let killed = 0;
	for (const point of COMMITS) {
		using dir = tempDir();
		if (!(await killedAt("publish", dir.path, point))) break;
		killed++;
		await expectOneStory(dir.path, point);
	}
	// Staging, intent, ready, staging closed: each is a commit of its own.
	expect(killed).toBeGreaterThanOrEqual(4);
	expect(killed).toBeLessThan(COMMITS.length);
});
