import { expect, test } from "bun:test";
import { toDispatch } from "../../src/agent/operation-token.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import type { OperationToken } from "../../src/schema/operation.ts";
import type { TaskDocument } from "../../src/schema/task.ts";
import { OperationsWorld, hasEnded } from "./operations-world.ts";

/** The work of a node takes ten seconds in these worlds. */
const WORK_MS = 10_000;

async function reasonOf(run: Promise<unknown> | (() => unknown)): Promise<string> {
	try {
		await (typeof run === "function" ? run() : run);
	} catch (error) {
		const { status, reason } = asGswarmError(error);
		return `${status} ${reason}`;
	}
	return "accepted";
}

/** A copy to node1 that has begun there. */
async function copyUnderWay(world: OperationsWorld, type: "copy" | "delete" = "copy"): Promise<string> {
	const id = await world.submit(type, "node1", "m");
	await world.pass(1_000);
	expect(world.partsOf(id)).toMatchObject([{ node: "node1", state: "running" }]);
	return id;
}

/** The token that node1 knows of an operation's part. */
function tokenOf(world: OperationsWorld, id: string): OperationToken {
	const [row] = world.partsOf(id);
	if (row === undefined) throw new Error(`${id} has no part`);
	return { operation: `${id}/part`, host_epoch: row.fence_epoch, n: row.fence_n };
}

function operation(world: OperationsWorld, id: string): TaskDocument {
	return world.host.queue.get(id);
}

const older = (token: OperationToken): OperationToken => ({ ...token, n: token.n - 1 });
const ofEarlierLife = (token: OperationToken): OperationToken => ({
	...token,
	host_epoch: token.host_epoch - 1,
	n: 99,
});

function dispatch(world: OperationsWorld, token: OperationToken): Promise<unknown> {
	return world.deliver("node1", token, async ({ hosted, queue }) => {
		hosted.accept(token);
		return queue.submit({
			type: "copy",
			model: "m",
			request: {},
			priority: "normal",
			dispatch: toDispatch(token),
		});
	});
}

test("an operation is done by one task of its node, which knows under which token", async () => {
	await using world = await OperationsWorld.open();
	const id = await copyUnderWay(world);
	expect(tokenOf(world, id)).toEqual({ operation: `${id}/part`, host_epoch: world.host.queue.epoch, n: 1 });
	await world.settle();
	expect(operation(world, id)).toMatchObject({ status: "completed" });
	expect(world.disks.node1.published.get(`${id}/part`)).toBe(1);
});

test("a lower token is refused with 409 stale_token, whatever it asks for, and changes nothing", async () => {
	await using world = await OperationsWorld.open();
	const id = await copyUnderWay(world);
	await world.killHost();
	await world.pass(1_000);
	const now = tokenOf(world, id);
	expect(now.host_epoch).toBe(world.host.queue.epoch);
	const before = world.partsOf(id);
	for (const late of [older(now), ofEarlierLife(now)]) {
		const ask = async (act: (to: ReturnType<typeof world.node>) => Promise<unknown>): Promise<string> =>
			reasonOf(world.deliver("node1", late, act));
		expect(await reasonOf(dispatch(world, late))).toBe("409 stale_token");
		expect(await ask(({ hosted }) => hosted.follow(late))).toBe("409 stale_token");
		expect(await ask(({ hosted }) => hosted.revoke(late))).toBe("409 stale_token");
	}
	expect(world.partsOf(id)).toEqual(before);
	await world.settle();
	expect(operation(world, id)).toMatchObject({ status: "completed" });
});

test("the same dispatch twice is one task", async () => {
	await using world = await OperationsWorld.open();
	const id = await copyUnderWay(world);
	expect(await reasonOf(dispatch(world, tokenOf(world, id)))).toBe("accepted");
	expect(world.partsOf(id)).toHaveLength(1);
	await world.settle();
	// Also when it has ended: what is done is done.
	expect(await reasonOf(dispatch(world, tokenOf(world, id)))).toBe("accepted");
	expect(world.partsOf(id)).toMatchObject([{ state: "completed" }]);
});

test("an answer that was lost makes no second task", async () => {
	let lose = 0;
	await using world = await OperationsWorld.open(() => (lose-- > 0 ? 0 : 0.5));
	world.faults = { lose: 0, loseAnswer: 0.1, repeat: 0, longestDelayMs: 0 };
	// Of the first message: its delay, whether it is lost, whether it is sent twice, whether its answer is lost.
	lose = 4;
	const id = await world.submit("copy", "node1", "m");
	await world.settle();
	expect(world.partsOf(id)).toHaveLength(1);
	expect(operation(world, id)).toMatchObject({ status: "completed" });
});

