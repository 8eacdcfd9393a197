import { describe, expect, test } from "bun:test";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openBucketWriter, openSource, type SourceContext } from "../../src/core/source/source.ts";
import {
	type Bandwidth,
	createBandwidth,
	type Uploaded,
	uploadCopy,
} from "../../src/core/transfer/transfer.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { silentLog } from "../../src/platform/log.ts";
import { createOutbound } from "../../src/platform/outbound.ts";
import { GswarmError, asGswarmError } from "../../src/schema/errors.ts";
import type { ModelCopy } from "../../src/schema/model.ts";
import { writeFiller } from "../support/known-answer-model.ts";
import { type LoopbackS3, startS3 } from "../support/loopback-s3.ts";
import { tempDir } from "../support/temp-dir.ts";
import { standTransfers, type TransferStand } from "../support/transfer-stand.ts";
import { until } from "../support/until.ts";

const KEYS = { accessKeyId: "AKIATEST", secretAccessKey: "secret" };
const PART = 8 * 1024 * 1024;
/** Three parts, the last a short one. */
const BIG = 2 * PART + 1000;
const TARGET = "s3://models/acme/tiny";

interface World {
	s3: LoopbackS3;
	stand: TransferStand;
	copy: ModelCopy;
	context: SourceContext;
	upload(more?: {
		overwrite?: boolean;
		signal?: AbortSignal;
		bandwidthLimit?: number;
		onBytes?: (bytes: number) => void;
		to?: string;
	}): Promise<Uploaded>;
	/** Of all that the node sends. */
	up: Bandwidth;
	/** Where the copy's files are. */
	directory: string;
}

async function inWorld(
	work: (world: World) => Promise<void>,
	files: Record<string, number> = {},
): Promise<void> {
	using dir = tempDir();
	const folder = join(dir.path, "tiny");
	for (const name of ["tiny", "tiers"]) await Bun.$`mkdir -p ${join(dir.path, name)}`.quiet();
	for (const [name, size] of Object.entries({ "model.bin": BIG, "small.bin": 1000, ...files }))
		writeFiller(join(folder, name), size, size);
	writeFileSync(join(folder, "empty.txt"), "");
	const s3 = startS3({ keys: KEYS, buckets: ["models"], minPartBytes: 5 * 1024 * 1024 });
	await using stand = await standTransfers(join(dir.path, "tiers"));
	const context: SourceContext = {
		outbound: createOutbound({ clock: systemClock, log: silentLog }, { allow: [s3.url] }),
		clock: systemClock,
		importDirectories: [dir.path],
		buckets: { s3: { endpoint: s3.url, region: "us-east-1", pathStyle: true, credentials: KEYS } },
	};
	const copy = await stand.run({ source: openSource(`file://${folder}`, context) });
	const up = createBandwidth({ clock: systemClock });
	const rooms = { clock: systemClock, ids: systemIds, log: silentLog };
	const dependencies = { ...rooms, storage: stand.stand.storage, up };
	try {
		await work({
			s3,
			stand,
			up,
			copy,
			context,
			directory: stand.stand.storage.pathOf(copy),
			upload: ({
				overwrite = false,
				signal = AbortSignal.timeout(30_000),
				bandwidthLimit,
				onBytes,
				to = TARGET,
			} = {}) =>
				uploadCopy(dependencies, {
					transferId: "upload-1",
					copy,
					...openBucketWriter(to, context),
					overwrite,
					signal,
					bandwidthLimit,
					onProgress: (p) => onBytes?.(p.bytesDone),
				}),
		});
	} finally {
		s3.stop();
	}
}
const failure = (work: Promise<unknown>): Promise<Record<string, unknown>> =>
	work.then(
		() => ({ reason: "nothing failed" }),
		(error: unknown) => asGswarmError(error) as unknown as Record<string, unknown>,
	);
const sent = ({ s3 }: World): number => s3.requests.reduce((sum, { bytes }) => sum + bytes, 0);

