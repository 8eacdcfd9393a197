/** Transfers from a stand-in of the hub over real connections: what the wire does to us, seen from the whole. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { openSource, type Source } from "../../src/core/source/source.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { sha256Hex } from "../../src/platform/hash.ts";
import { silentLog } from "../../src/platform/log.ts";
import { createOutbound } from "../../src/platform/outbound.ts";
import { partSizeBytes } from "../../src/schema/manifest.ts";
import { someBytes } from "../support/faulty-source.ts";
import { type Hub, startHub } from "../support/loopback-hub.ts";
import { writeFiles } from "../support/staged-model.ts";
import { tempDir } from "../support/temp-dir.ts";
import { standTransfers } from "../support/transfer-stand.ts";

setDefaultTimeout(120_000);

const MIB = 1024 * 1024;
const PART = partSizeBytes(1);
const WEIGHTS = "model.safetensors";
const FILES = {
	[WEIGHTS]: someBytes(2 * PART + 5 * MIB + 1, 1),
	"config.json": new TextEncoder().encode("{}\n"),
};

function hubOf(directory: string): Disposable & { hub: Hub; source: () => Source } {
	const dir = join(directory, "repository");
	writeFiles(dir, FILES);
	const hub = startHub({ repositories: { "acme/tiny": { dir } } });
	const outbound = createOutbound({ clock: systemClock, log: silentLog }, { allow: [hub.url, hub.cdnUrl] });
	const source = (): Source =>
		openSource("hf:acme/tiny", { outbound, clock: systemClock, hub: { endpoint: hub.url } });
	return { hub, source, [Symbol.dispose]: () => hub.stop() };
}

/** Bytes that the CDN sent of a file. */
function sentOf(hub: Hub, path: string): number {
	return hub
		.log()
		.filter((exchange) => exchange.server === "cdn" && exchange.path === path)
		.reduce((sum, exchange) => sum + exchange.bytesSent, 0);
}

function expectModel(path: string): void {
	expect(readdirSync(path).sort()).toEqual(Object.keys(FILES).sort());
	for (const [name, bytes] of Object.entries(FILES)) {
		expect(sha256Hex(readFileSync(join(path, name)))).toBe(sha256Hex(bytes));
	}
}

test("a model of the hub comes whole, its revision is the commit", async () => {
	using dir = tempDir();
	using world = hubOf(dir.path);
	await using held = await standTransfers(dir.path);
	const copy = await held.run({ source: world.source(), verifyChecksum: true });
	expectModel(held.stand.storage.pathOf(copy));
	expect(copy).toMatchObject({ revision: world.hub.commitOf("acme/tiny"), format: "unknown" });
	expect(sentOf(world.hub, WEIGHTS)).toBe(FILES[WEIGHTS]?.byteLength ?? 0);
});

test("a hub that cuts every connection after 2 MiB is read on at the byte where it stopped", async () => {
	using dir = tempDir();
	using world = hubOf(dir.path);
	await using held = await standTransfers(dir.path);
	world.hub.set({ cutAfterBytes: 2 * MIB });
	const copy = await held.run({ source: world.source() });
	expectModel(held.stand.storage.pathOf(copy));
	const size = FILES[WEIGHTS]?.byteLength ?? 0;
	// What was under way in the sockets when a connection ended may come twice, no more.
	expect(sentOf(world.hub, WEIGHTS)).toBeLessThan(size + 8 * MIB);
});

test("a hub that falls silent in the middle is asked again", async () => {
	using dir = tempDir();
	using world = hubOf(dir.path);
	await using held = await standTransfers(dir.path, { stallMs: 500 });
	world.hub.set({ stallAfterBytes: 9 * MIB });
	const copy = await held.run({ source: world.source() });
	expectModel(held.stand.storage.pathOf(copy));
});

test("a byte that the wire changed is found by the hub's sha256 and comes again", async () => {
	using dir = tempDir();
	using world = hubOf(dir.path);
	await using held = await standTransfers(dir.path);
	world.hub.set({ flipByte: { path: WEIGHTS, offset: PART + 3, times: 1 } });
	const copy = await held.run({ source: world.source() });
	expectModel(held.stand.storage.pathOf(copy));
	world.hub.set({ flipByte: { path: WEIGHTS, offset: PART + 3, times: 1000 } });
	const failing = held.run({ transferId: "download-2", tier: "dram", source: world.source() });
	const error = await failing.catch((thrown: unknown) => thrown);
	expect(error).toMatchObject({ reason: "checksum_mismatch", details: { file: WEIGHTS } });
	expect(readdirSync(join(dir.path, "dram/staging"))).toEqual([]);
});

test("a truncated file at the hub is refused by name, and nothing is kept", async () => {
	using dir = tempDir();
	using world = hubOf(dir.path);
	await using held = await standTransfers(dir.path);
	world.hub.set({ truncateFile: { path: WEIGHTS, sizeBytes: PART } });
	const error = await held.run({ source: world.source() }).catch((thrown: unknown) => thrown);
	expect((error as Error).message).toContain(WEIGHTS);
	expect(held.stand.storage.copies()).toEqual([]);
	expect(readdirSync(join(dir.path, "disk/staging"))).toEqual([]);
});

test("a CDN that ignores ranges is read in whole streams", async () => {
	using dir = tempDir();
	using world = hubOf(dir.path);
	await using held = await standTransfers(dir.path);
	world.hub.set({ ignoreRange: true });
	const copy = await held.run({ source: world.source() });
	expectModel(held.stand.storage.pathOf(copy));
});
