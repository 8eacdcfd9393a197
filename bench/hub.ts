/**
 * A file from a hub that gives each connection so much and no more, as the real one does: ours beside the sum of the
 * connections that we may open, and beside the hub's own JavaScript library, which opens one.
 */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startHub } from "../test/support/loopback-hub.ts";
import { startCluster } from "./cluster.ts";
import type { BenchContext, Measured } from "./row.ts";

const CONNECTION_BYTES_PER_SECOND = 8_000_000;
const CONNECTIONS = 8;
const CUT_EVERY_BYTES = 20_000_000;

const ROWS = {
	sum: {
		name: `hub, ${CONNECTIONS} connections of 8 MB/s, beside their sum`,
		unit: "MB/s",
		goal: { ratioAtLeast: 0.9 },
	},
	library: { name: "the same, beside @huggingface/hub", unit: "MB/s", goal: { ratioAtLeast: 3 } },
	rangeless: { name: "GETs of the file without a range", unit: "", goal: { oursBelow: 1 } },
	cuts: {
		name: `bytes sent where each connection is cut after ${CUT_EVERY_BYTES / 1e6} MB, beside the file`,
		unit: "MB",
		goal: { ratioAtMost: 1.05 },
	},
} as const;

const FULL = { fileBytes: 512 * 1024 ** 2, rounds: 3 };
const QUICK = { fileBytes: 128 * 1024 ** 2, rounds: 1 };
const REPOSITORY = "acme/big";
const FILE = "model.safetensors";

export async function benchHub({ say, quick }: BenchContext): Promise<Measured[]> {
	const { fileBytes, rounds } = quick ? QUICK : FULL;
	const dir = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "gswarm-bench-"));
	const files = join(dir, "files");
	mkdirSync(files);
	writeFileSync(join(files, FILE), safetensors(fileBytes));
	const hub = startHub({
		repositories: { [REPOSITORY]: { dir: files } },
		// The library asks for whole files, which the real one refuses for very large ones only.
		rangelessLimitBytes: Number.POSITIVE_INFINITY,
	});
	try {
		await using cluster = await startCluster({
			home: join(dir, "home"),
			nodes: ["node1"],
			allow: [hub.url, hub.cdnUrl],
			env: { HF_ENDPOINT: hub.url },
		});
		const seconds = async (work: () => Promise<unknown>): Promise<number> => {
			const started = performance.now();
			await work();
			return (performance.now() - started) / 1000;
		};
		const download = async (): Promise<void> => {
			await cluster.gswarm("model", "download", REPOSITORY, "--to", "node1:disk");
		};
		const remove = async (): Promise<void> => {
			await cluster.gswarm("model", "delete", REPOSITORY, "--yes");
		};
		const ours: number[] = [];
		const library: number[] = [];
		const rangeless: number[] = [];
		const sent: number[] = [];
		for (let round = 1; round <= rounds; round++) {
			hub.set({ rateBytesPerSecond: CONNECTION_BYTES_PER_SECOND });
			hub.clearLog();
			ours.push(fileBytes / 1e6 / (await seconds(download)));
			const gets = hub.log().filter(({ server, method }) => server === "cdn" && method === "GET");
			rangeless.push(gets.filter(({ range }) => range === undefined).length);
			await remove();
			library.push(fileBytes / 1e6 / (await seconds(() => byLibrary(hub.url, join(dir, "library")))));
			hub.clearFaults();
			hub.set({ cutAfterBytes: CUT_EVERY_BYTES });
			hub.clearLog();
			await download();
			hub.clearFaults();
			const bodies = hub.log().filter(({ server, method }) => server === "cdn" && method === "GET");
			sent.push(bodies.reduce((sum, { bytesSent }) => sum + bytesSent, 0) / 1e6);
			await remove();
			say(
				`round ${round}: ours ${ours.at(-1)?.toFixed(1)} MB/s, the library ${library.at(-1)?.toFixed(1)} MB/s`,
			);
		}
		const allowed = ours.map(() => (CONNECTIONS * CONNECTION_BYTES_PER_SECOND) / 1e6);
		return [
			{ ...ROWS.sum, ours, peer: allowed },
			{ ...ROWS.library, ours, peer: library },
			{ ...ROWS.rangeless, ours: rangeless, peer: undefined },
			{ ...ROWS.cuts, ours: sent, peer: sent.map(() => fileBytes / 1e6) },
		];
	} finally {
		hub.stop();
		rmSync(dir, { recursive: true, force: true });
	}
}

/** In a process of its own. */
async function byLibrary(url: string, target: string): Promise<void> {
	const child = Bun.spawn(
		[process.execPath, join(import.meta.dir, "hub-library.ts"), url, REPOSITORY, FILE, target],
		{ stdout: "ignore", stderr: "inherit" },
	);
	if ((await child.exited) !== 0) throw new Error("@huggingface/hub failed");
	rmSync(target);
}

/** One tensor of noise: what a file of weights looks like. */
function safetensors(sizeBytes: number): Uint8Array {
	const bytes = new Uint8Array(sizeBytes);
	for (let at = 0; at < sizeBytes; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536));
	const data = (head: string): number => sizeBytes - 8 - head.length;
	let head = "";
	for (let tries = 0; tries < 3; tries++)
		head = JSON.stringify({ w: { dtype: "U8", shape: [data(head)], data_offsets: [0, data(head)] } });
	new DataView(bytes.buffer).setBigUint64(0, BigInt(head.length), true);
	bytes.set(new TextEncoder().encode(head), 8);
	return bytes;
}
