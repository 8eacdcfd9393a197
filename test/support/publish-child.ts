/** Publishes a model and removes it again, to be killed at any system call: `bun publish-child.ts DIRECTORY`. */
import { systemClock } from "../../src/platform/clock.ts";
import { MODEL, publishFiles, REVISION, standStorage } from "./staged-model.ts";

if (import.meta.main) {
	await using stand = await standStorage(process.argv[2] ?? "");
	// What is written before the first rename is the stand's own.
	process.stdout.write(`open ${systemClock.nowMs()}\n`);
	await publishFiles(stand.storage);
	process.stdout.write("published\n");
	await stand.storage.remove(MODEL, REVISION, "disk");
	process.stdout.write("removed\n");
}