test("a part that was revoked before it arrived never begins", async () => {
	await using world = await OperationsWorld.open();
	const token = { operation: "copy-m-1/part", host_epoch: 3, n: 1 };
	const revoked = await world.deliver("node1", token, ({ hosted }) => hosted.revoke(token));
	expect(revoked).toMatchObject({ task: null, host_epoch: 3, n: 1 });
	expect(await reasonOf(dispatch(world, token))).toBe("409 stale_token");
	expect(await reasonOf(dispatch(world, older({ ...token, n: 2 })))).toBe("409 stale_token");
	expect(world.partsOf("copy-m-1")).toEqual([]);
	expect(await reasonOf(dispatch(world, { ...token, n: 2 }))).toBe("accepted");
});

test("a node that was asked for a part it does not have takes none under an older token", async () => {
	await using world = await OperationsWorld.open();
	const token = { operation: "copy-m-1/part", host_epoch: 3, n: 2 };
	const asked = await world.deliver("node1", token, ({ hosted }) => hosted.follow(token));
	expect(asked.task).toBeNull();
	expect(await reasonOf(dispatch(world, older(token)))).toBe("409 stale_token");
	expect(await reasonOf(dispatch(world, token))).toBe("accepted");
});

test("a host that starts again goes on with the same task of the node", async () => {
	await using world = await OperationsWorld.open();
	const id = await copyUnderWay(world);
	const [before] = world.partsOf(id);
	for (let death = 0; death < 2; death++) {
		await world.killHost();
		await world.pass(1_000);
	}
	await world.settle();
	expect(world.partsOf(id)).toMatchObject([{ task_id: before?.task_id, state: "completed" }]);
	expect(operation(world, id)).toMatchObject({
		status: "completed",
		result: { node_task_id: before?.task_id },
	});
	expect(world.disks.node1.published.get(`${id}/part`)).toBe(1);
});

test("a host that died between sending a part and hearing of it does not make it twice", async () => {
	await using world = await OperationsWorld.open();
	world.faults = { lose: 0, loseAnswer: 0, repeat: 0, longestDelayMs: 2_000 };
	const id = await world.submit("copy", "node1", "m");
	// Half of the longest delay on the way there: it has arrived, and the answer has not.
	await world.pass(1_500);
	expect(world.partsOf(id)).toHaveLength(1);
	expect(operation(world, id).result).toBeNull();
	await world.killHost();
	await world.settle();
	expect(world.partsOf(id)).toHaveLength(1);
	expect(operation(world, id)).toMatchObject({ status: "completed" });
});

test("a host that is stopped leaves the work of its nodes alone, and goes on with it", async () => {
	await using world = await OperationsWorld.open();
	const id = await copyUnderWay(world);
	await world.restartHost();
	expect(world.partsOf(id)).toMatchObject([{ state: "running" }]);
	await world.settle();
	expect(world.partsOf(id)).toMatchObject([{ state: "completed" }]);
	expect(operation(world, id)).toMatchObject({ status: "completed", attempt: 1 });
});

test("a node that starts again goes on with the task, and the operation with it", async () => {
	await using world = await OperationsWorld.open();
	const id = await copyUnderWay(world);
	world.down.add("node1");
	await world.killNode("node1");
	await world.pass(5_000);
	expect(operation(world, id)).toMatchObject({ status: "running", waiting_for: "node1 to come back" });
	await world.settle();
	expect(world.partsOf(id)).toMatchObject([{ state: "completed" }]);
	expect(operation(world, id)).toMatchObject({ status: "completed", attempt: 1 });
});

test("a cancel through the host ends the work on the node within five seconds", async () => {
	await using world = await OperationsWorld.open();
	const id = await copyUnderWay(world);
	const from = world.clock.monotonicMs();
	const cancelled = world.host.queue.cancel(id);
	while (!hasEnded(world.host.queue, id)) await world.pass(100);
	expect(world.clock.monotonicMs() - from).toBeLessThan(5_000);
	expect(await cancelled).toMatchObject({ status: "cancelled" });
	expect(world.partsOf(id)).toMatchObject([{ state: "cancelled" }]);
	await world.settle();
	expect(world.disks.node1.published.size).toBe(0);
});

test("a cancel that comes after the node has published is refused with 409", async () => {
	await using world = await OperationsWorld.open();
	const id = await copyUnderWay(world);
	world.faults = { lose: 0, loseAnswer: 0, repeat: 0, longestDelayMs: 3_000 };
	while (world.partsOf(id)[0]?.state !== "completed") await world.pass(100);
	expect(operation(world, id).status).toBe("running");
	const cancelled = reasonOf(world.host.queue.cancel(id));
	await world.settle();
	expect(await cancelled).toBe("409 already_terminal");
	expect(operation(world, id)).toMatchObject({ status: "completed" });
});

