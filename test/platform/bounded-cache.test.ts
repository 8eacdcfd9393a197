import { expect, test } from "bun:test";
import { createBoundedCache } from "../../src/platform/bounded-cache.ts";
import { metricsText } from "../../src/platform/metrics-text.ts";

test("a value is made once, until it is dropped, and what was asked for longest ago goes first", () => {
	const cache = createBoundedCache<string>({ name: "c", limit: 2 });
	let made = 0;
	const get = (key: string): string => cache.get(key, () => `${key}${++made}`);
	expect([get("a"), get("b"), get("a"), get("c"), get("a"), get("b")]).toEqual([
		"a1",
		"b2",
		"a1",
		"c3",
		"a1",
		"b4",
	]);
	cache.drop("a");
	expect(get("a")).toBe("a5");
	expect(cache.figures()).toEqual({ name: "c", hits: 2, misses: 5, entries: 2, limit: 2 });
	cache.clear();
	expect(cache.figures().entries).toBe(0);
});

test("nothing that is there is a value too, and what failed is asked for again", async () => {
	const cache = createBoundedCache<number | undefined>({ name: "c", limit: 2 });
	let asked = 0;
	const nothing = (): undefined => void asked++;
	cache.get("none", nothing);
	cache.get("none", nothing);
	expect(asked).toBe(1);
	const failed = cache.getLater("a", () => Promise.reject(new Error("away")));
	expect(await failed.catch((error: Error) => error.message)).toBe("away");
	expect(await cache.getLater("a", () => Promise.resolve(7))).toBe(7);
	expect(await cache.getLater("a", () => Promise.resolve(8))).toBe(7);
});

test("figures are written as Prometheus reads them", () => {
	const text = metricsText({
		version: '1.0 "x"',
		caches: [{ name: "models", hits: 3, misses: 1, entries: 1, limit: 2000 }],
	});
	expect(text).toContain('gswarm_build_info{version="1.0 \\"x\\""} 1\n');
	expect(text).toContain("# TYPE gswarm_cache_hits_total counter\n");
	expect(text).toContain('gswarm_cache_hits_total{cache="models"} 3\n');
	expect(text.endsWith("\n")).toBe(true);
	for (const line of text.trimEnd().split("\n"))
		expect(line).toMatch(/^(# (HELP|TYPE) gswarm_\w+ .+|gswarm_\w+\{\w+=".*"\} \d+)$/);
});
