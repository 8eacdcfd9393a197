/** How long a command takes that does nothing, beside `curl --version`, a small C program with its libraries. */
import type { BenchContext, Measured } from "./row.ts";
import { BINARY } from "./cluster.ts";

const VERSION_ROW = { name: "gswarm --version", unit: "ms", goal: { ratioAtMost: 1.5 } } as const;
const ROUNDS = 40;
const QUICK_ROUNDS = 5;
const WARM_UP_ROUNDS = 3;

export async function benchStartup({ say, quick }: BenchContext): Promise<Measured[]> {
	const rounds = quick ? QUICK_ROUNDS : ROUNDS;
	say(`${rounds} starts of each, in turn`);
	const ours: number[] = [];
	const peer: number[] = [];
	const curl = Bun.which("curl");
	for (let round = -WARM_UP_ROUNDS; round < rounds; round++) {
		const mine = millisecondsOf([BINARY, "--version"]);
		const theirs = curl === null ? undefined : millisecondsOf([curl, "--version"]);
		if (round < 0) continue;
		ours.push(mine);
		if (theirs !== undefined) peer.push(theirs);
	}
	return [{ ...VERSION_ROW, ours, peer: curl === null ? "missing" : peer }];
}

function millisecondsOf(command: string[]): number {
	const started = performance.now();
	const { success } = Bun.spawnSync(command, { stdin: "ignore", stdout: "ignore", stderr: "ignore" });
	if (!success) throw new Error(`${command.join(" ")} failed`);
	return performance.now() - started;
}
