/**
 * What this node is receiving together with others and gives on meanwhile: the parts that have landed, by number, with
 * their digests. A share is open while its transfer runs; what it became is remembered, so that those who knew the
 * bytes by where they come from find the sealed copy.
 */
import { GswarmError, asGswarmError } from "../../schema/errors.ts";
import type { Manifest } from "../../schema/manifest.ts";
import { type HaveAnswer, MAX_ADDED } from "../../schema/swarm.ts";
import type { Storage } from "../storage/storage.ts";
import type { Ids } from "../../platform/ids.ts";
import type { Clock } from "../../platform/clock.ts";
import type { PartNumbers } from "./part-numbers.ts";
import { type ResolvedPart, resolvePart } from "./parts.ts";
import type { PlannedFile } from "./plan.ts";

export interface ShareInput {
	files: readonly PlannedFile[];
	numbers: PartNumbers;
	pathOf: (file: PlannedFile) => string;
}

export interface Share extends Disposable {
	/** The part's bytes are in the staged file, and right as far as anybody can tell. */
	landed(number: number, xxh64: string): void;
	/** They were not right after all; everybody begins to listen anew. */
	withdraw(numbers: readonly number[]): void;
	/** Parts that are read from the origin now. */
	reading(numbers: readonly number[]): void;
	/** The copy that came of it, before the share ends. */
	sealed(contentId: string): void;
}

export interface HaveQuestion {
	epoch: string;
	since: number;
	/** What was being read then is known. */
	turn: number;
	waitMs: number;
	/** Who has a manifest needs no digests. */
	digests: boolean;
}

export interface Shares {
	/** `key`: the content id of what is received, or where nobody knows that yet the source id. */
	open(key: string, input: ShareInput): Share;
	/**
	 * What of it is here: at once when there is news, else after the wait.
	 * @throws 404 part_not_here
	 */
	have(key: string, question: HaveQuestion, signal: AbortSignal): Promise<HaveAnswer>;
	/**
	 * The file with the range's bytes, in a sealed copy or among what has landed.
	 * @throws 404 part_not_here, file_not_found
	 */
	resolve(
		key: string,
		fileIndex: number,
		rangeOf: (sizeBytes: number) => { start: number; end: number },
	): ResolvedPart & { start: number; end: number };
}

const NO_FILES: Pick<Manifest, "files"> = { files: [] };
/** Transfers that ended, whose sealed copies are found by the source id. */
const MAX_SEALED = 1_000;

export function createShares({ storage, ids, clock }: { storage: Storage; ids: Ids; clock: Clock }): Shares {
	const open = new Map<string, LiveShare>();
	const sealedAs = new Map<string, string>();

	const contentOf = (key: string): string => sealedAs.get(key) ?? key;
	const sealedManifest = (key: string): Manifest | undefined => {
		const contentId = contentOf(key);
		const ready = storage.copies().some((copy) => copy.content_id === contentId && copy.status === "ready");
		return ready ? storage.manifest(contentId) : undefined;
	};
	return {
		open(key, input) {
			const share = new LiveShare(ids.short(12), input, {
				sealed: (contentId) => {
					if (contentId === key) return;
					sealedAs.set(key, contentId);
					const [oldest] = sealedAs.keys();
					if (sealedAs.size > MAX_SEALED && oldest !== undefined) sealedAs.delete(oldest);
				},
				end: () => {
					if (open.get(key) === share) open.delete(key);
				},
			});
			open.set(key, share);
			return share;
		},
		async have(key, { epoch, since, turn, waitMs, digests }, signal) {
			const sealed = (): HaveAnswer | undefined => {
				const manifest = sealedManifest(key);
				return manifest && sealedAnswer(contentOf(key), digests ? manifest : NO_FILES, { epoch, since });
			};
			const copy = sealed();
			if (copy !== undefined) return copy;
			const share = open.get(key);
			if (share === undefined) throw notHere();
			if (share.epoch === epoch && !share.hasNews(since, turn)) await share.news(clock, waitMs, signal);
			// It may have become a copy in the meantime.
			const now = sealed();
			if (now !== undefined) return now;
			if (open.get(key) !== share) throw notHere();
			return share.answer(share.epoch === epoch ? since : 0, digests);
		},
		resolve(key, fileIndex, rangeOf) {
			let sealed: ResolvedPart | undefined;
			try {
				sealed = resolvePart({ storage, contentId: contentOf(key), fileIndex });
			} catch (error) {
				if (asGswarmError(error).code !== "MODEL_NOT_FOUND" || !open.has(key)) throw error;
			}
			if (sealed !== undefined) return { ...sealed, ...rangeOf(sealed.sizeBytes) };
			const share = open.get(key);
			const file = share?.input.files[fileIndex];
			if (share === undefined || file?.sizeBytes === undefined) throw notHere();
			const { sizeBytes } = file;
			const range = rangeOf(sizeBytes);
			if (!share.holds(fileIndex, range)) throw notHere();
			return { path: share.input.pathOf(file), name: file.path, sizeBytes, ...range };
		},
	};
}

