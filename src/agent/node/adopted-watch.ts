/**
 * An adopted copy that changed is out of use until it is read again; where all its files are there, that is asked for
 * here, once for what they are now. A disk that got another number at a restart of the machine heals so by itself.
 */
import type { Queue } from "../../core/queue/queue.ts";
import { modelReservation } from "../../core/queue/queue.ts";
import type { Storage } from "../../core/storage/storage.ts";
import { identityAt } from "../../platform/file-identity.ts";
import type { Log } from "../../platform/log.ts";
import type { VerifyRequest } from "./verification.ts";

export function watchAdopted({
	nodeName,
	storage,
	queue,
	log,
}: {
	nodeName: string;
	storage: Storage;
	queue: Pick<Queue, "submit">;
	log: Log;
}): Disposable {
	/** What the files were when reading them was asked for, by copy. */
	const asked = new Map<string, string>();
	const look = (): void => {
		for (const copy of storage.adopted()) {
			const { model_name: model, revision, tier, status } = copy;
			const key = `${model}\n${revision}\n${tier}`;
			if (status === "ready") {
				asked.delete(key);
				continue;
			}
			const files = storage.adoption(copy)?.files ?? [];
			const identities = files.map(({ realPath }) => identityAt(realPath));
			if (identities.includes(undefined) || asked.get(key) === identities.join()) continue;
			asked.set(key, identities.join());
			const request: VerifyRequest = {
				model_name: model,
				device: `${nodeName}:${tier}`,
				sample_percent: null,
				seed: null,
				sha256: false,
				repair: false,
			};
			queue
				.submit({
					type: "verify",
					model,
					request: { ...request },
					priority: "low",
					reservations: [modelReservation(model, tier, "shared")],
					resources: { devices: [request.device], models: [model], exclusive: false },
					joinKey: `reread ${model} ${tier}`,
				})
				.catch((error: unknown) => log.warn("adopted.not_read_again", { model, tier, error }));
		}
	};
	look();
	return storage.onChange(look);
}
