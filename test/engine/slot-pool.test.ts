import { describe, expect, test } from "bun:test";
import { SlotPool } from "../../src/core/service/engines/llama/slot-pool.ts";

const forever = new AbortController().signal;

describe("a pool of slots", () => {
	test("gives slots in the order in which they were asked for", async () => {
		const pool = new SlotPool(["a"], { waitLimit: 2 });
		const order: string[] = [];
		const slot = await pool.acquire(forever);
		const waiting = ["first", "second"].map(async (name) => {
			const own = await pool.acquire(forever);
			order.push(name);
			pool.release(own);
		});
		expect([pool.busy, pool.waiting]).toEqual([1, 2]);
		pool.release(slot);
		await Promise.all(waiting);
		expect(order).toEqual(["first", "second"]);
		expect([pool.busy, pool.waiting]).toEqual([0, 0]);
	});

	test("gives the fittest of the free ones", async () => {
		const pool = new SlotPool([1, 3, 2], { waitLimit: 0 });
		expect(await pool.acquire(forever, (slot) => slot)).toBe(3);
		expect(await pool.acquire(forever, (slot) => -slot)).toBe(1);
	});

	test("lets go of a waiter at once when its signal aborts, and serves the one behind", async () => {
		const pool = new SlotPool(["a"], { waitLimit: 2 });
		const slot = await pool.acquire(forever);
		const leaver = new AbortController();
		const left = pool.acquire(leaver.signal).catch(String);
		const stays = pool.acquire(forever);
		leaver.abort(new Error("left"));
		expect(await left).toBe("Error: left");
		expect(pool.waiting).toBe(1);
		pool.release(slot);
		expect(await stays).toBe("a");
	});

	test("refuses more waiters than its limit, and any whose signal has aborted", async () => {
		const pool = new SlotPool(["a"], { waitLimit: 0 });
		expect(await pool.acquire(AbortSignal.abort(new Error("late"))).catch(String)).toBe("Error: late");
		await pool.acquire(forever);
		const refusal: unknown = await pool.acquire(forever).catch((error: unknown) => error);
		expect(refusal).toMatchObject({ reason: "engine_busy", status: 503, retryAfterS: 1 });
	});
});
