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
import { type Cluster, startCluster } from "./cluster.ts";
import { startNginx } from "./nginx.ts";
import type { BenchContext, Measured } from "./row.ts";

const ROWS = {
	copy: { name: "copy between nodes, verified, beside curl", unit: "GB/s", goal: { ratioAtLeast: 1.5 } },
	rclone: { name: "the same, beside rclone", unit: "GB/s", goal: { ratioAtLeast: 1.3 } },
	aria2c: { name: "the same, beside aria2c -x16", unit: "GB/s", goal: { ratioAtLeast: 1.5 } },
	sha256: {
		name: "the same with --verify, beside curl | sha256sum",
		unit: "GB/s",
		goal: { ratioAtLeast: 1 },
	},
	memory: {
		name: "disk to memory on one node, verified, beside cp",
		unit: "GB/s",
		goal: { ratioAtLeast: 1 },
	},
	secure: {
		name: "copy between nodes over TLS, beside curl over https",
		unit: "GB/s",
		goal: { ratioAtLeast: 1.5 },
	},
	resume: { name: "resume after kill -9: until bytes move", unit: "s", goal: { oursBelow: 1 } },
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
		const plain = await measure(dir, scale, say);
		rmSync(join(dir, "files"), { recursive: true });
		return [...plain, ...(await measureSecure(join(dir, "secure"), scale, say))];
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
	const samples: Samples = {
		ours: [],
		curl: [],
		rclone: [],
		aria2c: [],
		sha256: [],
		curlSha256: [],
		dram: [],
		cp: [],
	};
	const memory: number[] = [];
	const work: number[] = [];
	const peerWork: number[] = [];
	const rate = (run: () => PromiseLike<unknown>): Promise<number> => rateOf(fileBytes, run);
	const copyTo = (device: string, ...more: string[]): Promise<string> =>
		cluster.gswarm("model", "copy", "big", "--from", "node1:disk", "--to", device, ...more);
	const remove = (device: string): Promise<string> =>
		cluster.gswarm("model", "delete", "big", "--device", device, "--yes");
	const target = join(dir, "peer.bin");
	for (let round = 1; round <= rounds; round++) {
		const watch = watchMemory(() => cluster.processes("node2"));
		const workBefore = processorSeconds(cluster.processes("node2"));
		samples.ours.push(await rate(() => copyTo("node2:disk")));
		memory.push(watch.peak());
		work.push(((processorSeconds(cluster.processes("node2")) - workBefore) / fileBytes) * 1e9);
		await remove("node2:disk");
		samples.sha256.push(await rate(() => copyTo("node2:disk", "--verify")));
		await remove("node2:disk");
		samples.dram.push(await rate(() => copyTo("node1:dram")));
		await remove("node1:dram");
		samples.cp.push(await rate(() => Bun.$`cp ${join(files, "model.bin")} ${target}`.quiet()));
		rmSync(target);
		if (nginx !== undefined) {
			samples.curl.push(
				await rate(async () => {
					const seconds = await curl(`${url}/model.bin`, target);
					peerWork.push((seconds / fileBytes) * 1e9);
				}),
			);
			rmSync(target);
			samples.curlSha256.push(
				await rate(async () => {
					await curl(`${url}/model.bin`, target);
					await Bun.$`sha256sum ${target}`.quiet();
				}),
			);
			rmSync(target);
		}
		if (nginx !== undefined && Bun.which("rclone") !== null) {
			samples.rclone.push(
				await rate(() => Bun.$`rclone copyto --config= --http-url=${url} :http:model.bin ${target}`.quiet()),
			);
			rmSync(target);
		}
		if (nginx !== undefined && Bun.which("aria2c") !== null) {
			const where = ["-d", dir, "-o", "peer.bin"];
			samples.aria2c.push(
				await rate(() =>
					Bun.$`aria2c --no-conf -q -x16 -s16 -k1M --file-allocation=none ${where} ${url}/model.bin`.quiet(),
				),
			);
			rmSync(target);
		}
		say(
			`round ${round}: ours ${samples.ours.at(-1)?.toFixed(2)} GB/s with ${work.at(-1)?.toFixed(2)} s/GB, curl ${samples.curl.at(-1)?.toFixed(2) ?? "missing"} with ${peerWork.at(-1)?.toFixed(2)}`,
		);
	}
	say("resume");
	const resume = await resumeSeconds(cluster, fileBytes);
	const { ours } = samples;
	return [
		{ ...ROWS.copy, ours, peer: orMissing(samples.curl) },
		{ ...ROWS.rclone, ours, peer: orMissing(samples.rclone) },
		{ ...ROWS.aria2c, ours, peer: orMissing(samples.aria2c) },
		{ ...ROWS.work, ours: work, peer: orMissing(peerWork) },
		{ ...ROWS.overIdle, ours: memory.map((bytes) => (bytes - idle) / 1e6), peer: undefined },
		{ ...ROWS.whole, ours: memory.map((bytes) => bytes / 1e6), peer: undefined },
		{ ...ROWS.sha256, ours: samples.sha256, peer: orMissing(samples.curlSha256) },
		{ ...ROWS.memory, ours: samples.dram, peer: samples.cp },
		{ ...ROWS.resume, ours: [resume], peer: undefined },
	];
}

