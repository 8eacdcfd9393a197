/**
 * How long commands take, beside `curl --version`, a small C program with its libraries: one that does nothing, and
 * one that asks an agent which knows a thousand models.
 */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BINARY, startCluster } from "./cluster.ts";
import type { BenchContext, Measured } from "./row.ts";

const ROWS = {
	version: { name: "gswarm --version", unit: "ms", goal: { ratioAtMost: 1.5 } },
	list: { name: "gswarm model list, 1,000 models", unit: "ms", goal: { ratioAtMost: 5 } },
} as const;

const MODELS = 1000;
const ROUNDS = 40;
const QUICK_ROUNDS = 5;
const WARM_UP_ROUNDS = 3;

export async function benchStartup({ say, quick }: BenchContext): Promise<Measured[]> {
	const rounds = quick ? QUICK_ROUNDS : ROUNDS;
	const home = mkdtempSync(join(tmpdir(), "gswarm-bench-"));
	await using cluster = await startCluster({ home, nodes: [], allow: [] });
	for (let n = 1; n <= MODELS; n++) {
		await cluster.client.call("registerModel", {
			body: { model_name: `acme/model-${n}`, model_type: "llm" },
		});
	}
	say(`${rounds} runs of each, in turn`);
	const curl = Bun.which("curl");
	const commands = {
		version: [BINARY, "--version"],
		list: [BINARY, "model", "list", "--data-dir", join(home, ".gswarm")],
		...(curl === null ? {} : { curl: [curl, "--version"] }),
	};
	const samples: Record<string, number[]> = {};
	for (let round = -WARM_UP_ROUNDS; round < rounds; round++) {
		for (const [name, command] of Object.entries(commands)) {
			const milliseconds = millisecondsOf(command);
			if (round >= 0) (samples[name] ??= []).push(milliseconds);
		}
	}
	const peer = samples["curl"] ?? "missing";
	return [
		{ ...ROWS.version, ours: samples["version"] ?? [], peer },
		{ ...ROWS.list, ours: samples["list"] ?? [], peer },
	];
}

function millisecondsOf(command: string[]): number {
	const started = performance.now();
	const { success } = Bun.spawnSync(command, { stdin: "ignore", stdout: "ignore", stderr: "ignore" });
	if (!success) throw new Error(`${command.join(" ")} failed`);
	return performance.now() - started;
}
