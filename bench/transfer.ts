/**
 * A model from one node to another over the loopback interface, beside `curl -o` of the same file from nginx with
 * sendfile: what a person would type for one file, and it verifies nothing. Ours is the wall time of the whole
 * command: request, task, transfer, verification, publishing. Everything lies in memory (tmpfs) where it fits.
 */
import {
	closeSync,
	existsSync,
	mkdirSync,
	mkdtempSync,
	openSync,
	readFileSync,
	rmSync,
	statfsSync,
	writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startCluster } from "./cluster.ts";
import { startNginx } from "./nginx.ts";
import type { BenchContext, Measured } from "./row.ts";

const ROWS = {
	copy: { name: "copy between nodes, verified", unit: "GB/s", goal: { ratioAtLeast: 1.5 } },
	work: { name: "receiver's CPU, verified", unit: "s/GB", goal: { ratioAtMost: 1 } },
	overIdle: { name: "receiver's memory over idle", unit: "MB", goal: { oursBelow: 128 } },
	whole: { name: "receiver's memory, whole", unit: "MB", goal: { oursBelow: 200 } },
} as const;

const FULL = { fileBytes: 2 * 1024 ** 3, rounds: 5 };
const QUICK = { fileBytes: 256 * 1024 ** 2, rounds: 3 };
/** The file, two copies in the cluster, the peer's, and a rest. */
const NEEDED_FILES = 4.5;
const MEMORY_SAMPLE_MS = 10;
/** Of /proc/PID/stat, on every machine of ours. */
const TICKS_PER_S = 100;

export async function benchTransfer({ say, quick }: BenchContext): Promise<Measured[]> {
	const scale = quick ? QUICK : FULL;
	const dir = mkdtempSync(join(placeFor(NEEDED_FILES * scale.fileBytes, say), "gswarm-bench-"));
	try {
		return await measure(dir, scale, say);
	} finally {
		rmSync(dir, { recursive: true, force: true });
	}
}

async function measure(
	dir: string,
	{ fileBytes, rounds }: typeof FULL,
	say: BenchContext["say"],
): Promise<Measured[]> {
	say(`a file of ${fileBytes / 1024 ** 2} MiB in ${dir}, ${rounds} rounds`);
	const files = join(dir, "files");
	mkdirSync(files);
	writeNoise(join(files, "model.bin"), fileBytes);
	await using nginx = await startNginx(join(dir, "nginx"), files);
	using source = nginx === undefined ? serveFiles(files) : undefined;
	const url = nginx?.url ?? source?.url ?? "";
	await using cluster = await startCluster({
		home: join(dir, "home"),
		nodes: ["node1", "node2"],
		allow: [url],
	});
	await cluster.gswarm("model", "download", "big", "--source", `${url}/model.bin`, "--to", "node1:disk");

	const receiver = cluster.processes("node2");
	const idle = anonymousBytes(receiver);
	const ours: number[] = [];
	const peer: number[] = [];
	const memory: number[] = [];
	const work: number[] = [];
	const peerWork: number[] = [];
	for (let round = 1; round <= rounds; round++) {
		const watch = watchMemory(() => cluster.processes("node2"));
		const workBefore = processorSeconds(cluster.processes("node2"));
		ours.push(
			await rateOf(fileBytes, () =>
				cluster.gswarm("model", "copy", "big", "--from", "node1:disk", "--to", "node2:disk"),
			),
		);
		memory.push(watch.peak());
		work.push(((processorSeconds(cluster.processes("node2")) - workBefore) / fileBytes) * 1e9);
		await cluster.gswarm("model", "delete", "big", "--device", "node2:disk", "--yes");
		if (nginx !== undefined) {
			const target = join(dir, "curl.bin");
			peer.push(
				await rateOf(fileBytes, async () => {
					const curl = Bun.spawn([
						"curl",
						"--silent",
						"--fail",
						"--output",
						target,
						`${nginx.url}/model.bin`,
					]);
					if ((await curl.exited) !== 0) throw new Error("curl failed");
					const { user = 0n, system = 0n } = curl.resourceUsage()?.cpuTime ?? {};
					peerWork.push((Number(user + system) / 1e6 / fileBytes) * 1e9);
				}),
			);
			rmSync(target);
		}
		say(
			`round ${round}: ours ${ours.at(-1)?.toFixed(2)} GB/s with ${work.at(-1)?.toFixed(2)} s/GB, curl ${peer.at(-1)?.toFixed(2) ?? "missing"} with ${peerWork.at(-1)?.toFixed(2)}`,
		);
	}
	return [
		{ ...ROWS.copy, ours, peer: nginx === undefined ? "missing" : peer },
		{ ...ROWS.work, ours: work, peer: nginx === undefined ? "missing" : peerWork },
		{ ...ROWS.overIdle, ours: memory.map((bytes) => (bytes - idle) / 1e6), peer: undefined },
		{ ...ROWS.whole, ours: memory.map((bytes) => bytes / 1e6), peer: undefined },
	];
}

