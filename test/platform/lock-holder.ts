/** Holds the lock of a directory until it is killed. */
import { lockDirectory } from "../../src/platform/directory-lock.ts";

const lock = lockDirectory(process.argv[2] ?? "", () => "");
process.stdout.write("locked\n");
// The transpiler leaves out a use that does nothing, and what nobody uses may be collected, with the lock.
process.once("exit", () => lock[Symbol.dispose]());
setInterval(() => {}, 60_000);
