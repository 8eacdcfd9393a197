/**
 * Several nodes that have the same sealed copy, read as one source: each request goes to who will have answered it
 * soonest, by what was measured. Who fails is left in peace for a while, and who gave what was not right is asked no
 * more while there is another. So a copy goes on when one of its sources goes, and is as fast as the receiver.
 */
import type { Clock } from "../../platform/clock.ts";
import type { Log } from "../../platform/log.ts";
import { GswarmError } from "../../schema/errors.ts";
import type { Brought, ByteRange, PeerSource, SourceBody, SourceFile } from "../source/source.ts";

export interface SourcePlace {
	/** As people know it, e.g. `node2:disk`. */
	device: string;
	source: PeerSource;
}

/** What a choice goes by. */
export interface PlaceState {
	/** Bytes that it was asked for and has not sent. */
	waitingBytes: number;
	/** Of all that it sends us; undefined until it was measured. */
	rateBytesPerSecond: number | undefined;
	/** Not asked before; infinite: never again. */
	coolUntilMs: number;
}

export interface SeveralSources extends PeerSource {
	/** The devices that bytes came from. */
	givers(): string[];
}

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 60_000;
/** A smaller answer says more about the distance than about the rate. */
const LEAST_MEASURED_BYTES = 256 * 1024;
/** What is measured now counts so much. */
const WEIGHT = 0.3;

/**
 * Who will have sent so many bytes soonest. One that was not measured yet is tried as soon as it has nothing to do, and
 * beyond that taken for half as fast as the best. Undefined: nobody may be asked now.
 */
export function choosePlace(places: readonly PlaceState[], bytes: number, nowMs: number): number | undefined {
	const measured = places.flatMap(({ rateBytesPerSecond: rate }) => (rate === undefined ? [] : [rate]));
	const guess = measured.length === 0 ? 1 : Math.max(...measured) / 2;
	let best: number | undefined;
	let soonest = Infinity;
	for (const [at, { waitingBytes, rateBytesPerSecond: rate, coolUntilMs }] of places.entries()) {
		if (coolUntilMs > nowMs) continue;
		const isNew = rate === undefined && waitingBytes === 0;
		const takesS = isNew ? 0 : (waitingBytes + bytes) / (rate ?? guess);
		if (best !== undefined && takesS >= soonest) continue;
		best = at;
		soonest = takesS;
	}
	return best;
}

interface Place extends SourcePlace, PlaceState {
	failures: number;
	gave: boolean;
	underWay: number;
}

/** What a place was asked for and has not failed to give: what of it is wanted again was not right. */
interface Reading {
	place: Place;
	range: ByteRange;
}

