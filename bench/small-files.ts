/**
 * Thousands of small files from one node to another over the loopback interface, beside a copy of the same folder from
 * an rsync daemon with `-W` (whole files, and it checks nothing that is at rest). Ours is the wall time of the whole
 * command: request, task, transfer, verification, publishing. Everything lies in memory (tmpfs).
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Cluster, startCluster } from "./cluster.ts";
import type { BenchContext, Measured } from "./row.ts";

const ROWS = {
	copy: { name: "small files between nodes, verified", unit: "files/s", goal: { ratioAtLeast: 2 } },
	task: { name: "the same, the transfer alone", unit: "files/s", goal: { ratioAtLeast: 2 } },
} as const;

const FULL = { files: 10_000, rounds: 5 };
const QUICK = { files: 10_000, rounds: 2 };
const FILE_BYTES = 4096;
const FILES_IN_FOLDER = 500;

export async function benchSmallFiles({ say, quick }: BenchContext): Promise<Measured[]> {
	const scale = quick ? QUICK : FULL;
	const dir = mkdtempSync("/dev/shm/gswarm-bench-");
	try {
		return await measure(dir, scale, say);
	} finally {
		rmSync(dir, { recursive: true, force: true });
	}
}

async function measure(
	dir: string,
	{ files, rounds }: typeof FULL,
	say: BenchContext["say"],
): Promise<Measured[]> {
	say(`${files} files of ${FILE_BYTES} bytes in ${dir}, ${rounds} rounds`);
	const folder = join(dir, "files");
	writeFolder(folder, files);
	await Bun.$`tar -cf ${join(dir, "files.tar")} -C ${folder} .`.quiet();
	using source = serveFile(join(dir, "files.tar"));
	await using rsync = await startRsync(dir, folder);
	await using cluster = await startCluster({
		home: join(dir, "home"),
		nodes: ["node1", "node2"],
		allow: [source.url],
	});
	await cluster.gswarm(
		"model",
		"download",
		"many",
		"--source",
		`${source.url}/files.tar`,
		"--to",
		"node1:disk",
	);
	const whole: number[] = [];
	const task: number[] = [];
	const peer: number[] = [];
	for (let round = 1; round <= rounds; round++) {
		const started = performance.now();
		await cluster.gswarm("model", "copy", "many", "--from", "node1:disk", "--to", "node2:disk");
		whole.push((files / (performance.now() - started)) * 1000);
		task.push(files / (await lastCopyS(cluster)));
		await cluster.gswarm("model", "delete", "many", "--device", "node2:disk", "--yes");
		if (rsync !== undefined) {
			const target = join(dir, "rsync-target");
			const from = performance.now();
			await Bun.$`rsync -a -W ${rsync.url}/ ${target}/`.quiet();
			peer.push((files / (performance.now() - from)) * 1000);
			rmSync(target, { recursive: true });
		}
		say(
			`round ${round}: ours ${whole.at(-1)?.toFixed(0)} files/s, rsync ${peer.at(-1)?.toFixed(0) ?? "missing"}`,
		);
	}
	const besides = rsync === undefined ? ("missing" as const) : peer;
	return [
		{ ...ROWS.copy, ours: whole, peer: besides },
		{ ...ROWS.task, ours: task, peer: besides },
	];
}

/** Seconds that the newest copy took on its node. */
async function lastCopyS({ client }: Cluster): Promise<number> {
	const { tasks } = await client.call("queueHistory", { query: { limit: "20" } });
	const [copy] = tasks.filter((one) => one.task_type === "copy" && one.started_at !== null);
	return (copy?.completed_at ?? Number.NaN) - (copy?.started_at ?? 0);
}

function writeFolder(folder: string, files: number): void {
	for (let at = 0; at < files; at++) {
		const below = join(folder, `d${Math.floor(at / FILES_IN_FOLDER)}`);
		if (at % FILES_IN_FOLDER === 0) mkdirSync(below, { recursive: true });
		writeFileSync(join(below, `f${at}.bin`), crypto.getRandomValues(new Uint8Array(FILE_BYTES)));
	}
}

function serveFile(path: string): { url: string; [Symbol.dispose](): void } {
	const server = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response(Bun.file(path)) });
	return { url: `http://127.0.0.1:${server.port}`, [Symbol.dispose]: () => void server.stop(true) };
}

/** An rsync daemon of our own; undefined where rsync is not installed. */
async function startRsync(
	dir: string,
	folder: string,
): Promise<(AsyncDisposable & { url: string }) | undefined> {
	if (Bun.which("rsync") === null) return undefined;
	const probe = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
	const { port } = probe;
	probe.stop(true);
	const config = join(dir, "rsyncd.conf");
	const user = process.getuid?.() === 0 ? "uid = 0\ngid = 0\n" : "";
	writeFileSync(config, `use chroot = no\n${user}[files]\npath = ${folder}\nread only = yes\n`);
	const child = Bun.spawn(
		["rsync", "--daemon", "--no-detach", `--config=${config}`, "--address=127.0.0.1", `--port=${port}`],
		{ stdin: "ignore", stdout: "ignore", stderr: "inherit" },
	);
	const url = `rsync://127.0.0.1:${port}/files`;
	for (let tries = 0; ; tries++) {
		if ((await Bun.$`rsync ${url}/`.quiet().nothrow()).exitCode === 0) break;
		if (child.exitCode !== null || tries > 200) throw new Error(`rsync does not answer on ${url}`);
		await Bun.sleep(20);
	}
	return {
		url,
		async [Symbol.asyncDispose]() {
			child.kill("SIGTERM");
			await child.exited;
		},
	};
}
