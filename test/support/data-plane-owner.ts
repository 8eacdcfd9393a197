/** An agent that receives by its data process and is then killed: `bun data-plane-owner.ts JOB-AS-JSON`. */
import { createDataPlane } from "../../src/core/transfer/transfer.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { silentLog } from "../../src/platform/log.ts";
import { DATA_COMMAND } from "./data-plane.ts";

if (import.meta.main) {
	const plane = createDataPlane(
		{ clock: systemClock, log: silentLog },
		{ command: DATA_COMMAND, environment: process.env },
	);
	const work = plane.receive(
		JSON.parse(process.argv[2] ?? ""),
		{ onBytes: () => Promise.resolve(), onPart: () => {} },
		new AbortController().signal,
	);
	process.stdout.write(`${plane.pid()}\n`);
	await work;
}