export function severalSources(
	{ clock, log }: { clock: Clock; log: Log },
	sources: readonly [SourcePlace, ...SourcePlace[]],
): SeveralSources {
	const fresh = { waitingBytes: 0, rateBytesPerSecond: undefined, coolUntilMs: 0 };
	const places = sources.map((one): Place => ({ ...one, ...fresh, failures: 0, gave: false, underWay: 0 }));
	const [first] = sources;
	const open = new WeakMap<SourceBody, { place: Place; end: (brought: Brought) => void }>();
	/** By file. */
	const readings = new Map<string, Reading[]>();

	const cool = (place: Place, error: unknown): void => {
		const pauseMs = Math.min(FIRST_PAUSE_MS * 2 ** place.failures++, LONGEST_PAUSE_MS);
		place.coolUntilMs = Math.max(place.coolUntilMs, clock.monotonicMs() + pauseMs);
		log.debug("transfer.source_left", { device: place.device, pause_ms: pauseMs, error });
	};
	/** Counts what is asked for from now on; what it returns hears once how that ended. */
	const begin = (place: Place, bytes: number): ((brought: Brought) => void) => {
		place.underWay++;
		place.waitingBytes += bytes;
		return ({ wireBytes, ms, error }) => {
			// Beside others on the same line: that is so much faster as there are many.
			const beside = place.underWay--;
			place.waitingBytes -= bytes;
			if (wireBytes > 0) place.gave = true;
			if (error !== undefined) cool(place, error);
			if (wireBytes < LEAST_MEASURED_BYTES) return;
			if (error === undefined) place.failures = 0;
			const now = (wireBytes / Math.max(1, ms)) * 1000 * beside;
			const before = place.rateBytesPerSecond;
			place.rateBytesPerSecond = before === undefined ? now : before + WEIGHT * (now - before);
		};
	};
	/** Who gave this has not given what it should be. */
	const convict = (file: string, range: ByteRange): void => {
		const ofFile = readings.get(file) ?? [];
		const wrong = ofFile.find((one) => one.range.start <= range.start && range.end <= one.range.end);
		if (wrong === undefined) return;
		readings.set(
			file,
			ofFile.filter((one) => one !== wrong),
		);
		const isOnly = !places.some((one) => one !== wrong.place && one.coolUntilMs < Infinity);
		if (isOnly || wrong.place.coolUntilMs === Infinity) return;
		wrong.place.coolUntilMs = Infinity;
		log.warn("transfer.source_dropped", { device: wrong.place.device, file });
	};
	/** What it is read for is its word, unless it fails. */
	const remember = (
		place: Place,
		file: string,
		range: ByteRange,
		end: (brought: Brought) => void,
	): ((brought: Brought) => void) => {
		const reading: Reading = { place, range };
		readings.set(file, [...(readings.get(file) ?? []), reading]);
		return (brought) => {
			end(brought);
			if (brought.error === undefined) return;
			const others = (readings.get(file) ?? []).filter((one) => one !== reading);
			readings.set(file, others);
		};
	};
	/** One after the other, until one answers. */
	const ask = async (
		bytes: number,
		signal: AbortSignal,
		read: (place: Place) => Promise<SourceBody>,
	): Promise<SourceBody> => {
		const left = new Set(places.filter((one) => one.coolUntilMs < Infinity));
		for (let failure: unknown; ; ) {
			const place = nextOf([...left], bytes, clock.monotonicMs());
			if (place === undefined) throw failure;
			left.delete(place);
			const end = begin(place, bytes);
			try {
				const body = await read(place);
				open.set(body, { place, end });
				// Nobody waits for it any more, and nobody will say how it came.
				if (signal.aborted) end({ wireBytes: 0, ms: 0, error: signal.reason });
				return body;
			} catch (error) {
				end({ wireBytes: 0, ms: 0, error });
				signal.throwIfAborted();
				// Who may be asked again is what decides whether all of it is.
				if (!isRetryable(failure)) failure = error;
			}
		}
	};

	return {
		describe: (signal) => first.source.describe(signal),
		async read(file, range, signal) {
			const wanted = range ?? { start: 0, end: file.sizeBytes ?? 0 };
			convict(file.path, wanted);
			const body = await ask(wanted.end - wanted.start, signal, ({ source }) =>
				source.read(file, range, signal),
			);
			const opened = open.get(body);
			if (opened !== undefined)
				open.set(body, { ...opened, end: remember(opened.place, file.path, wanted, opened.end) });
			return body;
		},
		readBundle: (files, signal) => {
			const bytes = files.reduce((sum, { sizeBytes = 0 }) => sum + sizeBytes, 0);
			return ask(bytes, signal, ({ source }) => {
				if (source.readBundle === undefined) throw new Error("a peer has bundles");
				return source.readBundle(files, signal);
			});
		},
		measured(body, brought) {
			const opened = open.get(body);
			if (opened === undefined) return;
			open.delete(body);
			opened.end(brought);
			opened.place.source.measured?.(body, brought);
		},
		plainPeer(file: SourceFile) {
			const at = choosePlace(places, file.parts?.partSizeBytes ?? 0, clock.monotonicMs());
			const place = at === undefined ? undefined : places[at];
			const peer = place?.source.plainPeer?.(file);
			if (place === undefined || peer === undefined) return undefined;
			return {
				...peer,
				used(range) {
					convict(file.path, range);
					const end = begin(place, range.end - range.start);
					const ends = [remember(place, file.path, range, end), peer.used?.(range)];
					return (brought) => {
						for (const one of ends) one?.(brought);
					};
				},
			};
		},
		async touch(signal) {
			const live = places.filter(({ coolUntilMs }) => coolUntilMs < Infinity);
			await Promise.all(
				live.map(({ source, device }) =>
					source.touch(signal).catch((error: unknown) => {
						log.debug("transfer.grant_not_touched", { device, error });
					}),
				),
			);
		},
		givers: () => places.filter(({ gave }) => gave).map(({ device }) => device),
	};
}

/** Where all rest, the one that has rested most is asked all the same: who waits for it decides how long. */
function nextOf(left: readonly Place[], bytes: number, nowMs: number): Place | undefined {
	const at = choosePlace(left, bytes, nowMs);
	return at === undefined ? left.toSorted((a, b) => a.coolUntilMs - b.coolUntilMs)[0] : left[at];
}

function isRetryable(error: unknown): boolean {
	return error instanceof GswarmError && error.retryable;
}
