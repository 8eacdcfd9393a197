import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { DataOutcome, DataPlane } from "../../src/core/transfer/plane/data-process.ts";
import { type DataJob, WINDOW_BYTES } from "../../src/core/transfer/plane/messages.ts";
import { xxh64Hex } from "../../src/platform/hash.ts";
import { openDataPlane } from "../support/data-plane.ts";
import { someBytes } from "../support/faulty-source.ts";
import { drip, type RawPeer, type RawRequest, rangeHead, startRawPeer } from "../support/raw-peer.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(120_000);

const OWNER = new URL("../support/data-plane-owner.ts", import.meta.url).pathname;
const KIB = 1024;
const PART = 64 * KIB;
const BYTES = someBytes(5 * PART + 1234, 7);
const SIZE = BYTES.byteLength;

const dir = tempDir();
const plane = openDataPlane();
afterAll(async () => {
	await plane[Symbol.asyncDispose]();
	dir[Symbol.dispose]();
});

interface Received {
	outcome: DataOutcome;
	parts: [number, string][];
	bytes: number;
}

let files = 0;
function staged(size = SIZE): string {
	const path = join(dir.path, `staged-${files++}`);
	writeFileSync(path, "");
	truncateSync(path, size);
	return path;
}

function jobFor(peer: Pick<RawPeer, "port">, change: Partial<DataJob> = {}): DataJob {
	return {
		address: "127.0.0.1",
		port: peer.port,
		request: "GET /f HTTP/1.1\r\nHost: peer\r\n",
		path: change.path ?? staged(),
		start: 0,
		end: SIZE,
		sizeBytes: SIZE,
		partSizeBytes: PART,
		stallMs: 20_000,
		progressBytes: 16 * KIB,
		tagKey: undefined,
		...change,
	};
}

async function receive(
	job: DataJob,
	{
		by = plane,
		signal = new AbortController().signal,
		onBytes = () => Promise.resolve(),
	}: { by?: DataPlane; signal?: AbortSignal; onBytes?: (bytes: number) => Promise<void> } = {},
): Promise<Received> {
	const parts: [number, string][] = [];
	let bytes = 0;
	const outcome = await by.receive(
		job,
		{
			onBytes(more) {
				bytes += more;
				return onBytes(more);
			},
			onPart: (part, xxh64) => void parts.push([part, xxh64]),
		},
		signal,
	);
	return { outcome, parts, bytes };
}

const send = ({ socket, start, end }: RawRequest, from = BYTES): void => {
	socket.write(rangeHead({ start, end }, from.byteLength));
	socket.write(from.subarray(start, end));
};
const digestOf = (part: number): string => xxh64Hex(BYTES.subarray(part * PART, (part + 1) * PART));
const isAlive = (pid: number): boolean => existsSync(`/proc/${pid}`);

test("ranges land at their places, each part with its digest, one after the other on one connection", async () => {
	await using peer = await startRawPeer((request) => send(request));
	const path = staged();
	// Of its own, so that nobody else's threads are taken.
	await using own = openDataPlane();
	const first = await receive(jobFor(peer, { path, end: 2 * PART }), { by: own });
	const second = await receive(jobFor(peer, { path, start: 2 * PART }), { by: own });
	expect(first).toEqual({
		outcome: { kind: "done" },
		parts: [0, 1].map((part) => [part, digestOf(part)]),
		bytes: 2 * PART,
	});
	expect(second.parts).toEqual([2, 3, 4, 5].map((part) => [part, digestOf(part)]));
	expect(second.bytes).toBe(SIZE - 2 * PART);
	expect(readFileSync(path).equals(BYTES)).toBe(true);
	expect(peer.connections()).toBe(1);
	expect(peer.requests[1]?.head).toBe(
		`GET /f HTTP/1.1\r\nHost: peer\r\nRange: bytes=${2 * PART}-${SIZE - 1}\r\n\r\n`,
	);
});

