/** Sizes as people write them, on a command line and in a configuration. */

/**
 * Bytes of `4096`, `64MB`, `1.5 GB`, `1GiB`, `10g`. Undefined when it is no size.
 * `Mb` is refused, because it means megabits elsewhere.
 */
export function parseSize(text: string): number | undefined {
	const match = /^(\d{1,15}(?:\.\d{1,9})?) ?([kKmMgGtTpP]i?)?([bB])?$/.exec(text.trim());
	if (match === null) return undefined;
	const [, digits = "", prefix = "", letter] = match;
	if (letter === "b" && prefix !== prefix.toLowerCase()) return undefined;
	const factor = FACTORS[prefix.toLowerCase()];
	if (factor === undefined) return undefined;
	const bytes = Math.round(Number(digits) * factor);
	return Number.isSafeInteger(bytes) ? bytes : undefined;
}

const FACTORS: Record<string, number> = {
	"": 1,
	k: 1e3,
	m: 1e6,
	g: 1e9,
	t: 1e12,
	p: 1e15,
	ki: 2 ** 10,
	mi: 2 ** 20,
	gi: 2 ** 30,
	ti: 2 ** 40,
	pi: 2 ** 50,
};
