/** Room on the tiers, counted with what is in flight: a reservation holds bytes before they are written. */
import { GswarmError } from "../../schema/errors.ts";
import type { TierUsage } from "../../schema/node.ts";
import type { Tier } from "./tier-root.ts";

/** A hold on bytes of a tier that are still to be written, or were written but not published. */
export interface Reservation extends Disposable {
	readonly tier: string;
	/** Says how many of the bytes are still to be written; the rest is on the filesystem already. */
	shrinkTo(bytesToWrite: number): void;
}

/** Bytes that are taken before they are there: what comes free meanwhile is this claim's, and nobody else's. */
export interface Claim {
	readonly reservation: Reservation;
	/** What must still come free; 0: the reservation is as good as any other. */
	shortBytes(): number;
}

/** What the capacity of one tier depends on, read at the moment it is asked. */
export interface RoomFacts {
	/** Of the filesystem; on a volatile tier not more than the memory that is there. */
	freeBytes: number;
	totalBytes: number;
	floorBytes: number;
	limitBytes: number | undefined;
	/** Bytes of copies on this tier. */
	copyBytes: number;
	/** Bytes of this tier's reservations, written or not. */
	reservedBytes: number;
	/** Reserved bytes that are still to be written, of all tiers on this filesystem. */
	toWriteBytes: number;
}

/** What a reservation is for. */
export interface Wanted {
	bytes: number;
	/** Of these, what lies in the transfer's staging already. */
	writtenBytes: number;
	transferId?: string | undefined;
}

interface Held {
	tier: string;
	filesystem: number;
	bytes: number;
	toWrite: number;
	transferId: string | undefined;
}

/** Bytes that still fit: into the filesystem above its floor, and into the budget. */
export function roomLeft(facts: RoomFacts): { filesystem: number; budget: number } {
	const { filesystem, budget } = balance(facts);
	return { filesystem: Math.max(0, filesystem), budget: Math.max(0, budget) };
}

/** The same, below zero where more is taken than there is. */
function balance(facts: RoomFacts): { filesystem: number; budget: number } {
	return {
		filesystem: facts.freeBytes - facts.floorBytes - facts.toWriteBytes,
		budget: (facts.limitBytes ?? Number.MAX_SAFE_INTEGER) - facts.copyBytes - facts.reservedBytes,
	};
}

/** Bytes that transfers may take together when `theirs` of them are staged or promised already. */
export function roomForAll(facts: RoomFacts, theirs: number): number {
	const { filesystem, budget } = roomLeft({
		...facts,
		freeBytes: facts.freeBytes + theirs,
		reservedBytes: 0,
	});
	return Math.min(filesystem, budget);
}

export function tierUsage(facts: RoomFacts): TierUsage {
	const { filesystem, budget } = roomLeft(facts);
	return {
		total: Math.min(facts.limitBytes ?? facts.totalBytes, facts.totalBytes),
		used: facts.copyBytes,
		reserved: facts.reservedBytes,
		available: Math.min(filesystem, budget),
	};
}

/** The reservations of all tiers; `facts` reads the rest. */
export function createReservations(read: (tier: Tier) => Omit<RoomFacts, "reservedBytes" | "toWriteBytes">) {
	const held = new Set<Held>();
	const facts = (tier: Tier, filesystem: number): RoomFacts => {
		let reservedBytes = 0;
		let toWriteBytes = 0;
		for (const one of held) {
			if (one.tier === tier.name) reservedBytes += one.bytes;
			if (one.filesystem === filesystem) toWriteBytes += one.toWrite;
		}
		return { ...read(tier), reservedBytes, toWriteBytes };
	};
	const take = (
		tier: Tier,
		filesystem: number,
		wanted: Pick<Held, "bytes" | "toWrite" | "transferId">,
	): Reservation => {
		const one: Held = { tier: tier.name, filesystem, ...wanted };
		held.add(one);
		return {
			tier: tier.name,
			shrinkTo: (bytesToWrite) => {
				one.toWrite = Math.min(one.toWrite, Math.max(0, bytesToWrite));
			},
			[Symbol.dispose]: () => void held.delete(one),
		};
	};
	return {
		usage: (tier: Tier, filesystem: number): TierUsage => tierUsage(facts(tier, filesystem)),
		/** Of a tier on which so many bytes are staged of transfers that hold none of it now. */
		forAll: (tier: Tier, filesystem: number, idleBytes: number): number => {
			const now = facts(tier, filesystem);
			return roomForAll(now, now.reservedBytes + idleBytes);
		},
		holds: (transferId: string): boolean => [...held].some((one) => one.transferId === transferId),
		claim: (tier: Tier, filesystem: number, { bytes, writtenBytes, transferId }: Wanted): Claim => ({
			reservation: take(tier, filesystem, { bytes, toWrite: Math.max(0, bytes - writtenBytes), transferId }),
			shortBytes() {
				const left = balance(facts(tier, filesystem));
				return Math.max(0, -left.filesystem, -left.budget);
			},
		}),
		reserve(tier: Tier, filesystem: number, { bytes, writtenBytes, transferId }: Wanted): Reservation {
			const room = roomLeft(facts(tier, filesystem));
			const toWrite = Math.max(0, bytes - writtenBytes);
			if (toWrite > room.filesystem || bytes > room.budget) {
				throw noRoom(tier, bytes, Math.min(room.filesystem + Math.min(bytes, writtenBytes), room.budget));
			}
			return take(tier, filesystem, { bytes, toWrite, transferId });
		},
	};
}

function noRoom(tier: Tier, required: number, available: number): GswarmError {
	return new GswarmError(
		"RESOURCE_UNAVAILABLE",
		`${tier.name} has no room for ${required} bytes: ${available} are available, counting what other transfers have reserved.`,
		{
			reason: "insufficient_space",
			status: 507,
			details: { required, available, device: tier.name },
			hint: "`gswarm model list` shows what is there; `gswarm model delete NAME` makes room.",
		},
	);
}