test("a peer with an IPv6 address is reached", async () => {
	await using peer = await startRawPeer((request) => send(request), "::1");
	const job = jobFor(peer, { address: "::1" });
	expect((await receive(job)).outcome).toEqual({ kind: "done" });
	expect(readFileSync(job.path).equals(BYTES)).toBe(true);
});

test("an answer that comes a byte at a time, its head too, is put together", async () => {
	const bytes = BYTES.subarray(0, 300);
	await using peer = await startRawPeer(({ socket, start, end }) => {
		socket.setNoDelay(true);
		const answer = Buffer.concat([
			Buffer.from(rangeHead({ start, end }, bytes.byteLength)),
			bytes.subarray(start, end),
		]);
		let at = 0;
		const next = (): void => {
			if (at < answer.byteLength) socket.write(answer.subarray(at, ++at), next);
		};
		next();
	});
	const job = jobFor(peer, { path: staged(300), end: 300, sizeBytes: 300 });
	expect(await receive(job)).toEqual({
		outcome: { kind: "done" },
		parts: [[0, xxh64Hex(bytes)]],
		bytes: 300,
	});
	expect(readFileSync(job.path).equals(bytes)).toBe(true);
});

describe("an answer that is not exactly the one that was asked for is not taken", () => {
	const length = `Content-Length: ${SIZE}`;
	const range = `Content-Range: bytes 0-${SIZE - 1}/${SIZE}`;
	const head = (status: string, ...lines: string[]): string =>
		`${[`HTTP/1.1 ${status}`, ...lines].join("\r\n")}\r\n\r\n`;
	const answers: Record<string, string> = {
		"the whole file": head("200 OK", length),
		"not found": head("404 Not Found", "Content-Length: 0"),
		"a redirect": head("302 Found", "Location: http://127.0.0.1/", length, range),
		chunks: head("206 Partial Content", range, "Transfer-Encoding: chunked"),
		"chunks with a length": head("206 Partial Content", length, range, "Transfer-Encoding: chunked"),
		"no length": head("206 Partial Content", range),
		"a shorter length": head("206 Partial Content", `Content-Length: ${SIZE - 1}`, range),
		"a longer length": head("206 Partial Content", `Content-Length: ${SIZE + 1}`, range),
		"a length beyond all numbers": head("206 Partial Content", `Content-Length: 1${"0".repeat(400)}`, range),
		"a signed length": head("206 Partial Content", `Content-Length: +${SIZE}`, range),
		"two lengths": head("206 Partial Content", length, length, range),
		"no range": head("206 Partial Content", length),
		"another range": head("206 Partial Content", length, `Content-Range: bytes 1-${SIZE}/${SIZE + 1}`),
		"a range of another file": head(
			"206 Partial Content",
			length,
			`Content-Range: bytes 0-${SIZE - 1}/${SIZE + 1}`,
		),
		"several ranges": head("206 Partial Content", length, "Content-Type: multipart/byteranges; boundary=x"),
		"a compressed body": head("206 Partial Content", length, range, "Content-Encoding: gzip"),
		"a header over two lines": head("206 Partial Content", length, "X-A: 1\r\n  2", range),
		"a header without a name": head("206 Partial Content", length, ": 1", range),
		"a space before the colon": head("206 Partial Content", "Content-Length : 3", length, range),
		"a NUL in a header": head("206 Partial Content", length, range, "X-A: \0"),
		"bare line feeds": head("206 Partial Content", length, range).replaceAll("\r\n", "\n").concat("\r\n\r\n"),
		"HTTP/1.0": head("206 Partial Content", length, range).replace("1.1", "1.0"),
		"HTTP/0.9": `<html>${"x".repeat(100)}\r\n\r\n`,
		"many headers": head(
			"206 Partial Content",
			length,
			range,
			...Array.from({ length: 100 }, (_, index) => `X-${index}: 1`),
		),
		"a head without end": "HTTP/1.1 206 Partial Content\r\n" + `X-A: ${"y".repeat(60)}\r\n`.repeat(2000),
	};
	for (const [what, answer] of Object.entries(answers)) {
		test(what, async () => {
			await using peer = await startRawPeer(({ socket }) => {
				socket.write(answer, "latin1");
				socket.write(BYTES);
			});
			const job = jobFor(peer);
			const { outcome, parts, bytes } = await receive(job);
			expect(outcome).toMatchObject({ kind: "failed", failure: "answer" });
			expect({ parts, bytes }).toEqual({ parts: [], bytes: 0 });
			expect(readFileSync(job.path).equals(Buffer.alloc(SIZE))).toBe(true);
			await until("the connection is closed", () => peer.open() === 0);
		});
	}
});

