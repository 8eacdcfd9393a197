/**
 * Decides on what has landed: a part is kept or fetched again, a whole file is verified or fetched again, each only
 * so often. What it wants fetched goes back to the work queue.
 */
import type { IoPool } from "../../platform/io-pool.ts";
import type { Log } from "../../platform/log.ts";
import type { Reservation } from "../storage/storage.ts";
import type { Follower } from "./follower.ts";
import type { Ledger } from "./ledger.ts";
import { type PlannedFile, type PlannedRequest, requestFor } from "./plan.ts";
import type { Meter } from "./progress.ts";
import type { PartTag } from "./receive.ts";
import { checksumMismatch, verifyFile } from "./verify.ts";
import type { SwarmSession } from "./swarm.ts";
import type { TagCollection } from "./tags.ts";
import type { WorkQueue } from "./work-queue.ts";

export interface Intake {
	/** A part's bytes are in the staged file. */
	part(file: PlannedFile, part: number, xxh64: string, tag?: PartTag): Promise<void>;
	/** All bytes of a file are there: it is verified beside the streams. */
	whole(file: PlannedFile, sizeBytes: number): void;
}

export interface IntakeInput {
	io: IoPool;
	log: Log;
	meter: Meter;
	ledger: Ledger;
	/** Undefined: nobody needs the digests of whole files. */
	follower: Follower | undefined;
	/** Undefined: nobody will receive from here without TLS. */
	tagging: Pick<TagCollection, "add"> | undefined;
	tagKeyOf: (file: PlannedFile) => string | undefined;
	/** Other receivers of the same, and where each part came from. */
	others?: Pick<SwarmSession, "claimed" | "landed" | "suspects"> | undefined;
	reservation: Reservation;
	work: Pick<WorkQueue<PlannedRequest>, "track">;
	/** Puts requests into the queue. */
	fetchAgain: (...requests: readonly PlannedRequest[]) => void;
	/** The requests for what is missing of a file. */
	missing: (file: PlannedFile) => readonly PlannedRequest[];
	pathOf: (file: PlannedFile) => string;
	transferId: string;
	/** What was reserved at first. */
	roomBytes: number;
	trustPartDigests: boolean;
	/** How often a part may come with the wrong digest. */
	partTries: number;
	/** Journal rows that may wait for their commit. */
	rowsWaiting: number;
	signal: AbortSignal;
}

export function createIntake(input: IntakeInput): Intake {
	const { ledger, follower, meter, work, log, transferId } = input;
	const partTries = new Map<string, number>();
	const redone = new Set<number>();
	/** Parts of which their tag has said that nobody changed them: all of them together stand for a sha256. */
	const tagged = new Map<number, Map<number, string>>();
	const taggedOf = (file: PlannedFile): Map<number, string> => {
		const known = tagged.get(file.index) ?? new Map<number, string>();
		tagged.set(file.index, known);
		return known;
	};
	const rows = new Set<Promise<void>>();

	const partAgain = (
		file: PlannedFile,
		part: number,
		{ wanted, got, what }: PartTag & { what: "xxh64" | "tag" },
	): void => {
		const key = `${file.index} ${part}`;
		const tries = (partTries.get(key) ?? 0) + 1;
		partTries.set(key, tries);
		if (tries >= input.partTries) {
			// The tag of changed bytes is said to nobody: beside that of the right ones it gives the key away.
			throw checksumMismatch(
				file.path,
				what === "tag"
					? { wanted: `the tag of part ${part} that its source told`, got: "bytes with another one" }
					: { wanted: `xxh64 ${wanted} of part ${part}`, got },
			);
		}
		log.warn("transfer.part_mismatch", { transfer_id: transferId, file: file.path, part, tries });
		const again = requestFor(file, { first: part, end: part + 1 });
		meter.add(-(again.bytes ?? 0));
		input.fetchAgain(again);
	};
	const verify = async (file: PlannedFile, sizeBytes: number): Promise<void> => {
		const landed = file.partCount === 0 ? undefined : ledger.parts(file);
		const { signal } = input;
		const tags = taggedOf(file);
		const isTagged = file.partCount > 0 && tags.size === file.partCount;
		const trustPartDigests = input.trustPartDigests || isTagged;
		const path = input.pathOf(file);
		const verdict = await verifyFile(
			input.io,
			{ file, path, sizeBytes, landed, trustPartDigests, tagKey: input.tagKeyOf(file) },
			{ follower, signal },
		);
		if ("row" in verdict) {
			const made = isTagged ? inOrder(tags) : verdict.tags;
			if (made !== undefined) input.tagging?.add(file.path, made);
			await ledger.fileVerified(file, verdict.row);
			return;
		}
		if (redone.has(file.index)) throw checksumMismatch(file.path, verdict.problem);
		redone.add(file.index);
		log.warn("transfer.file_mismatch", { transfer_id: transferId, file: file.path, ...verdict.problem });
		const badParts = verdict.badParts ?? input.others?.suspects(file);
		const lostBytes = file.partCount === 0 ? sizeBytes : await ledger.drop(file, badParts);
		meter.add(-lostBytes);
		input.fetchAgain(...input.missing(file));
	};
	const whole = (file: PlannedFile, sizeBytes: number): void => work.track(verify(file, sizeBytes));
	return {
		whole,
		async part(file, part, xxh64, tag) {
			const claimed = input.others?.claimed(file, part);
			const wanted = file.source.parts?.xxh64[part] ?? (claimed === "" ? undefined : claimed);
			input.others?.landed(file, part, xxh64, wanted === undefined || wanted === xxh64);
			if (wanted !== undefined && wanted !== xxh64) {
				partAgain(file, part, { wanted, got: xxh64, what: "xxh64" });
				return;
			}
			if (tag !== undefined && tag.wanted !== tag.got) {
				partAgain(file, part, { ...tag, what: "tag" });
				return;
			}
			const row = ledger.landed(file, part, xxh64);
			if (tag === undefined) {
				taggedOf(file).delete(part);
				follower?.landed(file);
			} else taggedOf(file).set(part, tag.got);
			work.track(row);
			rows.add(row);
			row.finally(() => rows.delete(row)).catch(() => {});
			if (rows.size > input.rowsWaiting) await row;
			input.reservation.shrinkTo(input.roomBytes - meter.done());
			if (ledger.parts(file).size === file.partCount) whole(file, file.sizeBytes ?? 0);
		},
	};
}

function inOrder(tags: ReadonlyMap<number, string>): string[] {
	return Array.from({ length: tags.size }, (_, part) => tags.get(part) ?? "");
}
