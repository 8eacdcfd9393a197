/**
 * Whether anybody waits for the disk who did not ask for it: a host whose every fsync takes 20 ms longer (by strace)
 * is sent one submit after the other, and meanwhile asked for its health and, at its gateway, for the models.
 */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startCluster } from "./cluster.ts";
import type { BenchContext, Measured } from "./row.ts";

const ROWS = {
	health: { name: "health on a slow disk in a storm of submits, p99", unit: "ms", goal: { oursBelow: 20 } },
	gateway: { name: "a request to the gateway meanwhile, p99", unit: "ms", goal: { oursBelow: 20 } },
	submit: {
		name: "the submits of the storm (peer: fsyncs of one at a time)",
		unit: "/s",
		goal: { ratioAtLeast: 1 },
	},
} as const;

const DELAY_MS = 20;
const SECONDS = 20;
const QUICK_SECONDS = 5;
const PAUSE_MS = 3;

export async function benchEventLoop({ say, quick }: BenchContext): Promise<Measured[]> {
	if (Bun.which("strace") === null) {
		say("strace is not installed, and nothing else here makes a disk slow");
		return Object.values(ROWS).map((row) => ({ ...row, ours: [], peer: "missing" }));
	}
	const home = mkdtempSync(join(tmpdir(), "gswarm-bench-"));
	// A source that never answers: what is submitted stays in line.
	using source = Bun.serve({
		hostname: "127.0.0.1",
		port: 0,
		fetch: () => new Promise<Response>(() => undefined),
	});
	await using cluster = await startCluster({
		home,
		nodes: ["one"],
		allow: [source.url.origin],
		hostThrough: slowly(DELAY_MS),
	});
	const storm = new Worker(new URL("./storm.ts", import.meta.url));
	const ended = Promise.withResolvers<number>();
	storm.onmessage = ({ data }: MessageEvent<number>) => ended.resolve(data);
	storm.onerror = ({ message }) => ended.reject(new Error(message));
	const { baseUrl } = cluster.client;
	const token = await Bun.file(join(home, ".gswarm/admin.token")).text();
	const seconds = quick ? QUICK_SECONDS : SECONDS;
	say(`${seconds} s of submits to a host whose fsyncs take ${DELAY_MS} ms longer`);
	storm.postMessage({ baseUrl, token: token.trim(), seconds, sourceUrl: source.url.origin });
	const health: number[] = [];
	const gateway: number[] = [];
	let isOver = false;
	void ended.promise.finally(() => (isOver = true)).catch(() => undefined);
	while (!isOver) {
		health.push(await millisecondsOf(() => cluster.client.call("health", {})));
		gateway.push(
			await millisecondsOf(async () => void (await cluster.client.open("gatewayModels", {})).text()),
		);
		await Bun.sleep(PAUSE_MS);
	}
	const submitted = await ended.promise;
	storm.terminate();
	say(
		`${submitted} submits; ${health.length} looks at the health, the slowest ${Math.max(...health).toFixed(1)} ms`,
	);
	return [
		{ ...ROWS.health, ours: [percentile(health, 0.99)], peer: undefined },
		{ ...ROWS.gateway, ours: [percentile(gateway, 0.99)], peer: undefined },
		{ ...ROWS.submit, ours: [submitted / seconds], peer: [1000 / DELAY_MS] },
	];
}

/** Only what is delayed is stopped for, so that everything else runs at its own speed. */
function slowly(delayMs: number): string[] {
	const calls = "fsync,fdatasync";
	return [
		...["strace", "--daemonize", "--follow-forks", "--seccomp-bpf", "--output=/dev/null"],
		...[`--trace=${calls}`, `--inject=${calls}:delay_exit=${delayMs * 1000}`],
	];
}

async function millisecondsOf(run: () => Promise<unknown>): Promise<number> {
	const started = performance.now();
	await run();
	return performance.now() - started;
}

function percentile(samples: readonly number[], share: number): number {
	const sorted = samples.toSorted((a, b) => a - b);
	return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}