test("what was cancelled while it was on its way to the node does not go on there", async () => {
	await using world = await OperationsWorld.open();
	world.faults = { lose: 0, loseAnswer: 0, repeat: 0, longestDelayMs: 2_000 };
	const id = await world.submit("copy", "node1", "m");
	await world.pass(500);
	expect(world.partsOf(id)).toEqual([]);
	const cancelled = world.host.queue.cancel(id);
	await world.pass(5_000);
	expect(await cancelled).toMatchObject({ status: "cancelled" });
	expect(world.partsOf(id)).toMatchObject([{ state: "cancelled" }]);
	await world.settle();
	expect(world.disks.node1.published.size).toBe(0);
});

test("what was cancelled while its node was away ends there when it can ask again", async () => {
	await using world = await OperationsWorld.open();
	world.workMs = 10 * 60_000;
	const id = await copyUnderWay(world);
	world.down.add("node1");
	const cancelled = world.host.queue.cancel(id);
	await world.pass(6_000);
	expect(await cancelled).toMatchObject({ status: "cancelled" });
	await world.pass(60_000);
	expect(world.partsOf(id)).toMatchObject([{ state: "running" }]);
	world.down.clear();
	await world.pass(10_000);
	expect(world.partsOf(id)).toMatchObject([{ state: "cancelled" }]);
	expect(world.disks.node1.published.size).toBe(0);
});

test("work goes on while the host is away, and is known to be done when it is back", async () => {
	await using world = await OperationsWorld.open();
	const id = await copyUnderWay(world);
	world.down.add("node1");
	await world.pass(60_000);
	expect(world.partsOf(id)).toMatchObject([{ state: "completed" }]);
	world.down.clear();
	await world.pass(1_000);
	expect(operation(world, id)).toMatchObject({ status: "completed" });
});

test("a step that destroys waits for the host's word, and is no failed attempt for it", async () => {
	await using world = await OperationsWorld.open();
	const id = await copyUnderWay(world, "delete");
	world.down.add("node1");
	await world.pass(10 * 60_000 - 30_000);
	expect(world.disks.node1.destroyed.size).toBe(0);
	expect(world.partsOf(id)).toMatchObject([{ state: "retry_wait" }]);
	await world.settle();
	expect(world.disks.node1.destroyed.get(`${id}/part`)).toBe(1);
	expect(operation(world, id)).toMatchObject({ status: "completed" });
});

test("a step that destroys is not taken any more when its operation was cancelled meanwhile", async () => {
	await using world = await OperationsWorld.open();
	const id = await copyUnderWay(world, "delete");
	world.down.add("node1");
	const cancelled = world.host.queue.cancel(id);
	await world.pass(WORK_MS);
	expect(await cancelled).toMatchObject({ status: "cancelled" });
	await world.pass(60_000);
	await world.settle();
	expect(world.disks.node1.destroyed.size).toBe(0);
	expect(["cancelled", "failed"]).toContain(world.partsOf(id)[0]?.state ?? "");
});

test("a lease that ends makes the node ask; an operation that goes on renews it", async () => {
	await using world = await OperationsWorld.open();
	world.workMs = 3 * 60_000;
	const id = await copyUnderWay(world);
	// The host asks five times a second; a node that is asked has no question of its own.
	await world.pass(60_000);
	expect(world.asked).toEqual([]);
	world.deaf.add("node1");
	await world.pass(34_000);
	expect(world.asked).toHaveLength(1);
	await world.pass(30_000);
	expect(world.asked).toHaveLength(2);
	expect(world.partsOf(id)).toMatchObject([{ state: "running" }]);
	await world.settle();
	expect(operation(world, id)).toMatchObject({ status: "completed" });
});

test("a lease counts the time that the machine slept, and from when its renewal was sent", async () => {
	await using world = await OperationsWorld.open();
	world.workMs = 10 * 60_000;
	const id = await copyUnderWay(world);
	world.deaf.add("node1");
	await world.pass(1_000);
	world.clock.suspend(30_000);
	await world.pass(5_000);
	expect(world.asked).toHaveLength(1);
	// Renewed just now; what the network kept for 25 seconds adds nothing to that, what is fresh does.
	const token = tokenOf(world, id);
	const { hosted } = world.node("node1");
	await world.pass(20_000);
	await hosted.follow(token, world.clock.nowMs() - 25_000);
	await world.pass(15_000);
	expect(world.asked).toHaveLength(2);
	await world.pass(20_000);
	await hosted.follow(token, world.clock.nowMs());
	await world.pass(25_000);
	expect(world.asked).toHaveLength(2);
	await world.settle();
	expect(operation(world, id)).toMatchObject({ status: "completed" });
});

