/**
 * Whether anybody waits for the disk who did not ask for it: a host whose every fsync takes 20 ms longer (by strace) is
 * sent one submit after the other, and meanwhile asked for its health and, at its gateway, for the models. The same
 * storm with the disk as it is stands beside it.
 */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startCluster } from "./cluster.ts";
import type { BenchContext, Measured } from "./row.ts";

const ROWS = {
	health: {
		name: "health in a storm of submits on a slow disk, p99 (peer: the disk as it is)",
		unit: "ms",
		goal: { oursBelow: 20 },
	},
	gateway: { name: "a request to the gateway meanwhile, p99", unit: "ms", goal: { oursBelow: 20 } },
} as const;

const DELAY_MS = 20;
const SECONDS = 20;
const QUICK_SECONDS = 4;
const PAUSE_MS = 3;

export async function benchEventLoop({ say, quick }: BenchContext): Promise<Measured[]> {
	const seconds = quick ? QUICK_SECONDS : SECONDS;
	if (Bun.which("strace") === null) {
		say("strace is not installed, and nothing else here makes a disk slow");
		return Object.values(ROWS).map((row) => ({ ...row, ours: [], peer: "missing" }));
	}
	const fast = await storm(seconds, undefined);
	say(`the disk as it is: ${fast.submitted} submits in ${seconds} s`);
	const slow = await storm(seconds, slowly(DELAY_MS));
	say(`fsyncs ${DELAY_MS} ms longer: ${slow.submitted} submits`);
	return [
		{ ...ROWS.health, ours: [p99(slow.health)], peer: [p99(fast.health)] },
		{ ...ROWS.gateway, ours: [p99(slow.gateway)], peer: [p99(fast.gateway)] },
	];
}

/** Only what is delayed is stopped for, so that everything else runs at its own speed. */
function slowly(delayMs: number): string[] {
	const calls = "fsync,fdatasync";
	const strace = ["strace", "--daemonize", "--follow-forks", "--seccomp-bpf", "--output=/dev/null"];
	return [...strace, `--trace=${calls}`, `--inject=${calls}:delay_exit=${delayMs * 1000}`];
}

interface Storm {
	submitted: number;
	/** Milliseconds of each request. */
	health: number[];
	gateway: number[];
}

async function storm(seconds: number, hostThrough: readonly string[] | undefined): Promise<Storm> {
	const home = mkdtempSync(join(tmpdir(), "gswarm-bench-"));
	// A source that never answers: what is submitted stays in line.
	using source = Bun.serve({
		hostname: "127.0.0.1",
		port: 0,
		fetch: () => new Promise<Response>(() => undefined),
	});
	const { origin } = source.url;
	await using cluster = await startCluster({ home, nodes: ["one"], allow: [origin], hostThrough });
	const { baseUrl } = cluster.client;
	const token = (await Bun.file(join(home, ".gswarm/admin.token")).text()).trim();
	const thread = new Worker(new URL("./storm.ts", import.meta.url));
	const ended = Promise.withResolvers<number>();
	thread.onmessage = ({ data }: MessageEvent<number>) => ended.resolve(data);
	thread.onerror = ({ message }) => ended.reject(new Error(message));
	thread.postMessage({ baseUrl, token, seconds, sourceUrl: origin });
	const [health, gateway]: [number[], number[]] = [[], []];
	const end = performance.now() + seconds * 1000;
	while (performance.now() < end) {
		health.push(await millisecondsOf(() => cluster.client.call("health", {})));
		gateway.push(
			await millisecondsOf(async () => (await cluster.client.open("gatewayModels", {})).arrayBuffer()),
		);
		await Bun.sleep(PAUSE_MS);
	}
	const submitted = await ended.promise;
	thread.terminate();
	return { submitted, health, gateway };
}

async function millisecondsOf(run: () => Promise<unknown>): Promise<number> {
	const started = performance.now();
	await run();
	return performance.now() - started;
}

function p99(samples: readonly number[]): number {
	const sorted = samples.toSorted((a, b) => a - b);
	return sorted[Math.floor(sorted.length * 0.99)] ?? Number.NaN;
}
