/** What the program's exit status means; scripts rely on it. */
import type { ErrorCode } from "../schema/errors.ts";

export const EXIT = {
	done: 0,
	failed: 1,
	usage: 2,
	notFound: 3,
	conflict: 4,
	auth: 5,
	unavailable: 6,
	timeout: 124,
	interrupted: 130,
	brokenPipe: 141,
} as const;

/** The status for an error of the API, of a task, or of our own. */
export function exitCodeOf(code: ErrorCode | (string & {})): number {
	switch (code) {
		case "INVALID_REQUEST":
			return EXIT.usage;
		case "MODEL_NOT_FOUND":
		case "NOT_FOUND":
			return EXIT.notFound;
		case "CONFLICT":
			return EXIT.conflict;
		case "UNAUTHORIZED":
		case "FORBIDDEN":
			return EXIT.auth;
		case "NETWORK_ERROR":
		case "RESOURCE_UNAVAILABLE":
			return EXIT.unavailable;
		default:
			return EXIT.failed;
	}
}
