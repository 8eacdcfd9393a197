import { expect, test } from "bun:test";
import { existsSync, statSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { BALLAST_BYTES, ensureBallast, releaseBallast } from "../../src/platform/ballast.ts";
import { openInlineDatabase } from "../../src/platform/database.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import { tempDir } from "../support/temp-dir.ts";

test("the ballast holds real blocks, is made once, and is given up once", () => {
	using dir = tempDir();
	ensureBallast(dir.path);
	const path = join(dir.path, "ballast");
	expect(statSync(path)).toMatchObject({ size: BALLAST_BYTES });
	expect(statSync(path).blocks * 512).toBeGreaterThanOrEqual(BALLAST_BYTES);
	truncateSync(path, 1);
	ensureBallast(dir.path);
	expect(statSync(path).size).toBe(1);
	expect(releaseBallast(dir.path)).toBe(true);
	expect(releaseBallast(dir.path)).toBe(false);
	expect(existsSync(path)).toBe(false);
});

test("a commit that meets a full disk gives the ballast up and is tried once more", async () => {
	using dir = tempDir();
	let tries = 0;
	const module = {
		room: "note",
		migrations: [],
		writes: {
			fill: () => {
				tries++;
				if (existsSync(join(dir.path, "ballast")))
					throw new GswarmError("RESOURCE_UNAVAILABLE", "Full.", { reason: "disk_full" });
				return tries;
			},
		},
	};
	await using db = openInlineDatabase(join(dir.path, "agent.sqlite"), [module]);
	const writer = db.writer(module);
	ensureBallast(dir.path);
	expect(await writer.fill(undefined)).toBe(2);
	expect(existsSync(join(dir.path, "ballast"))).toBe(false);
});
