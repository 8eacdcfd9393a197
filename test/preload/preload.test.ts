import { expect, test } from "bun:test";
import { join } from "node:path";
import { openPreload, preloadModule } from "../../src/core/preload/preload.ts";
import { openInlineDatabase } from "../../src/platform/database.ts";
import { silentLog } from "../../src/platform/log.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { tempDir } from "../support/temp-dir.ts";

const HOUR_MS = 3_600_000;

function open(path: string, clock: FakeClock) {
	const db = openInlineDatabase(join(path, "agent.sqlite"), [preloadModule]);
	const preload = openPreload({ db, clock, log: silentLog });
	return {
		preload,
		async [Symbol.asyncDispose]() {
			await preload[Symbol.asyncDispose]();
			await db[Symbol.asyncDispose]();
		},
	};
}

test("uses are remembered over a restart, and tell the same forecast", async () => {
	using dir = tempDir();
	const clock = new FakeClock();
	let before: unknown;
	{
		await using held = open(dir.path, clock);
		for (let day = 0; day < 4; day++) {
			held.preload.use("a");
			await clock.advance(24 * HOUR_MS);
		}
		before = held.preload.forecast("a");
		expect(before).toMatchObject({ isKnown: true });
	}
	await using again = open(dir.path, clock);
	expect(again.preload.forecast("a")).toEqual(before as never);
	expect(again.preload.lastUsedS("a")).toBe(clock.nowMs() / 1000 - 24 * 3600);
	expect(again.preload.forecast("b")).toBeUndefined();
});

test("hints are remembered over a restart, and end by themselves", async () => {
	using dir = tempDir();
	const clock = new FakeClock();
	const nowS = clock.nowMs() / 1000;
	{
		await using held = open(dir.path, clock);
		await held.preload.hint({ model: "a", fromS: nowS + 60, untilS: nowS + 120 });
		await held.preload.hint({ model: "a", fromS: nowS + 90, untilS: nowS + 150 });
		await held.preload.hint({ model: "b", fromS: nowS, untilS: nowS + 3600 });
	}
	await using again = open(dir.path, clock);
	expect(again.preload.hints().map(({ model, fromS }) => [model, fromS])).toEqual([
		["a", nowS + 90],
		["b", nowS],
	]);
	await clock.advance(150_000);
	expect(again.preload.hints().map(({ model }) => model)).toEqual(["b"]);
	expect(await again.preload.dropHint("b")).toBe(true);
	expect(await again.preload.dropHint("b")).toBe(false);
});

test("there are at most a thousand hints", async () => {
	using dir = tempDir();
	const clock = new FakeClock();
	await using held = open(dir.path, clock);
	const [fromS, untilS] = [clock.nowMs() / 1000, clock.nowMs() / 1000 + 60];
	for (let at = 0; at < 1000; at++) await held.preload.hint({ model: `m${at}`, fromS, untilS });
	const one = { model: "more", fromS, untilS };
	const refused = held.preload.hint(one).catch((error: unknown) => asGswarmError(error).reason);
	expect(await refused).toBe("too_many_hints");
	// One that is known may be changed, and those that are over make room.
	await held.preload.hint({ model: "m1", fromS, untilS: untilS + 60 });
	await clock.advance(61_000);
	await held.preload.hint({ ...one, untilS: untilS + 600 });
	const left = held.preload.hints().map(({ model }) => model);
	expect(left.sort()).toEqual(["m1", "more"]);
});