class LiveShare implements Share {
	readonly input: ShareInput;
	epoch: string;
	readonly #firstEpoch: string;
	readonly #events: { sealed: (contentId: string) => void; end: () => void };
	#epochs = 0;
	/** In the order of their coming. */
	#list: [number, string][] = [];
	#here = new Set<number>();
	#reading: readonly number[] = [];
	#turn = 0;
	#wake = Promise.withResolvers<void>();

	constructor(
		epoch: string,
		input: ShareInput,
		events: { sealed: (contentId: string) => void; end: () => void },
	) {
		this.epoch = epoch;
		this.#firstEpoch = epoch;
		this.input = input;
		this.#events = events;
	}

	landed(number: number, xxh64: string): void {
		if (this.#here.has(number)) return;
		this.#here.add(number);
		this.#list.push([number, xxh64]);
		this.#changed();
	}

	withdraw(numbers: readonly number[]): void {
		const gone = new Set(numbers.filter((number) => this.#here.has(number)));
		if (gone.size === 0) return;
		this.#list = this.#list.filter(([number]) => !gone.has(number));
		this.#here = new Set(this.#list.map(([number]) => number));
		this.epoch = `${this.#firstEpoch}.${++this.#epochs}`;
		this.#changed();
	}

	reading(numbers: readonly number[]): void {
		const isMore = numbers.some((number) => !this.#reading.includes(number));
		this.#reading = numbers.slice(0, 1024);
		// What ends is told with the next news.
		if (!isMore) return;
		this.#turn++;
		this.#changed();
	}

	sealed(contentId: string): void {
		this.#events.sealed(contentId);
	}

	holds(fileIndex: number, range: { start: number; end: number }): boolean {
		const { first, end } = this.input.numbers.touched(fileIndex, range);
		if (end <= first) return false;
		for (let number = first; number < end; number++) if (!this.#here.has(number)) return false;
		return true;
	}

	hasNews(since: number, turn: number): boolean {
		return this.#list.length > since || this.#turn > turn;
	}

	/** Resolves at the next change, or after the wait. */
	async news(clock: Clock, waitMs: number, signal: AbortSignal): Promise<void> {
		const over = new AbortController();
		await Promise.race([
			this.#wake.promise,
			clock.sleep(waitMs, AbortSignal.any([signal, over.signal])),
		]).finally(() => over.abort());
	}

	answer(since: number, digests: boolean): HaveAnswer {
		const added = this.#list
			.slice(since, since + MAX_ADDED)
			.map(([number, xxh64]): [number, string] => [number, digests ? xxh64 : ""]);
		const next = Math.min(since, this.#list.length) + added.length;
		return { epoch: this.epoch, next, complete: false, added, turn: this.#turn, reading: [...this.#reading] };
	}

	[Symbol.dispose](): void {
		this.#events.end();
		this.#changed();
	}

	#changed(): void {
		this.#wake.resolve();
		this.#wake = Promise.withResolvers<void>();
	}
}

/** A sealed copy: everything is there. Digests are told a piece at a time, for those who know only the source. */
function sealedAnswer(
	contentId: string,
	{ files }: Pick<Manifest, "files">,
	{ epoch, since }: { epoch: string; since: number },
): HaveAnswer {
	const own = `sealed.${contentId.slice(0, 16)}`;
	const from = epoch === own ? since : 0;
	const added: [number, string][] = [];
	let number = 0;
	for (const { xxh64 } of files) {
		if (number + xxh64.length <= from) {
			number += xxh64.length;
			continue;
		}
		for (const digest of xxh64) {
			if (number >= from && added.length < MAX_ADDED) added.push([number, digest]);
			number++;
		}
		if (added.length >= MAX_ADDED) break;
	}
	return { epoch: own, next: from + added.length, complete: true, added, turn: 0, reading: [] };
}

function notHere(): GswarmError {
	return new GswarmError("NOT_FOUND", "These bytes are not on this node, or not yet.", {
		reason: "part_not_here",
	});
}
