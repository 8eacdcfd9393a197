/** Clients that never finish: they cost little, end by themselves, and nobody else waits for them. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { createReach } from "../../src/agent/reach.ts";
import { type OpenListener, openListener } from "../../src/agent/http/listener.ts";
import { type TestApp, testApp } from "../agent/test-app.ts";
import { until } from "../support/until.ts";

const STALLED = 500;
const LONG = process.env.LONG !== undefined;

let t: TestApp;
let listener: OpenListener;
beforeAll(async () => {
	t = await testApp("host", { port: () => listener.port });
	listener = openListener({ bind: "127.0.0.1", port: 0, app: t.app });
});
afterAll(async () => {
	await listener.close();
	await t[Symbol.asyncDispose]();
});

test("five hundred requests whose headers never end keep nobody waiting, and are closed within 15 s", async () => {
	let open = 0;
	const sockets = await Promise.all(
		Array.from({ length: STALLED }, async () =>
			Bun.connect({
				hostname: "127.0.0.1",
				port: listener.port,
				socket: {
					open(socket) {
						open++;
						socket.write(`GET /api/v1/nodes HTTP/1.1\r\nHost: 127.0.0.1:${listener.port}\r\nX-Endless: `);
					},
					data() {},
					close() {
						open--;
					},
				},
			}),
		),
	);
	expect(open).toBe(STALLED);
	const headers = { authorization: `Bearer ${t.bearer("viewer")}` };
	const times: number[] = [];
	for (let asked = 0; asked < 200; asked++) {
		const startedMs = performance.now();
		const answer = await fetch(`${listener.url}/api/v1/nodes`, { headers });
		times.push(performance.now() - startedMs);
		expect(answer.status).toBe(200);
		// One of them drips, which must not keep it alive.
		sockets[0]?.write("x");
	}
	times.sort((a, b) => a - b);
	expect(times[Math.floor(times.length * 0.99)]).toBeLessThan(100);
	expect(t.handled.length).toBe(200);
	if (LONG) await until("all of them are closed", () => open === 0, 15_000);
	for (const socket of sockets) socket.end();
	await until("all of them are gone", () => open === 0);
}, 60_000);

test("headers of more than 16 kB, by count or by size, are refused, and the next request is answered", async () => {
	const ask = (headers: Record<string, string>): Promise<number> =>
		fetch(`${listener.url}/api/v1/nodes`, { headers }).then(
			(answer) => answer.status,
			() => 0,
		);
	const admin = { authorization: `Bearer ${t.bearer("admin")}` };
	expect([0, 400, 431]).toContain(await ask({ ...admin, "x-large": "x".repeat(20_000) }));
	const many = Object.fromEntries(Array.from({ length: 2000 }, (_, at) => [`x-many-${at}`, "xxxxxxxx"]));
	expect([0, 400, 431]).toContain(await ask({ ...admin, ...many }));
	expect(await ask(admin)).toBe(200);
});

test.each([
	["127.0.0.1", false],
	["127.9.9.9", false],
	["::1", false],
	["0.0.0.0", true],
	["::", true],
	["10.0.0.5", true],
	["192.168.1.7", true],
	["203.0.113.9", true],
	["fe80::1", true],
	["fd00::5", true],
])("whoever binds %s speaks TLS: %p, and nobody can say no", (bind, tls) => {
	const options = { advertise: [], machineNames: ["gpu1"], certifyMachineNames: true };
	const reach = createReach({ ...options, tls: false }, { bind, addresses: ["10.0.0.5"] });
	expect(reach.tls).toBe(tls);
	expect(reach.urlForOthers(8000).startsWith(tls ? "https:" : "http:")).toBe(true);
	expect(createReach({ ...options, tls: true }, { bind, addresses: [] }).tls).toBe(true);
	// The machine may change its mind about its address while it runs.
	const moved = createReach({ ...options, tls: false }, { bind: "127.0.0.1", addresses: [] });
	moved.update({ bind, addresses: [] });
	expect(moved.tls).toBe(tls);
});
