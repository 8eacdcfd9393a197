import { expect, test } from "bun:test";
import { join } from "node:path";
import { identityModule } from "../../src/core/identity/identity.ts";
import { createTaskOwners, type TaskOwners } from "../../src/core/identity/task-owners.ts";
import { openInlineDatabase } from "../../src/platform/database.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { tempDir } from "../support/temp-dir.ts";

interface Stand extends AsyncDisposable {
	owners: TaskOwners;
	clock: FakeClock;
}

function stand(): Stand {
	const dir = tempDir();
	const clock = new FakeClock();
	const db = openInlineDatabase(join(dir.path, "agent.sqlite"), [identityModule]);
	return {
		owners: createTaskOwners({ db, clock, ids: systemIds }),
		clock,
		async [Symbol.asyncDispose]() {
			await db[Symbol.asyncDispose]();
			dir[Symbol.dispose]();
		},
	};
}

test("a task is whose who submitted it, and nobody else's", async () => {
	await using s = stand();
	await s.owners.submitted("t-1", "ann", null);
	expect(s.owners.ownership("t-1", "ann")).toBe("mine");
	expect(s.owners.ownership("t-1", "bob")).toBe("foreign");
	expect(s.owners.ownership("t-2", "ann")).toBe("foreign");
});

test("who joined a task takes back what they submitted, as often as they did and not once more", async () => {
	await using s = stand();
	await s.owners.submitted("t-1", "ann", null);
	await s.owners.submitted("t-1", "bob", null);
	await s.owners.submitted("t-1", "bob", null);
	await s.owners.cancelled("t-1", "bob");
	expect(s.owners.ownership("t-1", "bob")).toBe("mine");
	await s.owners.cancelled("t-1", "bob");
	expect(s.owners.ownership("t-1", "bob")).toBe("spent");
	expect(s.owners.ownership("t-1", "ann")).toBe("mine");
});

test("the same Idempotency-Key is one submission, also after its cancel", async () => {
	await using s = stand();
	for (let i = 0; i < 3; i++) await s.owners.submitted("t-1", "bob", "k");
	await s.owners.cancelled("t-1", "bob");
	expect(s.owners.ownership("t-1", "bob")).toBe("spent");
	await s.owners.submitted("t-1", "bob", "k");
	expect(s.owners.ownership("t-1", "bob")).toBe("spent");
	await s.owners.submitted("t-1", "bob", "another");
	expect(s.owners.ownership("t-1", "bob")).toBe("mine");
});

test("who submitted what is forgotten after a month", async () => {
	await using s = stand();
	await s.owners.submitted("t-1", "ann", null);
	await s.clock.advance(30 * 86_400_000);
	await s.owners.submitted("t-2", "ann", null);
	expect(s.owners.ownership("t-1", "ann")).toBe("mine");
	await s.clock.advance(1);
	await s.owners.submitted("t-3", "ann", null);
	expect(s.owners.ownership("t-1", "ann")).toBe("foreign");
	expect(s.owners.ownership("t-2", "ann")).toBe("mine");
});