test("a task that was cancelled on its node fails the operation and is not made anew", async () => {
	await using world = await OperationsWorld.open();
	const id = await copyUnderWay(world);
	const [part] = world.partsOf(id);
	await Promise.all([world.node("node1").queue.cancel(part?.task_id ?? ""), world.pass(6_000)]);
	await world.settle();
	expect(operation(world, id)).toMatchObject({
		status: "failed",
		error: { code: "TASK_FAILED", details: { reason: "cancelled_on_node", node: "node1" } },
	});
	expect(world.partsOf(id)).toMatchObject([{ state: "cancelled" }]);
	expect(await reasonOf(dispatch(world, { ...tokenOf(world, id), n: 50 }))).toBe("409 cancelled_here");
});

test("a task that was cancelled while it waited for the host is cancelled, and not waited for", async () => {
	await using world = await OperationsWorld.open();
	const id = await copyUnderWay(world, "delete");
	world.down.add("node1");
	await world.pass(WORK_MS);
	const [part] = world.partsOf(id);
	expect(part).toMatchObject({ state: "retry_wait" });
	await world.node("node1").queue.cancel(part?.task_id ?? "");
	world.down.clear();
	await world.pass(2_000);
	expect(operation(world, id)).toMatchObject({
		status: "failed",
		error: { details: { reason: "cancelled_on_node" } },
	});
});

test("a host whose database is older than what a node remembers goes on above that", async () => {
	await using world = await OperationsWorld.open();
	const token = { operation: "copy-x/part", host_epoch: 40, n: 1 };
	await dispatch(world, token);
	const id = await world.submit("copy", "node1", "m");
	await world.pass(1_000);
	const now = tokenOf(world, id);
	// This part was new to the node; one that the node knows from before is taken over.
	const restored = await world.deliver("node1", { ...now, host_epoch: 70 }, ({ hosted }) =>
		hosted.follow({ ...now, host_epoch: 70 }),
	);
	expect(restored.host_epoch).toBe(70);
	await world.killHost();
	await world.pass(1_000);
	expect(tokenOf(world, id).host_epoch).toBe(71);
	await world.settle();
	expect(operation(world, id)).toMatchObject({ status: "completed" });
});

test("a host that a node has listened to, and that is refused then, is not the host any more", async () => {
	await using world = await OperationsWorld.open();
	const id = await copyUnderWay(world);
	const other = { ...tokenOf(world, id), host_epoch: 70 };
	await world.deliver("node1", other, ({ hosted }) => hosted.follow(other));
	await world.pass(2_000);
	expect(operation(world, id)).toMatchObject({
		status: "failed",
		error: { code: "CONFLICT", details: { reason: "stale_token" } },
	});
	expect(tokenOf(world, id).host_epoch).toBe(70);
});

test("what a node asks about is confirmed for that node, that token and a live operation alone", async () => {
	await using world = await OperationsWorld.open();
	const id = await copyUnderWay(world);
	const token = tokenOf(world, id);
	const ask = (node: string, change: Partial<OperationToken> = {}): Promise<string> =>
		reasonOf(() => world.host.dispatcher.confirm(node, { ...token, ...change }));
	expect(await ask("node1")).toBe("accepted");
	expect(await ask("node2")).toBe("403 not_your_node");
	expect(await ask("node1", { n: token.n + 1 })).toBe("503 operation_not_running");
	expect(await ask("node1", { host_epoch: token.host_epoch - 1 })).toBe("503 operation_not_running");
	expect(await ask("node1", { operation: "copy-unknown/part" })).toBe("409 stale_token");
	await world.settle();
	expect(await ask("node1")).toBe("409 stale_token");
});

test("an answer that carries another token is not listened to", async () => {
	await using world = await OperationsWorld.open();
	const id = await copyUnderWay(world);
	world.forge = (answer) => ({
		...answer,
		n: answer.n + 1,
		task: answer.task === null ? null : { ...answer.task, status: "completed", result: { forged: true } },
	});
	await world.pass(5_000);
	expect(operation(world, id).status).toBe("running");
	world.forge = undefined;
	await world.settle();
	expect(operation(world, id)).toMatchObject({ status: "completed" });
});

test("a node that failed for want of room has waited for it; its operation does not wait once more", async () => {
	await using world = await OperationsWorld.open();
	const id = await copyUnderWay(world);
	const error = { code: "RESOURCE_UNAVAILABLE" as const, message: "full", details: { reason: "disk_full" } };
	world.forge = (answer) => ({
		...answer,
		task: answer.task === null ? null : { ...answer.task, status: "failed", error },
	});
	await world.pass(5_000);
	expect(operation(world, id)).toMatchObject({
		status: "failed",
		error: { code: "RESOURCE_UNAVAILABLE", details: { reason: "disk_full", node: "node1" } },
	});
});
