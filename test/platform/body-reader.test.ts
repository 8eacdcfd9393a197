import { describe, expect, test } from "bun:test";
import { createBodyReader, readBounded } from "../../src/platform/body-reader.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { FakeClock } from "../support/fake-clock.ts";

/** A body that comes in pieces, and tells how many were asked for. */
function pieces(...sizes: number[]): {
	body: ReadableStream<Uint8Array>;
	asked: () => number;
	cancelled: () => boolean;
} {
	let next = 0;
	let cancelled = false;
	const body = new ReadableStream<Uint8Array>(
		{
			pull(controller) {
				const size = sizes[next++];
				if (size === undefined) controller.close();
				else controller.enqueue(new Uint8Array(size).fill(next));
			},
			cancel() {
				cancelled = true;
			},
		},
		{ highWaterMark: 0 },
	);
	return { body, asked: () => next, cancelled: () => cancelled };
}

test("a body of exactly the limit is read, one byte more is 413, in one piece and in many", async () => {
	expect(await readBounded(pieces(100).body, 100)).toHaveLength(100);
	expect(await readBounded(pieces(60, 40).body, 100)).toEqual(
		Uint8Array.from([...Array(60).fill(1), ...Array(40).fill(2)]),
	);
	for (const sizes of [[101], [100, 1], Array<number>(101).fill(1)]) {
		const failure = await readBounded(pieces(...sizes).body, 100).catch(asGswarmError);
		expect(failure).toMatchObject({ status: 413, reason: "body_too_large", details: { limit: 100 } });
	}
});

test("no body is no bytes", async () => {
	expect(await readBounded(null, 100)).toHaveLength(0);
	expect(await readBounded(pieces().body, 100)).toHaveLength(0);
});

test("a body that says it is too long is refused without reading it", async () => {
	const long = pieces(10);
	expect(await readBounded(long.body, 100, 100)).toHaveLength(10);
	const longer = pieces(10);
	expect(await readBounded(longer.body, 100, 101).catch(asGswarmError)).toMatchObject({ status: 413 });
	expect(longer.asked()).toBe(0);
});

test("an endless body is left where the limit was passed", async () => {
	const endless = pieces(...Array<number>(1000).fill(50));
	expect(await readBounded(endless.body, 100).catch(asGswarmError)).toMatchObject({ status: 413 });
	expect(endless.asked()).toBeLessThan(6);
	expect(endless.cancelled()).toBe(true);
});

describe("a request's body", () => {
	const request = (body: ReadableStream<Uint8Array> | string, length?: number): Request =>
		new Request("http://127.0.0.1/", {
			method: "POST",
			body,
			headers: length === undefined ? {} : { "content-length": String(length) },
		});

	/** A body whose pieces the test sends; a length makes it an announced one. */
	function dripping(length?: number): {
		request: Request;
		send: (bytes: number) => void;
		end: () => void;
		isCancelled: () => boolean;
	} {
		let controller: ReadableStreamDefaultController<Uint8Array> | undefined;
		let isCancelled = false;
		const body = new ReadableStream<Uint8Array>({
			start(it) {
				controller = it;
			},
			cancel() {
				isCancelled = true;
			},
		});
		return {
			request: request(body, length),
			send: (bytes) => controller?.enqueue(new Uint8Array(bytes)),
			end: () => controller?.close(),
			isCancelled: () => isCancelled,
		};
	}

	test("is read whole, announced or not, large or small", async () => {
		const reader = createBodyReader({ clock: new FakeClock() });
		for (const size of [0, 1, 29_999, 30_000, 30_001, 200_000]) {
			const text = "x".repeat(size);
			for (const length of [undefined, size])
				expect((await reader.read(request(text, length), 200_000)).length).toBe(size);
		}
		expect(await reader.read(new Request("http://127.0.0.1/"), 10)).toHaveLength(0);
	});

	test("beyond the limit is 413: announced, not announced, announced too short", async () => {
		const reader = createBodyReader({ clock: new FakeClock() });
		const refused = async (it: Request): Promise<unknown> =>
			reader.read(it, 100).then(
				() => "read",
				(error: unknown) => `${asGswarmError(error).status} ${asGswarmError(error).reason}`,
			);
		expect(await refused(request("x", 101))).toBe("413 body_too_large");
		expect(await refused(request("x".repeat(101)))).toBe("413 body_too_large");
		expect(await refused(request("x".repeat(101), 100))).toBe("413 body_too_large");
		expect(await refused(request("x".repeat(100), 100))).toBe("read");
		const endless = pieces(...Array<number>(1000).fill(50));
		expect(await refused(request(endless.body))).toBe("413 body_too_large");
		expect(endless.asked()).toBeLessThan(8);
	});

	test("that is announced too long is refused without reading it", async () => {
		const long = pieces(10);
		const it = { body: long.body, headers: new Headers({ "content-length": "101" }), arrayBuffer: never };
		expect(
			await createBodyReader({ clock: new FakeClock() }).read(it, 100).catch(asGswarmError),
		).toMatchObject({
			status: 413,
		});
		expect(long.asked()).toBe(0);
	});

	test.each([
		["announced", 1000],
		["announced to be large", 100_000],
		["without a length", undefined],
	] as const)("%s that drips below 1 kB/s is given up after 30 s", async (_what, length) => {
		const clock = new FakeClock();
		const drip = dripping(length);
		const answer = createBodyReader({ clock }).read(drip.request, 1_000_000).catch(asGswarmError);
		let settled = false;
		void answer.then(() => (settled = true));
		for (let second = 0; second < 29; second++) {
			drip.send(1);
			await clock.advance(1000);
		}
		expect(settled).toBe(false);
		await clock.advance(2000);
		expect(await answer).toMatchObject({ status: 408, reason: "slow_body" });
	});

	test("that is slow but steady at 1 kB/s is read, and one that then stops is given up", async () => {
		const clock = new FakeClock();
		const reader = createBodyReader({ clock });
		const steady = dripping();
		const whole = reader.read(steady.request, 1_000_000);
		for (let second = 0; second < 95; second++) {
			steady.send(1001);
			await clock.advance(1000);
		}
		steady.end();
		expect((await whole).length).toBe(95 * 1001);
		const stopping = dripping();
		const cut = reader.read(stopping.request, 1_000_000).catch(asGswarmError);
		for (let second = 0; second < 40; second++) {
			stopping.send(2000);
			await clock.advance(1000);
		}
		await clock.advance(62_000);
		expect(await cut).toMatchObject({ reason: "slow_body" });
		expect(stopping.isCancelled()).toBe(true);
	});

	test("that breaks off is the sender's failure", async () => {
		const body = new ReadableStream<Uint8Array>({
			pull(controller) {
				controller.error(new Error("gone"));
			},
		});
		const failure = await createBodyReader({ clock: new FakeClock() })
			.read(request(body), 100)
			.catch(asGswarmError);
		expect(failure).toMatchObject({ status: 400, reason: "body_incomplete" });
	});

	test("leaves no timer behind once all are read", async () => {
		const clock = new FakeClock();
		const reader = createBodyReader({ clock });
		await Promise.all([reader.read(request("x"), 10), reader.read(request("y", 1), 10)]);
		await clock.advance(5000);
		expect(clock.sleeping).toBe(0);
		// The watch begins again with the next.
		const drip = dripping();
		const cut = reader.read(drip.request, 10).catch(asGswarmError);
		await clock.advance(32_000);
		expect(await cut).toMatchObject({ reason: "slow_body" });
		expect(clock.sleeping).toBe(0);
	});
});

function never(): Promise<never> {
	throw new Error("it was read");
}
