/**
 * The entry of `gswarm __probe PLACES`: looks at the machine's GPUs for the agent that started it, once per line on
 * stdin, and answers with a line. A driver that hangs hangs this process and no other. It ends with its agent.
 */
import { dieWithParent } from "../../../platform/blocking-socket.ts";
import { createLineReader } from "../../../platform/line-reader.ts";
import { loadCuda } from "../holder/cuda-library.ts";
import { DeviceError } from "../holder/driver.ts";
import { nvidiaOnBus, permissionProblem, readAmd } from "./machine.ts";
import { readNvidiaSmi } from "./nvidia-smi.ts";
import { loadNvml, type Nvml, NvmlError } from "./nvml.ts";
import { blankReading, type MachineReading, type ProbePlaces } from "./reading.ts";

const MAX_ORDER_CHARS = 1024;

/** Runs until stdin ends; the process is to end with it. */
export async function runProbe(args: readonly string[]): Promise<void> {
	dieWithParent();
	const places = JSON.parse(args[0] ?? "") as ProbePlaces;
	const out = Bun.stdout.writer();
	const look = createLook(places);
	const read = createLineReader(
		() => {
			void out.write(`${JSON.stringify(look())}\n`);
			void out.flush();
		},
		{ maxChars: MAX_ORDER_CHARS },
	);
	for await (const piece of Bun.stdin.stream()) read(piece);
}

function createLook(places: ProbePlaces): () => MachineReading {
	let nvml: Nvml | undefined;
	let cudaProblem: string | null | undefined;
	const readNvidia = (): MachineReading => {
		try {
			nvml ??= loadNvml(places.nvml);
			return { gpus: nvml.read(), by: "nvml" };
		} catch (error) {
			if (!(error instanceof NvmlError)) throw error;
			// A driver that was loaded or exchanged meanwhile is found with the next look.
			nvml = undefined;
		}
		const listed = readNvidiaSmi(places.smi);
		if (listed !== undefined) return { gpus: listed, by: "nvidia-smi" };
		const problem = "NVIDIA's driver is not installed, or not visible here (libnvidia-ml.so.1)";
		const gpus = Array.from({ length: nvidiaOnBus(places.root) }, (_, index) =>
			blankReading({ index, vendor: "nvidia", product: "NVIDIA GPU", problem }),
		);
		return { gpus, by: null };
	};
	/** Asked once per process: it takes long where there are many GPUs. */
	const whyNoCuda = (): string | null => {
		try {
			loadCuda(places.cuda);
			return null;
		} catch (error) {
			if (!(error instanceof DeviceError)) throw error;
			return error.code === "LIBRARY_NOT_USABLE"
				? "libcuda.so.1 cannot be loaded; in a container it needs the capability `compute`"
				: `CUDA does not start (${error.code})`;
		}
	};
	return () => {
		const { gpus, by } = readNvidia();
		if (by !== null && gpus.length > 0 && cudaProblem === undefined) cudaProblem = whyNoCuda();
		const nvidia = gpus.map((gpu) => ({
			...gpu,
			problem: gpu.problem ?? permissionProblem(places.root, gpu.index) ?? cudaProblem ?? null,
		}));
		return { gpus: [...nvidia, ...readAmd(places.root, nvidia.length)], by };
	};
}