type Samples = Record<
	"ours" | "curl" | "rclone" | "aria2c" | "sha256" | "curlSha256" | "dram" | "cp",
	number[]
>;

function orMissing(samples: readonly number[]): readonly number[] | "missing" {
	return samples.length === 0 ? "missing" : samples;
}

/** The receiver is killed in the middle of a slow copy and started again; from when it is ready until bytes come. */
async function resumeSeconds(cluster: Cluster, fileBytes: number): Promise<number> {
	const { client } = cluster;
	const { task_id } = await client.call("copyModel", {
		params: { model_name: "big" },
		body: {
			source_device: "node1:disk",
			target_device: "node2:disk",
			bandwidth_limit: Math.round(fileBytes / 8),
		},
	});
	const done = async (): Promise<number> =>
		(await client.call("getTask", { params: { task_id } })).progress.bytes_done;
	while ((await done()) < fileBytes / 4) await Bun.sleep(20);
	const [agent] = cluster.processes("node2");
	if (agent === undefined) throw new Error("node2 does not run");
	process.kill(agent, "SIGKILL");
	const before = await done();
	await cluster.restart("node2");
	const readyMs = performance.now();
	while ((await done()) <= before) await Bun.sleep(5);
	const seconds = (performance.now() - readyMs) / 1000;
	await client.call("cancelTask", { params: { task_id } });
	return seconds;
}

/** What it used of processors, in seconds. */
async function curl(url: string, target: string, ...more: string[]): Promise<number> {
	const child = Bun.spawn(["curl", "--silent", "--fail", ...more, "--output", target, url]);
	if ((await child.exited) !== 0) throw new Error("curl failed");
	const { user = 0n, system = 0n } = child.resourceUsage()?.cpuTime ?? {};
	return Number(user + system) / 1e6;
}

/** The same over TLS: agents that do not trust their network, and an nginx with a certificate. */
async function measureSecure(
	dir: string,
	{ fileBytes, rounds }: typeof FULL,
	say: BenchContext["say"],
): Promise<Measured[]> {
	say("over TLS");
	const files = join(dir, "files");
	mkdirSync(dir);
	mkdirSync(files);
	writeNoise(join(files, "model.bin"), fileBytes);
	const [key, cert] = [join(dir, "key.pem"), join(dir, "cert.pem")];
	await Bun.$`openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 -keyout ${key} -out ${cert}`.quiet();
	await using nginx = await startNginx(join(dir, "nginx"), files, { cert, key });
	using source = nginx === undefined ? serveFiles(files) : undefined;
	const url = nginx?.url ?? source?.url ?? "";
	await using cluster = await startCluster({
		home: join(dir, "home"),
		nodes: ["node1", "node2"],
		allow: [url],
		tls: true,
	});
	await cluster.gswarm("model", "download", "big", "--source", `${url}/model.bin`, "--to", "node1:disk");
	const ours: number[] = [];
	const peer: number[] = [];
	const target = join(dir, "peer.bin");
	for (let round = 1; round <= rounds; round++) {
		ours.push(
			await rateOf(fileBytes, () =>
				cluster.gswarm("model", "copy", "big", "--from", "node1:disk", "--to", "node2:disk"),
			),
		);
		await cluster.gswarm("model", "delete", "big", "--device", "node2:disk", "--yes");
		if (nginx === undefined) continue;
		peer.push(await rateOf(fileBytes, () => curl(`${nginx.secureUrl}/model.bin`, target, "--cacert", cert)));
		rmSync(target);
	}
	return [{ ...ROWS.secure, ours, peer: orMissing(peer) }];
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