test("a cut connection goes on at the byte where it stopped, and what came counts once", async () => {
	const cutAt = 100_001;
	await using peer = await startRawPeer((request) => {
		const { socket, start, end, connection } = request;
		if (connection > 2) return send(request);
		socket.write(rangeHead({ start, end }, SIZE));
		socket.end(BYTES.subarray(start, start + cutAt));
	});
	const job = jobFor(peer);
	const { outcome, parts, bytes } = await receive(job);
	expect(outcome).toEqual({ kind: "done" });
	expect(parts).toEqual([0, 1, 2, 3, 4, 5].map((part) => [part, digestOf(part)]));
	expect(bytes).toBe(SIZE);
	expect(peer.requests.map(({ start }) => start)).toEqual([0, cutAt, 2 * cutAt]);
	expect(readFileSync(job.path).equals(BYTES)).toBe(true);
});

test("a kept connection that its peer has closed is opened again without a word", async () => {
	await using peer = await startRawPeer((request) => {
		send(request);
		request.socket.end();
	});
	await using own = openDataPlane();
	for (const start of [0, PART]) {
		const { outcome } = await receive(jobFor(peer, { start, end: start + PART }), { by: own });
		expect(outcome).toEqual({ kind: "done" });
		await until("it has closed", () => peer.requests.at(-1)?.socket.writableFinished);
	}
	expect(peer.connections()).toBe(2);
});

test("a kept connection that is cut at its next request is opened again", async () => {
	await using peer = await startRawPeer((request) => {
		if (request.nth === 1) send(request);
		else request.socket.destroy();
	});
	await using own = openDataPlane();
	for (const start of [0, PART]) {
		const { outcome } = await receive(jobFor(peer, { start, end: start + PART }), { by: own });
		expect(outcome).toEqual({ kind: "done" });
	}
	expect(peer.connections()).toBe(2);
});

test("a peer that cuts without bringing anything, or is not there, fails at once", async () => {
	await using peer = await startRawPeer(({ socket, start, end }) => {
		socket.write(rangeHead({ start, end }, SIZE));
		socket.end(BYTES.subarray(0, 10));
	});
	expect((await receive(jobFor(peer))).outcome).toMatchObject({ kind: "failed", failure: "connection" });
	expect(peer.connections()).toBe(1);
	await using gone = await startRawPeer(() => {});
	const { port } = gone;
	await gone[Symbol.asyncDispose]();
	expect((await receive(jobFor({ port }))).outcome).toMatchObject({ kind: "failed", failure: "connection" });
});

test("a peer that cuts after little, again and again, is given up", async () => {
	const size = 100 * 16 * KIB;
	const bytes = someBytes(size, 3);
	await using peer = await startRawPeer(({ socket, start, end }) => {
		socket.write(rangeHead({ start, end }, size));
		socket.end(bytes.subarray(start, Math.min(end, start + 16 * KIB)));
	});
	const job = jobFor(peer, { path: staged(size), end: size, sizeBytes: size });
	expect((await receive(job)).outcome).toMatchObject({ kind: "failed", failure: "connection" });
	expect(peer.connections()).toBeLessThan(70);
});