describe("an upload", () => {
	test("passes at the rate at which the node may send, and goes on at once when that is let go", () =>
		inWorld(async (world) => {
			const { up, upload, s3 } = world;
			up.setNode({ own: 1_000_000 });
			const uploading = upload();
			// The first part pays for what comes after it: at that rate for eight seconds.
			await until("a part is there", () => sent(world) >= PART);
			expect(s3.objects.size).toBeLessThan(4);
			up.setNode({ own: undefined });
			expect(await uploading).toMatchObject({ sizeBytes: BIG + 1000 });
		}));

	test("brings every file and the manifest, which a download from there is checked by", () =>
		inWorld(async (world) => {
			const { s3, upload, copy, stand, context } = world;
			expect(await upload()).toEqual({ files: 3, sizeBytes: BIG + 1000, bytesThere: 0 });
			expect([...s3.objects.keys()].sort()).toEqual(
				[".gswarm-manifest.json", "empty.txt", "model.bin", "small.bin"].map(
					(name) => `models/acme/tiny/${name}`,
				),
			);
			expect(s3.openUploads()).toEqual([]);
			expect(s3.requests.at(-1)?.path).toEndWith(".gswarm-manifest.json");
			const source = openSource(TARGET, context);
			const described = await source.describe(AbortSignal.timeout(10_000));
			expect(described.files.every(({ digest }) => digest?.algorithm === "sha256")).toBe(true);
			const again = await stand.run({ source, transferId: "download-2" });
			expect(again.content_id).toBe(copy.content_id);
		}));

	test("again sends nothing but the manifest", () =>
		inWorld(async (world) => {
			await world.upload();
			world.s3.requests.length = 0;
			expect((await world.upload()).bytesThere).toBe(BIG + 1000);
			expect(world.s3.requests.filter(({ method }) => method === "PUT").map(({ path }) => path)).toEqual([
				"/models/acme/tiny/.gswarm-manifest.json",
			]);
		}));

	test("that was stopped goes on with the parts that are there", () =>
		inWorld(async (world) => {
			const { s3, upload } = world;
			const stopping = new GswarmError("RESOURCE_UNAVAILABLE", "The agent is stopping.", {
				reason: "stopping",
				retryable: true,
			});
			const controller = new AbortController();
			const stopped = failure(upload({ signal: controller.signal, bandwidthLimit: 16e6 }));
			await until("one part is there", () =>
				s3.requests.some(({ bytes, status }) => bytes === PART && status === 200),
			);
			controller.abort(stopping);
			expect((await stopped)["reason"]).toBe("stopping");
			expect(s3.openUploads()).toEqual(["models/acme/tiny/model.bin"]);
			expect(s3.objects.has("models/acme/tiny/.gswarm-manifest.json")).toBe(false);
			s3.requests.length = 0;
			const done = await upload();
			expect(done.bytesThere).toBeGreaterThanOrEqual(1000);
			expect(sent(world)).toBeLessThan(BIG);
			expect(s3.openUploads()).toEqual([]);
		}));

	test("that is cancelled leaves no parts behind", () =>
		inWorld(async ({ s3, upload }) => {
			const controller = new AbortController();
			const gone = new Error("cancelled");
			const cancelled = upload({ signal: controller.signal, bandwidthLimit: 16e6 });
			const ended = failure(cancelled);
			await until("an upload in parts is under way", () => s3.openUploads().length > 0);
			controller.abort(gone);
			expect((await ended)["reason"]).not.toBe("nothing failed");
			await until("the parts are dropped", () => s3.openUploads().length === 0);
			expect([...s3.objects.keys()]).not.toContain("models/acme/tiny/model.bin");
		}));

	test("tries a part again that the service did not take", () =>
		inWorld(async ({ s3, upload }) => {
			s3.set({ failParts: { times: 2, status: 500 } });
			expect((await upload()).files).toBe(3);
		}));

	test("does not take a failed completion, which comes with status 200, for a success", () =>
		inWorld(async ({ s3, upload }) => {
			s3.set({ completeXml: "<Error><Code>InternalError</Code></Error>" });
			expect(await failure(upload())).toMatchObject({ code: "NETWORK_ERROR", reason: "upload_failed" });
			expect(s3.objects.has("models/acme/tiny/.gswarm-manifest.json")).toBe(false);
		}));

	test("does not pass damage on", () =>
		inWorld(async ({ s3, upload, directory }) => {
			const file = join(directory, "model.bin");
			const bytes = new Uint8Array(await Bun.file(file).arrayBuffer());
			bytes[PART + 5] = (bytes[PART + 5] ?? 0) ^ 1;
			writeFileSync(file, bytes);
			expect(await failure(upload())).toMatchObject({ code: "TASK_FAILED", reason: "copy_damaged" });
			expect([...s3.objects.keys()]).not.toContain("models/acme/tiny/model.bin");
			expect(s3.openUploads()).toEqual([]);
		}));

	test.each<[string, string, boolean]>([
		["another object", "other.txt", true],
		["another version of a file", "small.bin", false],
	])("does not touch %s below the prefix", (_what, name, evenThen) =>
		inWorld(async ({ s3, upload }) => {
			s3.put("models", `acme/tiny/${name}`, "somebody's");
			expect(await failure(upload())).toMatchObject({ code: "CONFLICT", reason: "target_not_empty" });
			expect(s3.text("models", `acme/tiny/${name}`)).toBe("somebody's");
			expect(s3.objects.has("models/acme/tiny/.gswarm-manifest.json")).toBe(false);
			if (evenThen)
				expect(await failure(upload({ overwrite: true }))).toMatchObject({ reason: "target_not_empty" });
			else expect((await upload({ overwrite: true })).files).toBe(3);
		}),
	);

	test("sends what the service checks: the sha256 of every body stands in its signed headers", () =>
		inWorld(async ({ s3, upload }) => {
			await upload();
			for (const { method, headers } of s3.requests.filter(({ bytes }) => bytes > 0)) {
				expect([method, headers["x-amz-content-sha256"]]).not.toContain("UNSIGNED-PAYLOAD");
				expect(headers["x-amz-content-sha256"]).toMatch(/^[0-9a-f]{64}$/);
			}
		}));

	test("holds its copy while it is read", () =>
		inWorld(async ({ upload, stand, copy }) => {
			const seen = new Set<string>();
			await upload({ onBytes: () => stand.stand.storage.holders(copy).forEach((why) => seen.add(why)) });
			expect([...seen]).toEqual([`being uploaded to ${TARGET}`]);
			expect(stand.stand.storage.holders(copy)).toEqual([]);
			expect(readdirSync(stand.stand.storage.pathOf(copy)).length).toBe(3);
		}));
});

test.each(["hf:acme/tiny", "https://host/x", "file:///tmp/x", "oci://reg.example/a/b"])(
	"%s is no target for an upload",
	(target) =>
		inWorld(async ({ upload }) => {
			const refused = await failure(Promise.try(() => upload({ to: target })));
			expect(refused).toMatchObject({ status: 400, reason: "bad_target" });
		}),
);
