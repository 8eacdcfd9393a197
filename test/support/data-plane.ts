/** The data process as tests start it: from source, with bun. */
import { resolve } from "node:path";
import {
	createDataPlane,
	type DataPlane,
	type DataPlaneLimits,
} from "../../src/core/transfer/plane/data-process.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { type Log, silentLog } from "../../src/platform/log.ts";

export const DATA_COMMAND = [process.execPath, resolve(import.meta.dir, "../../bin/gswarm.ts"), "__data"];

export function openDataPlane(
	limits: Partial<DataPlaneLimits> = {},
	{ command = DATA_COMMAND, log = silentLog }: { command?: readonly string[]; log?: Log } = {},
): DataPlane {
	return createDataPlane({ clock: systemClock, log }, { command, environment: process.env, limits });
}
