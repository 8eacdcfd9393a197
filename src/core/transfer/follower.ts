/**
 * Whole-file digests that are nearly done when the last part lands: an io thread reads each file on from its start as
 * far as its parts have landed, while the rest comes. What was read stays in the kernel's cache, so the disk is not
 * asked again. Nothing of it is kept over a restart: then the file is read from its start.
 */
import type { FileDigests } from "../../platform/io-jobs.ts";
import type { FollowedHash, IoPool } from "../../platform/io-pool.ts";
import type { Log } from "../../platform/log.ts";
import { byteRange, type PlannedFile } from "./plan.ts";

export interface Follower extends Disposable {
	/** A part of the file is there; perhaps the next ones can be read. */
	landed(file: PlannedFile): void;
	/**
	 * The digests, once the whole file is there; undefined when they have to be made another way. Afterwards nothing is
	 * known of the file, so that one of which parts come again is read anew.
	 */
	digests(file: PlannedFile): Promise<FileDigests | undefined>;
}

export interface FollowerInput {
	io: IoPool;
	log: Log;
	isThere: (file: PlannedFile, part: number) => boolean;
	pathOf: (file: PlannedFile) => string;
	/** Of files whose parts are tagged in the same pass. */
	tagKeyOf: (file: PlannedFile) => string | undefined;
	signal: AbortSignal;
}

/** A file of one part is read once anyway, when it is there. */
const FEWEST_PARTS = 2;
/** Files at once; a transfer works on few, and each holds a little memory in a thread. */
const MOST_FILES = 16;
/** One job, so that other files have their turn in between. */
const JOB_BYTES = 64 * 1024 * 1024;

interface Following {
	hash: FollowedHash;
	/** Parts that were read or are being read. */
	parts: number;
	reading: Promise<void> | undefined;
	failed: boolean;
}

export function createFollower({ io, log, isThere, pathOf, tagKeyOf, signal }: FollowerInput): Follower {
	const files = new Map<number, Following>();
	const begin = (file: PlannedFile): Following | undefined => {
		if (file.partCount < FEWEST_PARTS || files.size >= MOST_FILES) return undefined;
		const { digest } = file.source;
		const key = tagKeyOf(file);
		const following: Following = {
			hash: io.followFile({
				path: pathOf(file),
				gitSha1Of: digest?.algorithm === "git-sha1" ? file.sizeBytes : undefined,
				// A digest of the source convicts what lies; without one the parts are read back and compared.
				partSizeBytes: digest === undefined ? file.partSizeBytes : undefined,
				tagging: key === undefined ? undefined : { key, partSizeBytes: file.partSizeBytes },
			}),
			parts: 0,
			reading: undefined,
			failed: false,
		};
		files.set(file.index, following);
		return following;
	};
	/** Reads on as long as the next part is there. */
	const readOn = async (file: PlannedFile, following: Following): Promise<void> => {
		const most = Math.max(1, Math.floor(JOB_BYTES / file.partSizeBytes));
		for (;;) {
			const first = following.parts;
			let end = first;
			while (end < file.partCount && end - first < most && isThere(file, end)) end++;
			if (end === first || files.get(file.index) !== following) return;
			following.parts = end;
			await following.hash.readTo(byteRange(file, { first, end }).end, signal);
		}
	};
	const landed = (file: PlannedFile): void => {
		const following = files.get(file.index) ?? begin(file);
		if (following === undefined || following.reading !== undefined || following.failed) return;
		following.reading = readOn(file, following)
			.catch((error: unknown) => {
				// Reading it once more, from the start, tells what the matter is.
				following.failed = true;
				log.debug("transfer.follow_failed", { file: file.path, error });
			})
			.finally(() => {
				following.reading = undefined;
			});
	};
	const forget = (file: PlannedFile): void => {
		const following = files.get(file.index);
		files.delete(file.index);
		if (following === undefined) return;
		void (following.reading ?? Promise.resolve()).then(() => following.hash[Symbol.dispose]());
	};
	return {
		landed,
		async digests(file) {
			for (;;) {
				landed(file);
				const following = files.get(file.index);
				if (following === undefined) return undefined;
				const stands = following.reading === undefined && following.parts < file.partCount;
				await following.reading;
				signal.throwIfAborted();
				if (following.failed || stands) {
					forget(file);
					return undefined;
				}
				if (following.parts < file.partCount) continue;
				files.delete(file.index);
				return await following.hash.end(signal);
			}
		},
		[Symbol.dispose]() {
			for (const following of files.values()) {
				void (following.reading ?? Promise.resolve()).then(() => following.hash[Symbol.dispose]());
			}
			files.clear();
		},
	};
}
