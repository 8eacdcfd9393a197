/** Small files that came together are one row of the journal, and still each its own. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { peerSource } from "../../src/core/source/source.ts";
import { loadLedger } from "../../src/core/transfer/ledger.ts";
import { planFiles } from "../../src/core/transfer/plan.ts";
import { hasPartsSince, transferModule } from "../../src/core/transfer/transfer.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { manifestOf, MODEL, REVISION, standStorage } from "../support/staged-model.ts";
import { tempDir } from "../support/temp-dir.ts";

setDefaultTimeout(60_000);

test("one file of a run is forgotten alone, and the others are there after a restart", async () => {
	using dir = tempDir();
	await using stand = await standStorage(dir.path, { modules: [transferModule] });
	const names = ["a", "b", "c", "d", "e"];
	const manifest = manifestOf(Object.fromEntries(names.map((name) => [name, `content of ${name}`])));
	const source = peerSource(
		{ clock: systemClock },
		{ baseUrl: "http://127.0.0.1:1", grant: "g", manifest, model: MODEL, revision: REVISION },
	);
	const files = planFiles(await source.describe(new AbortController().signal), {
		verifyChecksum: undefined,
		wholeFiles: false,
	});
	const writes = stand.db.writer(transferModule);
	const transferId = "copy-1";
	const row = { transferId, tier: "disk", sourceId: "s", roomBytes: 1, bootId: null, startedOver: 0 };
	await writes.begin(row);
	const load = () =>
		loadLedger(
			{ db: stand.db, writes, clock: systemClock },
			{ transferId, files, pathOf: ({ path }) => join(dir.path, path) },
		);
	for (const name of names) writeFileSync(join(dir.path, name), `content of ${name}`);
	const there = (): string[] =>
		files.filter((file) => load().verified(file) !== undefined).map(({ path }) => path);

	expect(hasPartsSince(stand.db, transferId, 0)).toBe(false);
	await load().sealedFilesLanded(files.filter(({ path }) => path !== "b"));
	expect(hasPartsSince(stand.db, transferId, 0)).toBe(true);
	expect(hasPartsSince(stand.db, transferId, Date.now() + 60_000)).toBe(false);
	expect(there()).toEqual(["a", "c", "d", "e"]);
	expect(load().verified(files[3] as (typeof files)[number])).toEqual({
		fileIndex: 3,
		sizeBytes: 12,
		sha256: manifest.files[3]?.sha256 ?? "",
		xxh64: manifest.files[3]?.xxh64 ?? [],
	});
	await load().drop(files[3] as (typeof files)[number], undefined);
	expect(there()).toEqual(["a", "c", "e"]);
	// One that has another length is not what was written down.
	writeFileSync(join(dir.path, "e"), "short");
	expect(there()).toEqual(["a", "c"]);
	await writes.end(transferId);
	expect(hasPartsSince(stand.db, transferId, 0)).toBe(false);
});