describe("a peer that holds the line is left after the limit", () => {
	const peers: Record<string, (request: RawRequest) => void> = {
		"says nothing": () => {},
		"stops in its head": ({ socket }) => void socket.write("HTTP/1.1 206 Partial Content\r\nContent-"),
		"drips its head": ({ socket }) => drip(socket, "HTTP/1.1 206 Partial Content\r\nX: y\r\n"),
		"stops in its body": ({ socket, start, end }) => {
			socket.write(rangeHead({ start, end }, SIZE));
			socket.write(BYTES.subarray(start, start + PART + 5));
		},
		"drips its body": ({ socket, start, end }) => {
			socket.write(rangeHead({ start, end }, SIZE));
			drip(socket, "z");
		},
	};
	for (const [what, answer] of Object.entries(peers)) {
		test(`it ${what}`, async () => {
			await using peer = await startRawPeer(answer);
			const { outcome } = await receive(jobFor(peer, { stallMs: 1000 }));
			expect(outcome).toMatchObject({ kind: "failed", failure: "connection" });
			expect((outcome as { message: string }).message).toContain("in 1 s");
			await until("the connection is closed", () => peer.open() === 0);
		});
	}
});

test("what comes behind the range is neither written nor taken for the next answer", async () => {
	await using peer = await startRawPeer((request) => {
		send(request);
		request.socket.write(rangeHead({ start: PART, end: 2 * PART }, SIZE));
		request.socket.write(Buffer.alloc(4 * PART, 0xee));
	});
	await using own = openDataPlane();
	const path = staged();
	for (const start of [0, PART]) {
		const { outcome, bytes } = await receive(jobFor(peer, { path, start, end: start + PART }), { by: own });
		expect({ outcome, bytes }).toEqual({ outcome: { kind: "done" }, bytes: PART });
	}
	const want = Buffer.alloc(SIZE);
	want.set(BYTES.subarray(0, 2 * PART));
	expect(readFileSync(path).equals(want)).toBe(true);
	expect(peer.connections()).toBe(2);
});

test("a cancel ends a read that is blocked, at once, and closes its connection", async () => {
	await using peer = await startRawPeer(({ socket, start, end }) => {
		socket.write(rangeHead({ start, end }, SIZE));
		socket.write(BYTES.subarray(0, PART));
	});
	const stop = new AbortController();
	const work = receive(jobFor(peer, { stallMs: 600_000 }), { signal: stop.signal });
	await until("it has been asked", () => peer.requests.length === 1);
	stop.abort();
	expect((await work).outcome).toMatchObject({ kind: "failed", failure: "cancelled" });
	await until("the connection is closed", () => peer.open() === 0);
	const before = AbortSignal.abort();
	expect((await receive(jobFor(peer), { signal: before })).outcome).toMatchObject({ failure: "cancelled" });
	expect(peer.requests.length).toBe(1);
});

test("a cancel does not wait until a thread looks for it", async () => {
	await using peer = await startRawPeer(() => {});
	let waitedMs = 0;
	for (let times = 1; times <= 10; times++) {
		const stop = new AbortController();
		const work = receive(jobFor(peer, { stallMs: 600_000 }), { signal: stop.signal });
		await until("it has been asked", () => peer.requests.length === times);
		const stoppedMs = performance.now();
		stop.abort();
		await work;
		waitedMs += performance.now() - stoppedMs;
	}
	// Ten looks, a quarter of a second apart, take more than two.
	expect(waitedMs).toBeLessThan(1000);
});

test("bytes that are not let pass hold the peer up, and a cancel ends that too", async () => {
	const size = 4 * WINDOW_BYTES;
	const zeros = Buffer.alloc(size);
	await using peer = await startRawPeer((request) => send(request, zeros));
	const held = Promise.withResolvers<void>();
	const stop = new AbortController();
	let bytes = 0;
	const job = jobFor(peer, {
		path: staged(size),
		end: size,
		sizeBytes: size,
		partSizeBytes: 8 << 20,
		stallMs: 60_000,
	});
	const work = receive(job, {
		signal: stop.signal,
		onBytes(more) {
			bytes += more;
			return held.promise;
		},
	});
	await until("the window is full", () => bytes >= WINDOW_BYTES);
	// All would have come by the time that many others have ended.
	await using other = await startRawPeer((request) => send(request));
	const endMs = performance.now() + 500;
	while (performance.now() < endMs)
		expect((await receive(jobFor(other, { path: job.path }))).outcome).toEqual({ kind: "done" });
	expect(bytes).toBeLessThanOrEqual(WINDOW_BYTES + (8 << 20));
	stop.abort();
	expect((await work).outcome).toMatchObject({ kind: "failed", failure: "cancelled" });
	held.resolve();
});

