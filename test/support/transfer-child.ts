/**
 * A transfer in a process of its own, to be killed or measured: `bun transfer-child.ts '{"directory": …}'`.
 * Prints one JSON line per event: reads, `reached`, the result.
 */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Source } from "../../src/core/source/source.ts";
import { parseSafePath } from "../../src/platform/safe-path.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import { parseModelName, parseRevision } from "../../src/schema/names.ts";
import { faultySource, someBytes } from "./faulty-source.ts";
import { tempDir } from "./temp-dir.ts";
import { standTransfers } from "./transfer-stand.ts";

export interface ChildInput {
	directory: string;
	/** Size of the one file. */
	sizeBytes: number;
	/** Says `reached` at this byte and hangs until it is killed. */
	hangAt?: number;
	/** Fills the filesystem of this directory at this byte, for a while. */
	fill?: { directory: string; at: number };
	/** The file is made while it is read and its size can be anything; the peak of anonymous memory is printed. */
	measure?: boolean;
}

export interface ChildEvent {
	event: "reached" | "done" | "failed" | "after" | "memory";
	reads?: { start: number; end: number }[];
	code?: string;
	reason?: string | undefined;
	status?: string;
	staged?: number;
	copies?: number;
	idleBytes?: number;
	peakBytes?: number;
}

export const CHILD_FILE = "model.gguf";

async function main(input: ChildInput): Promise<void> {
	const tier = { name: "disk", kind: "disk" as const, root: join(input.directory, "disk"), floorBytes: 0 };
	// The database must not share the small filesystem that is filled.
	using elsewhere = tempDir();
	const home = input.fill === undefined ? input.directory : elsewhere.path;
	await using held = await standTransfers(home, { stallMs: 60_000 }, { tiers: [tier] });
	const { storage } = held.stand;
	const filler = join(input.fill?.directory ?? home, "filler");
	if (input.measure === true) {
		const idleBytes = anonymousBytes();
		const source = endlessSource(input.sizeBytes);
		let peakBytes = 0;
		await held.run({
			source,
			onProgress: () => {
				peakBytes = Math.max(peakBytes, anonymousBytes());
			},
		});
		say({ event: "memory", idleBytes, peakBytes });
		return;
	}
	const faulty = faultySource(
		{ [CHILD_FILE]: someBytes(input.sizeBytes, 1) },
		{
			digests: "parts",
			onBlock: async (_path, position) => {
				if (input.hangAt !== undefined && position >= input.hangAt) {
					say({ event: "reached" });
					await new Promise(() => {});
				}
				if (input.fill !== undefined && position >= input.fill.at) fillUp(filler);
			},
		},
	);
	try {
		const copy = await held.run({ source: faulty, streams: 1 });
		say({ event: "done", reads: faulty.reads, status: copy.status });
	} catch (error) {
		if (!(error instanceof GswarmError)) throw error;
		const { code, reason } = error;
		say({ event: "failed", code, reason, staged: storage.staged().length, copies: storage.copies().length });
		rmSync(filler, { force: true });
		const again = faultySource({ [CHILD_FILE]: someBytes(input.sizeBytes, 1) });
		say({ event: "after", status: (await held.run({ source: again })).status });
	}
}

function fillUp(path: string): void {
	try {
		writeFileSync(path, new Uint8Array(64 * 1024 * 1024));
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
	}
}

/** Any number of bytes from one block, so that the source itself takes no memory. */
function endlessSource(sizeBytes: number): Source {
	const block = someBytes(256 * 1024, 3);
	const path = parseSafePath(CHILD_FILE);
	const file = { path, sizeBytes, digest: undefined, rangeable: true, parts: undefined };
	return {
		describe: () =>
			Promise.resolve({
				uri: "test:endless",
				revision: parseRevision("1"),
				sourceId: "1",
				suggestedName: parseModelName("acme/endless"),
				files: [file],
				totalBytes: sizeBytes,
				archive: undefined,
			}),
		read: (_file, range) => {
			let left = range === undefined ? sizeBytes : range.end - range.start;
			return Promise.resolve(
				new ReadableStream<Uint8Array>(
					{
						pull(controller) {
							const count = Math.min(left, block.byteLength);
							left -= count;
							if (count === 0) controller.close();
							else controller.enqueue(block.subarray(0, count));
						},
					},
					{ highWaterMark: 0 },
				),
			);
		},
	};
}

function anonymousBytes(): number {
	const kib = /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
	return Number(kib ?? 0) * 1024;
}

function say(event: ChildEvent): void {
	process.stdout.write(`${JSON.stringify(event)}\n`);
}

if (import.meta.main) await main(JSON.parse(process.argv[2] ?? "{}") as ChildInput);
