/** What is said where a device has no room for what somebody asked for. */
import { GswarmError } from "../../schema/errors.ts";

const MAX_NAMED = 10;

interface Shortage {
	required: number;
	available: number;
	/** What could have come free, and would not have been enough, or is not to go by itself. */
	evictable: number;
	/** Would make room, where copies do not go by themselves. */
	victims: readonly string[];
}

/** 507: with what would make room, and how. */
export function noRoom(device: string, { required, available, evictable, victims }: Shortage): GswarmError {
	const more = evictable > 0 ? `, and ${evictable} could be freed` : "";
	const named = victims.slice(0, MAX_NAMED).join(", ");
	const rest = victims.length > MAX_NAMED ? ` and ${victims.length - MAX_NAMED} more` : "";
	return new GswarmError(
		"RESOURCE_UNAVAILABLE",
		`${device} has ${available} bytes available${more}; ${required} are needed.`,
		{
			reason: "insufficient_space",
			status: 507,
			details: { required, available, device, evictable, victims: victims.slice(0, MAX_NAMED) },
			hint:
				victims.length > 0
					? `\`gswarm model evict --device ${device} --bytes ${required}\` would remove ${named}${rest}.`
					: "Delete, move or unpin models there (`gswarm model evict --dry-run` shows why each stays), or choose another device.",
		},
	);
}

/** The same, of a load for which nothing is evicted because it failed just before. */
export function failedBefore(refusal: GswarmError, failure: GswarmError): GswarmError {
	const { details, message, status } = refusal;
	return new GswarmError("RESOURCE_UNAVAILABLE", `${message} The last load failed: ${failure.message}`, {
		reason: "load_failed_before",
		status,
		details: { ...details, last_failure: failure.reason ?? failure.code },
		hint: "Nothing is evicted for a load that failed just before. See to its source (`gswarm model verify`), or make room with `gswarm model evict`.",
		cause: failure,
	});
}