test("a file that cannot be written is the file's failure, and a link is not followed", async () => {
	await using peer = await startRawPeer((request) => send(request));
	const gone = await receive(jobFor(peer, { path: join(dir.path, "nowhere/f") }));
	expect(gone.outcome).toMatchObject({ kind: "failed", failure: "file", code: "ENOENT" });
	const full = await receive(jobFor(peer, { path: "/dev/full" }));
	expect(full.outcome).toMatchObject({ kind: "failed", failure: "file", code: "ENOSPC" });
	const link = join(dir.path, "link");
	const target = staged();
	await Bun.$`ln -s ${target} ${link}`.quiet();
	expect((await receive(jobFor(peer, { path: link }))).outcome).toMatchObject({ code: "ELOOP" });
	expect(readFileSync(target).equals(Buffer.alloc(SIZE))).toBe(true);
});

test("the process killed in the middle ends its jobs as crashed; the next job has a new process", async () => {
	await using peer = await startRawPeer((request) => {
		if (request.connection > 1) return send(request);
		request.socket.write(rangeHead(request, SIZE));
		request.socket.write(BYTES.subarray(request.start, 3 * PART + 7));
	});
	await using own = openDataPlane();
	const job = jobFor(peer);
	const work = receive(job, { by: own });
	await until("it has been asked", () => peer.requests.length === 1);
	const pid = own.pid() ?? 0;
	process.kill(pid, "SIGKILL");
	const { outcome, parts } = await work;
	expect(outcome).toEqual({ kind: "crashed" });
	// Whatever was told of a part was true.
	for (const [part, xxh64] of parts) expect(xxh64).toBe(digestOf(part));
	expect((await receive(job, { by: own })).outcome).toEqual({ kind: "done" });
	expect(own.pid()).not.toBe(pid);
	expect(readFileSync(job.path).equals(BYTES)).toBe(true);
});

test("a process that ends in the middle every time is no longer used", async () => {
	await using own = openDataPlane({ mostCrashes: 3 }, { command: ["/bin/false"] });
	await using peer = await startRawPeer((request) => send(request));
	for (let times = 0; times < 3; times++) {
		expect(own.isUsable()).toBe(true);
		expect((await receive(jobFor(peer), { by: own })).outcome).toEqual({ kind: "crashed" });
	}
	expect(own.isUsable()).toBe(false);
	await using absent = openDataPlane({}, { command: [join(dir.path, "absent")] });
	expect((await receive(jobFor(peer), { by: absent })).outcome).toEqual({ kind: "crashed" });
	expect(absent.isUsable()).toBe(false);
});

test("a process that says what nobody understands, or without end, is ended", async () => {
	await using peer = await startRawPeer((request) => send(request));
	for (const script of ["echo '{broken'; exec sleep 600", "exec cat /dev/zero"]) {
		await using own = openDataPlane({}, { command: ["/bin/sh", "-c", script] });
		expect((await receive(jobFor(peer), { by: own })).outcome).toEqual({ kind: "crashed" });
	}
}, 30_000);

test("a process that does not hear a cancel, or says nothing for long, is killed", async () => {
	await using peer = await startRawPeer(() => {});
	await using own = openDataPlane({ cancelMs: 100, silentStalls: 1 });
	const stop = new AbortController();
	const deaf = receive(jobFor(peer, { stallMs: 600_000 }), { by: own, signal: stop.signal });
	await until("it has been asked", () => peer.requests.length === 1);
	process.kill(own.pid() ?? 0, "SIGSTOP");
	stop.abort();
	expect((await deaf).outcome).toEqual({ kind: "crashed" });
	const silent = receive(jobFor(peer, { stallMs: 1500 }), { by: own });
	await until("it has been asked", () => peer.requests.length === 2);
	process.kill(own.pid() ?? 0, "SIGSTOP");
	expect((await silent).outcome).toEqual({ kind: "crashed" });
});

