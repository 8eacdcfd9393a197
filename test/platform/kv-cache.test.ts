import { expect, test } from "bun:test";
import { kvElementsPerToken } from "../../src/platform/kv-cache.ts";

const UNKNOWN = { layers: undefined, heads: undefined, kvHeads: undefined, hiddenSize: undefined };

test("a token of OPT-13B takes the 800 KiB that its paper counts", () => {
	const elements = kvElementsPerToken({ layers: 40, heads: 40, kvHeads: 40, hiddenSize: 5120 });
	expect((elements ?? 0) * 2).toBe(800 * 1024);
});

test.each([
	["grouped queries: Llama 3.1 8B", { layers: 32, heads: 32, kvHeads: 8, hiddenSize: 4096 }, 65_536],
	[
		"heads of a length of their own: Gemma 2 9B",
		{ layers: 42, heads: 16, kvHeads: 8, hiddenSize: 3584, keyLength: 256, valueLength: 256 },
		172_032,
	],
	[
		"keys longer than values",
		{ layers: 2, heads: 4, kvHeads: 4, hiddenSize: 64, keyLength: 24, valueLength: 16 },
		320,
	],
	[
		"latent attention: DeepSeek-V2",
		{ layers: 60, heads: 128, kvHeads: 128, hiddenSize: 5120, latentRank: 512, ropeLength: 64 },
		34_560,
	],
])("%s", (_name, shape, elements) => {
	expect(kvElementsPerToken(shape)).toBe(elements);
});

test.each([
	["nothing is known", UNKNOWN],
	["no heads", { ...UNKNOWN, layers: 32, kvHeads: 8, hiddenSize: 4096 }],
	["0 heads", { layers: 32, heads: 0, kvHeads: 8, hiddenSize: 4096 }],
	["0 layers", { layers: 0, heads: 32, kvHeads: 8, hiddenSize: 4096 }],
	["more than any machine has", { layers: 2 ** 40, heads: 1, kvHeads: 2 ** 40, hiddenSize: 4096 }],
])("there is no answer where %s", (_name, shape) => {
	expect(kvElementsPerToken(shape)).toBeUndefined();
});
