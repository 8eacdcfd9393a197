import { expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { simulate } from "./simulator.ts";

/** Seeds that failed once are tried first, for ever. */
const KEPT = join(import.meta.dir, "failed-seeds.json");
const SEEDS = process.env["LONG"] === "1" ? 2000 : 200;
/** `SEED=n bun test test/queue/simulator.test.ts` runs one alone. */
const ONLY = process.env["SEED"];

test(`through ${SEEDS} histories of crashes, late and repeated messages no task is lost and none done twice`, async () => {
	const kept = JSON.parse(readFileSync(KEPT, "utf8")) as number[];
	const first = Math.floor(Math.random() * 2 ** 31);
	const seeds =
		ONLY === undefined ? [...kept, ...Array.from({ length: SEEDS }, (_, n) => first + n)] : [Number(ONLY)];
	for (const seed of seeds) {
		try {
			await simulate(seed);
		} catch (error) {
			if (!kept.includes(seed)) writeFileSync(KEPT, `${JSON.stringify([...kept, seed])}\n`);
			throw new Error(`seed ${seed} failed; SEED=${seed} runs it alone`, { cause: error });
		}
	}
	expect(seeds.length).toBeGreaterThan(0);
}, 600_000);