test("the process ends when it has nothing to do, and starts again", async () => {
	await using peer = await startRawPeer((request) => send(request));
	await using own = openDataPlane({ idleMs: 1 });
	expect((await receive(jobFor(peer), { by: own })).outcome).toEqual({ kind: "done" });
	await until("it has ended", () => own.pid() === undefined);
	expect((await receive(jobFor(peer), { by: own })).outcome).toEqual({ kind: "done" });
});

test("the process has a group of its own, ends with the plane, and with an agent that is killed", async () => {
	await using peer = await startRawPeer(({ socket, start, end }) => {
		socket.write(rangeHead({ start, end }, SIZE));
	});
	const own = openDataPlane();
	const work = receive(jobFor(peer), { by: own });
	const pid = own.pid() ?? 0;
	await until("it has been asked", () => peer.requests.length === 1);
	const [, , group] = (readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1] ?? "").split(" ");
	expect(Number(group)).toBe(pid);
	const environment = readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").filter(Boolean);
	for (const line of environment) expect(line).toMatch(/^(PATH|HOME|LANG|TMPDIR)=/);
	await own[Symbol.asyncDispose]();
	expect((await work).outcome).toEqual({ kind: "crashed" });
	expect(isAlive(pid)).toBe(false);
	expect((await receive(jobFor(peer), { by: own })).outcome).toMatchObject({ failure: "cancelled" });

	const owner = Bun.spawn([process.execPath, OWNER, JSON.stringify(jobFor(peer))], { stdout: "pipe" });
	await until("the other agent has asked", () => peer.requests.length === 2);
	owner.kill("SIGKILL");
	const orphan = Number(await owner.stdout.text());
	expect(orphan).toBeGreaterThan(1);
	await until("its data process has ended", () => !isAlive(orphan));
});

test("more jobs than threads wait for their turn, and one that waits can be cancelled", async () => {
	const waiting: RawRequest[] = [];
	await using peer = await startRawPeer((request) => void waiting.push(request));
	await using own = openDataPlane();
	const jobs = Array.from({ length: 8 }, () => receive(jobFor(peer), { by: own }));
	await until("all threads are busy", () => waiting.length === 8);
	const stop = new AbortController();
	const ninth = receive(jobFor(peer), { by: own, signal: stop.signal });
	const tenth = receive(jobFor(peer), { by: own });
	stop.abort();
	expect((await ninth).outcome).toMatchObject({ failure: "cancelled" });
	expect(waiting.length).toBe(8);
	for (const request of waiting.splice(0)) send(request);
	await until("the tenth has its turn", () => waiting.length === 1);
	for (const request of waiting) send(request);
	for (const { outcome } of await Promise.all([...jobs, tenth])) expect(outcome).toEqual({ kind: "done" });
	// Each thread keeps its own.
	expect(peer.connections()).toBe(8);
});

test("the process needs little memory of its own, whatever it receives", async () => {
	const size = 64 << 20;
	const zeros = Buffer.alloc(size);
	await using server = Bun.serve({
		hostname: "127.0.0.1",
		port: 0,
		fetch(request) {
			const [, start, last] = /(\d+)-(\d+)/.exec(request.headers.get("range") ?? "") ?? [];
			const headers = { "content-range": `bytes ${start}-${last}/${size}` };
			return new Response(zeros.subarray(Number(start), Number(last) + 1), { status: 206, headers });
		},
	});
	await using own = openDataPlane();
	const job = { end: size, sizeBytes: size, partSizeBytes: 8 << 20 };
	const peer = { port: server.port ?? 0 };
	const jobs = Array.from({ length: 4 }, () =>
		receive(jobFor(peer, { ...job, path: staged(size) }), { by: own }),
	);
	for (const { outcome } of await Promise.all(jobs)) expect(outcome).toEqual({ kind: "done" });
	const [, kilobytes] =
		/^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${own.pid()}/status`, "utf8")) ?? [];
	expect(Number(kilobytes)).toBeGreaterThan(1000);
	expect(Number(kilobytes)).toBeLessThan(100_000);
});
