/** GPUs as tests open them: simulated ones, with the holder process started from source. */
import { join, resolve } from "node:path";
import {
	type Accelerator,
	type AcceleratorOptions,
	type LoadInput,
	openAccelerator,
} from "../../src/core/accelerator/accelerator.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { type Log, silentLog } from "../../src/platform/log.ts";
import { manifestOf, MODEL, REVISION, writeFiles } from "./staged-model.ts";

const MAIN = resolve(import.meta.dir, "../../bin/gswarm.ts");
export const HOLDER_COMMAND = [process.execPath, MAIN, "__holder"];
export const PROBE_COMMAND = [process.execPath, MAIN, "__probe"];

export function openTestAccelerator(
	options: Partial<AcceleratorOptions> = {},
	{ log = silentLog }: { log?: Log } = {},
): Promise<Accelerator> {
	return openAccelerator(
		{ clock: systemClock, log },
		{
			nodeName: "node1",
			simulatedBytes: [],
			holderCommand: HOLDER_COMMAND,
			environment: process.env,
			...options,
		},
	);
}

/** A model in a directory, as what `load` takes. */
export function loadInput(
	directory: string,
	files: Record<string, string | Uint8Array>,
	change: Partial<LoadInput> = {},
): LoadInput {
	writeFiles(directory, files);
	const manifest = manifestOf(files);
	return {
		device: "gpu0",
		model: MODEL,
		revision: REVISION,
		pathOf: (path) => join(directory, path),
		manifest,
		from: { content_id: "c".repeat(64), model_type: "llm", source_url: null, format: "gguf" },
		direct: false,
		...change,
	};
}
