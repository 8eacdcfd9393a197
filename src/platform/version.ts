/** The version of this program, from package.json; the build adds the commit it was made from. */
import { version as packageVersion } from "../../package.json";

/** e.g. "0.1.0". */
export const version: string = packageVersion;

declare const GSWARM_COMMIT: string | undefined;

/** Short hash of the commit that the binary was built from; `undefined` from source. */
export const commit: string | undefined = typeof GSWARM_COMMIT === "undefined" ? undefined : GSWARM_COMMIT;
