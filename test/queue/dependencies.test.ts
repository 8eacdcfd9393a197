import { expect, test } from "bun:test";
import { testQueue } from "./test-queue.ts";

test("a task starts after all it depends on have completed", async () => {
	await using at = await testQueue();
	const one = await at.add();
	const other = await at.add();
	const last = await at.add({ dependencies: [one, other, one], priority: "critical" });
	expect(at.queue.get(last)).toMatchObject({
		status: "pending",
		phase: "waiting",
		dependencies: [one, other],
		waiting_for: `dependencies: ${one} (pending), ${other} (pending)`,
	});
	at.start();
	await at.finish(one);
	expect(at.queue.get(last).waiting_for).toBe(`dependencies: ${other} (running)`);
	await at.clock.advance(1000);
	expect(at.begun).not.toContain(last);
	await at.finish(other);
	await at.finish(last);
	expect(at.queue.get(last).status).toBe("completed");
});

test("a dependency that has completed already does not hold anything up", async () => {
	await using at = await testQueue();
	at.start();
	const one = await at.add();
	await at.finish(one);
	await at.finish(await at.add({ dependencies: [one] }));
});

test("a failure fails all that depend on it, at once, and names its root", async () => {
	await using at = await testQueue();
	at.start();
	const root = await at.add();
	const child = await at.add({ dependencies: [root] });
	const grandchild = await at.add({ dependencies: [child] });
	const both = await at.add({ dependencies: [root, grandchild] });
	const other = await at.add();
	(await at.job(root)).fail(new Error("broken"));
	await at.ended(root);
	for (const [id, dependency] of [
		[child, root],
		[grandchild, child],
		[both, root],
	] as const) {
		expect(at.queue.get(id)).toMatchObject({
			status: "failed",
			attempt: 0,
			error: { code: "DEPENDENCY_FAILED", details: { reason: "dependency_failed", dependency, root } },
		});
	}
	expect(at.queue.get(other).status).toBe("running");
	const times = at.rows<{ at_ms: number }>(
		"SELECT DISTINCT at_ms FROM queue_event WHERE to_state = 'failed'",
	);
	expect(times).toHaveLength(1);
});

test("a cancel fails the dependents too", async () => {
	await using at = await testQueue();
	const root = await at.add();
	const child = await at.add({ dependencies: [root] });
	await at.queue.cancel(root);
	expect(at.queue.get(child)).toMatchObject({ status: "failed", error: { details: { root } } });
});

test("a blocked task can be cancelled while its dependency runs", async () => {
	await using at = await testQueue();
	at.start();
	const root = await at.add();
	const child = await at.add({ dependencies: [root] });
	await at.job(root);
	expect((await at.queue.cancel(child)).status).toBe("cancelled");
	await at.finish(root);
	expect(at.queue.get(child).status).toBe("cancelled");
});

test("a dependency that has failed already is refused with 424 and leaves no row", async () => {
	await using at = await testQueue();
	const root = await at.add();
	const child = await at.add({ dependencies: [root] });
	await at.queue.cancel(root);
	await expect(at.add({ dependencies: [child] })).rejects.toMatchObject({
		code: "DEPENDENCY_FAILED",
		status: 424,
		details: { reason: "dependency_failed", dependency: child, root },
	});
	expect(at.rows("SELECT seq FROM queue_task")).toHaveLength(2);
});

test("an unknown dependency and more than 64 of them are refused", async () => {
	await using at = await testQueue();
	await expect(at.add({ dependencies: ["move-nothing-1"] })).rejects.toMatchObject({
		status: 400,
		reason: "unknown_dependency",
		details: { dependency: "move-nothing-1" },
	});
	const ids: string[] = [];
	for (let count = 0; count < 65; count++) ids.push(await at.add());
	await expect(at.add({ dependencies: ids })).rejects.toMatchObject({
		status: 400,
		reason: "too_many_dependencies",
	});
	expect((await at.submit({ dependencies: ids.slice(1) })).task.dependencies).toHaveLength(64);
});

test("the database itself refuses a dependency on a younger task, so there is no circle", async () => {
	await using at = await testQueue();
	await at.add();
	await at.add();
	const { openForWriting } = await import("../../src/platform/database-file.ts");
	using db = openForWriting(at.path, []);
	expect(() => db.run("INSERT INTO queue_dependency (seq, depends_on) VALUES (1, 2)")).toThrow("CHECK");
});
