/** Sends a node what it wants of a bundle, until its task has ended or nobody waits for it any more. */
import type { ApiClient } from "../api/client.ts";
import type { OfferAnswer } from "../api/contract/offers.ts";
import type { Clock } from "../platform/clock.ts";
import { GswarmError } from "../schema/errors.ts";
import type { BundleFile } from "./bundle-file.ts";

/** Pieces on their way at once: more than the readers of one transfer. */
const LANES = 6;
const WAIT_MS = 10_000;
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 5_000;

/** @throws what the file is not, or what the API says and another try would not change */
export async function sendBundle(
	{ api, clock }: { api: ApiClient; clock: Clock },
	taskId: string,
	bundle: BundleFile,
	signal: AbortSignal,
): Promise<void> {
	const params = { task_id: taskId };
	const failed = new AbortController();
	const either = AbortSignal.any([signal, failed.signal]);
	const lane = async (): Promise<void> => {
		let piece: OfferAnswer["piece"] = null;
		let failures = 0;
		while (!either.aborted) {
			try {
				const answer: OfferAnswer =
					piece === null
						? await api.call("wantedPiece", { params, query: { wait_ms: String(WAIT_MS) }, signal: either })
						: await send(piece);
				failures = 0;
				piece = answer.piece;
				if (["completed", "failed", "cancelled"].includes(answer.status)) return;
			} catch (error) {
				if (either.aborted) return;
				piece = null;
				// Somebody else has sent it, or the agent is away for a while: what is wanted is asked anew.
				const mayPass =
					error instanceof GswarmError && (error.retryable || error.reason === "piece_not_wanted");
				if (!mayPass) throw error;
				await clock.sleep(Math.min(FIRST_PAUSE_MS * 2 ** failures++, LONGEST_PAUSE_MS), either);
			}
		}
	};
	const send = async (piece: NonNullable<OfferAnswer["piece"]>): Promise<OfferAnswer> => {
		const { file, start } = piece;
		const response = await api.open("sendPiece", {
			params,
			query: { file: String(file), start: String(start) },
			rawBody: await bundle.read(piece),
			signal: either,
		});
		return (await response.json()) as OfferAnswer;
	};
	const lanes = Array.from({ length: LANES }, lane);
	try {
		await Promise.all(lanes);
	} catch (error) {
		failed.abort();
		await Promise.allSettled(lanes);
		throw error;
	}
}