/** GB/s of something that moves the bytes once. */
async function rateOf(sizeBytes: number, move: () => PromiseLike<unknown>): Promise<number> {
	const started = performance.now();
	await move();
	return sizeBytes / 1e6 / (performance.now() - started);
}

/** The most anonymous memory that the processes held together until `peak` is called. */
function watchMemory(processes: () => number[]): { peak(): number } {
	let most = 0;
	const look = (): void => {
		most = Math.max(most, anonymousBytes(processes()));
	};
	const timer = setInterval(look, MEMORY_SAMPLE_MS);
	return {
		peak() {
			clearInterval(timer);
			look();
			return most;
		},
	};
}

/** What the processes have used so far, all threads together. */
function processorSeconds(processes: readonly number[]): number {
	return processes.reduce((sum, pid) => {
		try {
			const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
			const [user, system] = stat
				.slice(stat.lastIndexOf(")") + 2)
				.split(" ")
				.slice(11, 13)
				.map(Number);
			return sum + ((user ?? 0) + (system ?? 0)) / TICKS_PER_S;
		} catch {
			return sum; // ended meanwhile
		}
	}, 0);
}

function anonymousBytes(processes: readonly number[]): number {
	return processes.reduce((sum, pid) => {
		try {
			const [, kilobytes] = /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
			return sum + Number(kilobytes ?? 0) * 1024;
		} catch {
			return sum; // ended meanwhile
		}
	}, 0);
}

/** Bytes that neither shrink nor repeat within a part. */
function writeNoise(path: string, sizeBytes: number): void {
	const block = crypto.getRandomValues(new Uint8Array(65_536));
	const noise = new Uint8Array(16 * 1024 ** 2);
	const file = openSync(path, "wx");
	for (let written = 0; written < sizeBytes; written += noise.length) {
		for (let at = 0; at < noise.length; at += block.length) {
			block[at / block.length] = (block[at / block.length] ?? 0) + 1 + written;
			noise.set(block, at);
		}
		writeSync(file, noise, 0, Math.min(noise.length, sizeBytes - written));
	}
	closeSync(file);
}

function serveFiles(root: string): { url: string; [Symbol.dispose](): void } {
	const server = Bun.serve({
		hostname: "127.0.0.1",
		port: 0,
		fetch: (request) => new Response(Bun.file(join(root, new URL(request.url).pathname))),
	});
	return { url: `http://127.0.0.1:${server.port}`, [Symbol.dispose]: () => void server.stop(true) };
}

function placeFor(bytes: number, say: BenchContext["say"]): string {
	const free = (dir: string): number => {
		const { bavail, bsize } = statfsSync(dir);
		return bavail * bsize;
	};
	if (existsSync("/dev/shm") && free("/dev/shm") > bytes) return "/dev/shm";
	say(`/dev/shm is too small; measuring on the disk of ${tmpdir()}`);
	return tmpdir();
}
