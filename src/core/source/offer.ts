/**
 * A bundle that a person's machine has and this node has not: what of it is wanted is asked for piece by piece, and
 * whoever sends it takes the pieces one after the other. The bundle's own manifest says what the pieces have to be, so
 * that only what is missing is asked for, in any order, and whoever comes back goes on where they were. An offer is
 * known only while its transfer runs.
 */
import type { Clock } from "../../platform/clock.ts";
import { GswarmError, notFound } from "../../schema/errors.ts";
import type { Bundle } from "../../schema/bundle.ts";
import type { ModelName, Revision } from "../../schema/names.ts";
import { OFFER_DESCRIPTION, OFFER_PIECE_BYTES, type OfferPiece } from "../../schema/offer.ts";
import { badBundle, MAX_BUNDLE_JSON_BYTES, parseBundle } from "./bundle-header.ts";
import type { Source } from "./contract.ts";
import { describeSealed } from "./peer.ts";

export interface OfferInput {
	/** Of the description with which a bundle begins. */
	descriptionBytes: number;
	/** What the description has to be of, and how many bytes the files have together. */
	contentId: string;
	sizeBytes: number;
	/** By which name it is imported. */
	model: ModelName;
	revision: Revision;
}

export interface Offers {
	/** The bundle that will be sent for this task. */
	open(taskId: string, input: OfferInput): Source & Disposable;
	/** A piece that nobody is sending: at once, or as soon as there is one within the wait. */
	next(taskId: string, waitMs: number, signal: AbortSignal): Promise<OfferPiece | undefined>;
	/** @throws 409 piece_not_wanted; 400 wrong_piece, when it is not as long as it has to be */
	take(taskId: string, at: Pick<OfferPiece, "file" | "start">, bytes: Uint8Array): void;
}

/** Who took a piece and sends nothing has gone. */
const LEASE_MS = 30_000;
/** Nobody has sent what is wanted for so long. Less than what a transfer takes for a stall, to say why. */
const PATIENCE_MS = 25_000;
/** Pieces of one reader that are asked for at a time. */
const AHEAD = 2;

interface Want {
	piece: OfferPiece;
	leasedUntilMs: number;
	deliver: (bytes: Uint8Array) => void;
}

interface Offer {
	wants: Map<string, Want>;
}

export function createOffers({ clock }: { clock: Clock }): Offers {
	const offers = new Map<string, Offer>();
	let news = Promise.withResolvers<void>();
	const changed = (): void => {
		news.resolve();
		news = Promise.withResolvers<void>();
	};
	const want = async (offer: Offer, piece: OfferPiece, signal: AbortSignal): Promise<Uint8Array> => {
		const key = `${piece.file} ${piece.start}`;
		const over = new AbortController();
		const { promise, resolve } = Promise.withResolvers<Uint8Array>();
		const one: Want = { piece, leasedUntilMs: 0, deliver: resolve };
		offer.wants.set(key, one);
		changed();
		const late = clock.sleep(PATIENCE_MS, AbortSignal.any([signal, over.signal])).then(() => undefined);
		try {
			const bytes = await Promise.race([promise, late]);
			signal.throwIfAborted();
			if (bytes !== undefined) return bytes;
			throw nobodySends();
		} finally {
			over.abort();
			if (offer.wants.get(key) === one) offer.wants.delete(key);
		}
	};
	const stream = (
		offer: Offer,
		{ file, start, end }: OfferPiece,
		signal: AbortSignal,
	): ReadableStream<Uint8Array> => {
		const stop = new AbortController();
		const either = AbortSignal.any([signal, stop.signal]);
		const coming: Promise<Uint8Array>[] = [];
		let asked = start;
		return new ReadableStream<Uint8Array>(
			{
				async pull(controller) {
					while (coming.length < AHEAD && asked < end) {
						const piece = { file, start: asked, end: Math.min(end, asked + OFFER_PIECE_BYTES) };
						asked = piece.end;
						const bytes = want(offer, piece, either);
						// The one before it may fail first.
						bytes.catch(() => {});
						coming.push(bytes);
					}
					const next = coming.shift();
					if (next === undefined) controller.close();
					else controller.enqueue(await next);
				},
				cancel: () => stop.abort(),
			},
			{ highWaterMark: 0 },
		);
	};

	return {
		open(taskId, { descriptionBytes, contentId, sizeBytes, model, revision }) {
			if (descriptionBytes > MAX_BUNDLE_JSON_BYTES)
				throw badBundle(`its description has ${descriptionBytes} bytes`);
			const offer: Offer = { wants: new Map() };
			offers.set(taskId, offer);
			let bundle: Bundle | undefined;
			const read = async (signal: AbortSignal): Promise<Bundle> => {
				const piece = { file: OFFER_DESCRIPTION, start: 0, end: descriptionBytes };
				const blocks: Uint8Array[] = [];
				for await (const block of stream(offer, piece, signal)) blocks.push(block);
				const found = parseBundle(Buffer.concat(blocks));
				if (found.content_id !== contentId || found.manifest.total_bytes !== sizeBytes)
					throw badBundle("it is not the one that was announced");
				return found;
			};
			const indexes = new Map<string, number>();
			return {
				async describe(signal) {
					bundle ??= await read(signal);
					// Numbered as they lie in the bundle.
					for (const [index, { path }] of bundle.manifest.files.entries()) indexes.set(path, index);
					return describeSealed(bundle.manifest.files, {
						uri: `bundle:${model}@${revision}`,
						model,
						revision,
					});
				},
				read(file, range, signal) {
					const index = indexes.get(file.path);
					if (index === undefined) throw notFound("file", file.path);
					const { start, end } = range ?? { start: 0, end: file.sizeBytes ?? 0 };
					return Promise.resolve(stream(offer, { file: index, start, end }, signal));
				},
				[Symbol.dispose]() {
					if (offers.get(taskId) === offer) offers.delete(taskId);
					changed();
				},
			};
		},
		async next(taskId, waitMs, signal) {
			const untilMs = clock.monotonicMs() + waitMs;
			for (;;) {
				const nowMs = clock.monotonicMs();
				const free = [...(offers.get(taskId)?.wants.values() ?? [])].find(
					(one) => one.leasedUntilMs <= nowMs,
				);
				if (free !== undefined) {
					free.leasedUntilMs = nowMs + LEASE_MS;
					return free.piece;
				}
				if (nowMs >= untilMs || signal.aborted) return undefined;
				const over = new AbortController();
				const late = clock.sleep(untilMs - nowMs, AbortSignal.any([signal, over.signal]));
				await Promise.race([news.promise, late]).finally(() => over.abort());
			}
		},
		take(taskId, { file, start }, bytes) {
			const wanted = offers.get(taskId)?.wants.get(`${file} ${start}`);
			if (wanted === undefined) {
				throw new GswarmError("CONFLICT", "Nobody waits for these bytes, or not any more.", {
					reason: "piece_not_wanted",
				});
			}
			const length = wanted.piece.end - wanted.piece.start;
			if (bytes.byteLength !== length) {
				throw new GswarmError(
					"INVALID_REQUEST",
					`The piece has ${bytes.byteLength} bytes; it has to have ${length}.`,
					{ reason: "wrong_piece", details: { wanted: length, got: bytes.byteLength } },
				);
			}
			wanted.deliver(bytes);
		},
	};
}

/** The same command goes on. */
function nobodySends(): GswarmError {
	return new GswarmError("NETWORK_ERROR", "nobody sends the file; the same `gswarm model import` goes on", {
		reason: "nobody_sends",
		retryable: true,
	});
}
