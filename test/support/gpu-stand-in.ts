/** The stand-in of a GPU's driver libraries (gpu-stand-in.c), compiled, with a file that says what goes wrong. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { ProbePlaces } from "../../src/core/accelerator/probe/reading.ts";

const SOURCE = resolve(import.meta.dir, "gpu-stand-in.c");

export interface GpuStandIn {
	library: string;
	places: ProbePlaces;
	/** `{ memory: 1000, cuInit: 100 }`: sizes, and the code with which a call fails. */
	set(control: Record<string, number>): void;
}

/** Compiles it into a directory, with a root of the filesystem in which a driver seems to be. */
export function compileGpuStandIn(directory: string): GpuStandIn {
	const control = join(directory, "control");
	const library = join(directory, "stand-in.so");
	const set: GpuStandIn["set"] = (values) => {
		const lines = Object.entries(values).map(([name, value]) => `${name}=${value}\n`);
		writeFileSync(control, lines.join(""));
	};
	set({});
	const { success, stderr } = Bun.spawnSync([
		"cc",
		"-O1",
		"-Wall",
		"-Werror",
		"-shared",
		"-fPIC",
		`-DCONTROL=${JSON.stringify(control)}`,
		"-o",
		library,
		SOURCE,
		"-lpthread",
	]);
	if (!success) throw new Error(`the stand-in does not compile:\n${stderr.toString()}`);
	const root = join(directory, "root");
	mkdirSync(join(root, "dev"), { recursive: true });
	writeFileSync(join(root, "dev/nvidiactl"), "");
	return { library, set, places: { nvml: library, cuda: library, smi: join(directory, "no-smi"), root } };
}
