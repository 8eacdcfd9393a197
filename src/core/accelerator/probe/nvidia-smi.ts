/** NVIDIA's command line tool, where its library cannot be loaded: `nvidia-smi --query-gpu=… --format=csv`. */
import { blankReading, type GpuReading } from "./reading.ts";

const FIELDS = [
	"index",
	"name",
	"uuid",
	"memory.total",
	"memory.used",
	"utilization.gpu",
	"temperature.gpu",
	"power.draw",
	"power.limit",
	"clocks.sm",
	"clocks.mem",
] as const;
const MIB = 1024 * 1024;
const WAIT_MS = 4000;
const MOST_OUTPUT = 1024 * 1024;

/** Runs the tool. Undefined where it is not there, fails, or does not answer in time. */
export function readNvidiaSmi(program: string): GpuReading[] | undefined {
	try {
		const { success, stdout } = Bun.spawnSync(
			[program, `--query-gpu=${FIELDS.join(",")}`, "--format=csv,noheader,nounits"],
			{ timeout: WAIT_MS, killSignal: "SIGKILL", stderr: "ignore", maxBuffer: MOST_OUTPUT },
		);
		return success ? parseNvidiaSmi(stdout.toString()) : undefined;
	} catch {
		return undefined;
	}
}

/** One line per GPU; what it does not know is written `[N/A]`, `[Not Supported]` and the like. Other lines are none. */
export function parseNvidiaSmi(text: string): GpuReading[] {
	return text.split("\n").flatMap((line) => {
		const [index = "", ...rest] = line.split(",").map((cell) => cell.trim());
		if (!/^\d{1,3}$/.test(index)) return [];
		// A product's name may have a comma; the fields behind it have none.
		const behind = FIELDS.length - 2;
		if (rest.length <= behind) return [];
		const product = rest.slice(0, -behind).join(", ");
		const [uuid = "", total, used, usage, temperature, power, limit, clock, memoryClock] = rest.slice(
			-behind,
		);
		const [totalMib, usedMib] = [number(total), number(used)];
		return {
			...blankReading({ index: Number(index), vendor: "nvidia", product, problem: null }),
			uuid: uuid.startsWith("GPU-") ? uuid : null,
			totalBytes: totalMib === null ? null : totalMib * MIB,
			usedBytes: usedMib === null ? null : usedMib * MIB,
			usagePercent: number(usage),
			temperatureC: number(temperature),
			powerW: number(power),
			powerLimitW: number(limit),
			clockMhz: number(clock),
			memoryClockMhz: number(memoryClock),
		};
	});
}

function number(text = ""): number | null {
	return /^\d{1,12}(\.\d{1,6})?$/.test(text) ? Number(text) : null;
}
