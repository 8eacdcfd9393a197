/** Publishes or removes a model, to be killed at any system call: `bun publish-child.ts publish|remove DIRECTORY`. */
import { MODEL, publishFiles, REVISION, standStorage } from "./staged-model.ts";

if (import.meta.main) {
	const [, , what, directory = ""] = process.argv;
	await using stand = await standStorage(directory);
	if (what === "publish") await publishFiles(stand.storage);
	else await stand.storage.remove(MODEL, REVISION, "disk");
	process.stdout.write("done\n");
}
