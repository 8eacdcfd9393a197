/** `secrets.json` of the data directory: readable by this user alone, replaced as a whole. */
import { readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { type SecretFile, type Secrets, openSecrets } from "../core/identity/identity.ts";
import type { Clock } from "../platform/clock.ts";
import { fileError, writeFileDurably } from "../platform/durable-file.ts";
import { GswarmError } from "../schema/errors.ts";

/**
 * The secrets of a data directory; `hf` is for the configured hub.
 * @throws INVALID_REQUEST unsafe_secret_file, bad_data_file
 */
export function openSecretsOf(
	dataDir: string,
	{ clock, hubEndpoint }: { clock: Clock; hubEndpoint: string },
): Secrets {
	const hub = URL.parse(hubEndpoint)?.origin;
	const defaultOrigins: Record<string, string> = hub === undefined ? {} : { hf: hub };
	return openSecrets({ file: secretFile(join(dataDir, "secrets.json")), clock }, { defaultOrigins });
}

/** @throws INVALID_REQUEST unsafe_secret_file when it is read and others may read it too */
function secretFile(path: string): SecretFile {
	/** A replacement that was not finished holds secrets too. */
	const dropUnfinished = (): void => rmSync(`${path}.new`, { force: true });
	return {
		read() {
			dropUnfinished();
			const stat = statSync(path, { throwIfNoEntry: false });
			if (stat === undefined) return undefined;
			const mine = process.getuid?.() ?? stat.uid;
			if ((stat.mode & 0o077) !== 0 || stat.uid !== mine) {
				throw new GswarmError("INVALID_REQUEST", `${path} can be read by other users, or belongs to one.`, {
					reason: "unsafe_secret_file",
					hint: `\`chmod 600 ${path}\`; whoever could read it knows the secrets: make new ones where they come from.`,
				});
			}
			return readFileSync(path, "utf8");
		},
		async write(text) {
			try {
				await writeFileDurably(path, text);
			} catch (error) {
				dropUnfinished();
				throw fileError(error, "Storing the secret");
			}
		},
	};
}
