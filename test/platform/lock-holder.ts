/** Holds the lock of a directory until it is killed. */
import { lockDirectory } from "../../src/platform/directory-lock.ts";

const lock = lockDirectory(process.argv[2] ?? "", () => "");
process.stdout.write("locked\n");
setInterval(() => void lock, 60_000);
