/**
 * Looks at copies of which nobody has read what they are: those of an earlier version, and those that came another way
 * than by a transfer. One after the other, in the background; a copy that goes meanwhile is let go.
 */
import { detectModel } from "../../core/source/source.ts";
import type { Storage } from "../../core/storage/storage.ts";
import type { IoPool } from "../../platform/io-pool.ts";
import type { Log } from "../../platform/log.ts";
import { DETECTOR_VERSION } from "../../schema/detected.ts";
import { GswarmError } from "../../schema/errors.ts";
import type { ModelCopy } from "../../schema/model.ts";

export interface Detection extends AsyncDisposable {
	/** Resolves when everything that is here now has been looked at. */
	idle(): Promise<void>;
}

export function createDetection({ storage, io, log }: { storage: Storage; io: IoPool; log: Log }): Detection {
	const stop = new AbortController();
	/** Contents of this run of the agent. */
	const seen = new Set<string>();
	let running: Promise<void> | undefined;

	const isNew = ({ content_id, status, detected }: ModelCopy): boolean =>
		status === "ready" && !seen.has(content_id) && (detected?.detector ?? 0) < DETECTOR_VERSION;
	const look = async (copy: ModelCopy): Promise<void> => {
		const manifest = storage.manifest(copy.content_id);
		if (manifest === undefined) return;
		const found = await detectModel(io, (path) => storage.fileOf(copy, path), manifest.files, stop.signal);
		await storage.setDetected(copy.content_id, found);
	};
	const lookAtNew = async (copies: readonly ModelCopy[]): Promise<void> => {
		for (const copy of copies) {
			if (stop.signal.aborted) return;
			// Looked at or not: it is not the next again before the next start.
			seen.add(copy.content_id);
			try {
				await look(copy);
			} catch (error) {
				if (stop.signal.aborted) return;
				log.warn("detection.skipped", { model: copy.model_name, tier: copy.tier, error });
			}
		}
	};
	const begin = (): void => {
		if (running !== undefined || stop.signal.aborted) return;
		const fresh = storage.copies().filter(isNew);
		if (fresh.length === 0) return;
		running = lookAtNew(fresh).finally(() => {
			running = undefined;
			// What came meanwhile.
			begin();
		});
	};
	const subscription = storage.onChange(begin);
	begin();
	return {
		async idle() {
			while (running !== undefined) await running;
		},
		async [Symbol.asyncDispose]() {
			subscription[Symbol.dispose]();
			stop.abort(new GswarmError("RESOURCE_UNAVAILABLE", "The agent is stopping.", { reason: "stopping" }));
			await running;
		},
	};
}
