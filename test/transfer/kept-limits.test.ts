import { expect, test } from "bun:test";
import { join } from "node:path";
import { openKeptLimits, transferModule } from "../../src/core/transfer/transfer.ts";
import { openInlineDatabase } from "../../src/platform/database.ts";
import { tempDir } from "../support/temp-dir.ts";

const NONE = { down: null, up: null };

test("limits that were set while the agent ran hold after its restart, each scope for itself", async () => {
	using dir = tempDir();
	const path = join(dir.path, "agent.sqlite");
	{
		await using db = openInlineDatabase(path, [transferModule]);
		const node = openKeptLimits(db, "node", NONE);
		expect(node.read()).toEqual(NONE);
		await node.keep({ down: 5_000_000, up: null });
		await openKeptLimits(db, "cluster", NONE).keep({ down: null, up: 7_000_000 });
	}
	await using db = openInlineDatabase(path, [transferModule]);
	expect(openKeptLimits(db, "node", NONE).read()).toEqual({ down: 5_000_000, up: null });
	expect(openKeptLimits(db, "cluster", NONE).read()).toEqual({ down: null, up: 7_000_000 });
});

test("of the configuration and what was set at run time the later word holds, for each direction", async () => {
	using dir = tempDir();
	await using db = openInlineDatabase(join(dir.path, "agent.sqlite"), [transferModule]);
	const configured = { down: 1_000_000, up: 2_000_000 };
	await openKeptLimits(db, "node", configured).keep({ down: null, up: 3_000_000 });
	expect(openKeptLimits(db, "node", configured).read()).toEqual({ down: null, up: 3_000_000 });
	// Somebody edits the file afterwards, one line of it.
	const edited = { down: 9_000_000, up: 2_000_000 };
	expect(openKeptLimits(db, "node", edited).read()).toEqual({ down: 9_000_000, up: 3_000_000 });
});
