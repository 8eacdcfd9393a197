/**
 * Machines on one switch, each with a line of its own rate: network namespaces, a bridge, and token buckets (tc tbf) at
 * both ends of every line. Needs root and iproute2.
 */
import { readFileSync } from "node:fs";

export interface Machine {
	name: string;
	address: string;
	/** Runs a shell script on the machine. */
	spawn(script: string, environment: Record<string, string>): Bun.Subprocess<"ignore", "pipe", "pipe">;
	/** Bytes that have left the machine by its line. */
	sentBytes(): Promise<number>;
}

export interface Network extends AsyncDisposable {
	machines: readonly Machine[];
}

const BURST = "256kb";
const QUEUE = "50ms";

/** What is missing to make one; undefined: nothing. */
export function missingForNetwork(): string | undefined {
	if (process.getuid?.() !== 0) return "root";
	for (const tool of ["ip", "tc"]) if (Bun.which(tool) === null) return `${tool} (iproute2)`;
	return undefined;
}

/** `rate` as tc has it, e.g. `200mbit`; undefined: as fast as the machine. */
export async function openNetwork(
	lines: readonly { name: string; rate: string | undefined }[],
): Promise<Network> {
	const id = process.pid % 100_000;
	const space = (name: string): string => `gsw${id}-${name}`;
	const hub = space("switch");
	const made: string[] = [];
	const close = async (): Promise<void> => {
		// With a namespace goes its end of the line, and with that the other one.
		for (const name of made) await run("ip", "netns", "delete", name).catch(() => undefined);
	};
	const add = async (name: string): Promise<void> => {
		await run("ip", "netns", "add", name);
		made.push(name);
		await run("ip", "-n", name, "link", "set", "lo", "up");
	};
	const limit = async (name: string, device: string, rate: string): Promise<void> => {
		const bucket = ["root", "tbf", "rate", rate, "burst", BURST, "latency", QUEUE];
		await run("tc", "-n", name, "qdisc", "add", "dev", device, ...bucket);
	};
	try {
		await add(hub);
		await run("ip", "-n", hub, "link", "add", "br0", "type", "bridge");
		await run("ip", "-n", hub, "link", "set", "br0", "up");
		const machines: Machine[] = [];
		for (const [at, { name, rate }] of lines.entries()) {
			const address = `10.78.0.${at + 1}`;
			const [own, port] = [`e${id}x${at}`, `s${id}x${at}`];
			await add(space(name));
			await run("ip", "link", "add", own, "type", "veth", "peer", "name", port);
			await run("ip", "link", "set", own, "netns", space(name));
			await run("ip", "link", "set", port, "netns", hub);
			await run("ip", "-n", hub, "link", "set", port, "master", "br0", "up");
			await run("ip", "-n", space(name), "address", "add", `${address}/24`, "dev", own);
			await run("ip", "-n", space(name), "link", "set", own, "up");
			if (rate !== undefined) {
				await limit(space(name), own, rate);
				await limit(hub, port, rate);
			}
			machines.push(machineIn(space(name), { name, address, device: own }));
		}
		return { machines, [Symbol.asyncDispose]: close };
	} catch (error) {
		await close();
		throw error;
	}
}

function machineIn(
	space: string,
	{ name, address, device }: { name: string; address: string; device: string },
): Machine {
	return {
		name,
		address,
		spawn: (script, environment) =>
			Bun.spawn(["ip", "netns", "exec", space, "bash", "-c", script], {
				env: { PATH: process.env["PATH"] ?? "/usr/bin:/bin", ...environment },
				stdin: "ignore",
				stdout: "pipe",
				stderr: "pipe",
			}),
		async sentBytes() {
			const file = `/sys/class/net/${device}/statistics/tx_bytes`;
			return Number(await run("ip", "netns", "exec", space, "cat", file));
		},
	};
}

/** How busy the processors of this machine were so far: [busy, all], in ticks. */
export function processorTicks(): [busy: number, all: number] {
	const [, ...fields] = readFileSync("/proc/stat", "utf8").split("\n", 1)[0]?.split(/ +/) ?? [];
	const ticks = fields.slice(0, 8).map(Number);
	const all = ticks.reduce((sum, one) => sum + one, 0);
	return [all - (ticks[3] ?? 0) - (ticks[4] ?? 0), all];
}

async function run(...command: string[]): Promise<string> {
	const child = Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
	const [said, problem] = await Promise.all([child.stdout.text(), child.stderr.text()]);
	if ((await child.exited) !== 0) throw new Error(`${command.join(" ")}: ${problem}`);
	return said;
}
