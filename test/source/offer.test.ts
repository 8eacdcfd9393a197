import { expect, test } from "bun:test";
import { createOffers, type Offers, type Source } from "../../src/core/source/source.ts";
import { sha256Hex, xxh64Hex } from "../../src/platform/hash.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { canonicalManifest, type Manifest, partSizeBytes } from "../../src/schema/manifest.ts";
import { parseModelName, parseRevision } from "../../src/schema/names.ts";
import { OFFER_DESCRIPTION, OFFER_PIECE_BYTES } from "../../src/schema/offer.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { someBytes } from "../support/faulty-source.ts";

const WEIGHTS = someBytes(3 * OFFER_PIECE_BYTES + 7, 1);
const MANIFEST: Manifest = {
	files: [
		{
			path: "model.gguf",
			size_bytes: WEIGHTS.length,
			sha256: sha256Hex(WEIGHTS),
			part_size_bytes: partSizeBytes(WEIGHTS.length),
			xxh64: [xxh64Hex(WEIGHTS)],
		},
	],
	total_bytes: WEIGHTS.length,
};
const CONTENT_ID = sha256Hex(canonicalManifest(MANIFEST));
const DESCRIPTION = new TextEncoder().encode(
	JSON.stringify({
		gswarm_bundle: 1,
		model_name: "acme/tiny",
		revision: "r1",
		model_type: "llm",
		format: "gguf",
		source_url: null,
		content_id: CONTENT_ID,
		manifest: MANIFEST,
	}),
);
const TASK = "download-tiny-1";
const never = new AbortController().signal;

function open(offers: Offers, change: { contentId?: string; sizeBytes?: number } = {}): Source & Disposable {
	return offers.open(TASK, {
		descriptionBytes: DESCRIPTION.length,
		contentId: CONTENT_ID,
		sizeBytes: WEIGHTS.length,
		model: parseModelName("mine"),
		revision: parseRevision("r1"),
		...change,
	});
}

/** Sends what is wanted, as somebody with the bundle does; how often each piece was asked for. */
async function sendAll(offers: Offers, signal: AbortSignal): Promise<string[]> {
	const sent: string[] = [];
	for (;;) {
		const piece = await offers.next(TASK, 1e9, signal);
		if (piece === undefined) return sent;
		const { file, start, end } = piece;
		sent.push(`${file} ${start}-${end}`);
		offers.take(TASK, piece, (file === OFFER_DESCRIPTION ? DESCRIPTION : WEIGHTS).slice(start, end));
	}
}

const failure = (work: Promise<unknown>): Promise<unknown> =>
	work.then(
		() => "nothing failed",
		(error: unknown) => asGswarmError(error),
	);

test("a bundle that is sent piece by piece is described and read like any source, and asked for nothing twice", async () => {
	const offers = createOffers({ clock: new FakeClock() });
	using source = open(offers);
	const stop = new AbortController();
	const sending = sendAll(offers, stop.signal);
	const description = await source.describe(never);
	expect(description).toMatchObject({ suggestedName: "mine", totalBytes: WEIGHTS.length });
	const [file] = description.files;
	if (file === undefined) throw new Error("no file");
	const range = { start: 5, end: 2 * OFFER_PIECE_BYTES + 9 };
	const bytes = await new Response(await source.read(file, range, never)).arrayBuffer();
	expect(Buffer.from(bytes).equals(Buffer.from(WEIGHTS.slice(range.start, range.end)))).toBe(true);
	stop.abort();
	const sent = await sending;
	expect(new Set(sent).size).toBe(sent.length);
	expect(sent).toEqual([
		`-1 0-${DESCRIPTION.length}`,
		`0 5-${5 + OFFER_PIECE_BYTES}`,
		`0 ${5 + OFFER_PIECE_BYTES}-${5 + 2 * OFFER_PIECE_BYTES}`,
		`0 ${5 + 2 * OFFER_PIECE_BYTES}-${range.end}`,
	]);
});

test.each([
	["of another content", { contentId: "0".repeat(64) }],
	["of another size", { sizeBytes: WEIGHTS.length - 1 }],
])("a description %s than was announced is refused", async (_what, change) => {
	const offers = createOffers({ clock: new FakeClock() });
	using source = open(offers, change);
	const stop = new AbortController();
	const sending = sendAll(offers, stop.signal);
	expect(await failure(source.describe(never))).toMatchObject({ reason: "bad_bundle", retryable: false });
	stop.abort();
	await sending;
});

test("a piece is given to one sender, and to another when nothing comes of it", async () => {
	const clock = new FakeClock();
	const offers = createOffers({ clock });
	using source = open(offers);
	const describing = source.describe(never);
	describing.catch(() => {});
	const first = await offers.next(TASK, 1e9, never);
	expect(first).toEqual({ file: OFFER_DESCRIPTION, start: 0, end: DESCRIPTION.length });
	expect(await offers.next(TASK, 0, never)).toBeUndefined();
	// Nobody sends it: whoever waited is told why, and asks once more.
	await clock.advance(25_000);
	expect(await failure(describing)).toMatchObject({ reason: "nobody_sends", retryable: true });
	const again = source.describe(never);
	expect(await offers.next(TASK, 1e9, never)).toEqual(first);
	offers.take(TASK, { file: OFFER_DESCRIPTION, start: 0 }, DESCRIPTION);
	expect((await again).totalBytes).toBe(WEIGHTS.length);
});

test("only what is wanted is taken, and only as long as it is", async () => {
	const offers = createOffers({ clock: new FakeClock() });
	const take = (...input: Parameters<Offers["take"]>) => failure(Promise.try(() => offers.take(...input)));
	expect(await take(TASK, { file: 0, start: 0 }, DESCRIPTION)).toMatchObject({ reason: "piece_not_wanted" });
	{
		using source = open(offers);
		const stop = new AbortController();
		const describing = source.describe(stop.signal);
		await offers.next(TASK, 1e9, never);
		const at = { file: OFFER_DESCRIPTION, start: 0 };
		expect(await take(TASK, at, DESCRIPTION.slice(1))).toMatchObject({ reason: "wrong_piece", status: 400 });
		expect(await take(TASK, { file: 0, start: 0 }, DESCRIPTION)).toMatchObject({
			reason: "piece_not_wanted",
		});
		expect(await take("download-other-1", at, DESCRIPTION)).toMatchObject({ reason: "piece_not_wanted" });
		// Whoever wanted it wants it no more.
		stop.abort();
		await failure(describing);
		expect(await take(TASK, at, DESCRIPTION)).toMatchObject({ reason: "piece_not_wanted" });
	}
	expect(await offers.next(TASK, 0, never)).toBeUndefined();
});
