// The host's gateway in front of nodes over TLS.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { type OpenListener, openListener } from "../../src/agent/http/listener.ts";
import type { TlsTrust } from "../../src/core/identity/identity.ts";
import { createGateway, type Upstream } from "../../src/core/service/service.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { silentLog } from "../../src/platform/log.ts";
import { type TestAuthority, testAuthority } from "./test-certificates.ts";

let [authority, other]: TestAuthority[] = [];
let node: OpenListener;
let heard: string[] = [];

beforeAll(async () => {
	[authority, other] = await Promise.all([testAuthority(), testAuthority()]);
	const app = (request: Request): Promise<Response> => {
		heard.push(request.headers.get("authorization") ?? "");
		return Promise.resolve(Response.json({ from: "node1" }));
	};
	node = openListener({ bind: "127.0.0.1", port: 0, app, tls: [await authority.node("node1")] });
});
afterAll(() => node.close());

async function chat(...trusts: (TlsTrust | undefined)[]): Promise<string> {
	const upstreams = trusts.map(
		(tls, index): Upstream => ({
			key: `node1/${index}`,
			baseUrl: node.url,
			state: "ready",
			policy: "round_robin",
			timeoutMs: 10_000,
			authorize: () => ({ authorization: `Bearer ${index}` }),
			...(tls === undefined ? {} : { tls }),
		}),
	);
	const local = { upstreams: () => upstreams, models: () => [] };
	const gateway = createGateway({ clock: systemClock, log: silentLog, local });
	const request = new Request("http://host/v1/chat/completions", {
		method: "POST",
		headers: { "content-type": "application/json" },
		body: JSON.stringify({ model: "tiny", messages: [] }),
	});
	const response = await gateway.handle(request, "/v1/chat/completions");
	return `${response.status} ${await response.text()}`;
}

test("a node is met under its name", async () => {
	heard = [];
	expect(await chat(authority?.trust("node1"))).toBe('200 {"from":"node1"}');
	expect(heard).toEqual(["Bearer 0"]);
});

test("another node, another cluster's and nobody we know get not a byte, bearer and prompt included", async () => {
	heard = [];
	for (const trust of [authority?.trust("node2"), other?.trust("node1"), undefined]) {
		expect(await chat(trust)).toStartWith("503 ");
	}
	expect(heard).toEqual([]);
});

test("where one does not prove who it is, the next one is asked", async () => {
	heard = [];
	for (let turn = 0; turn < 4; turn++) {
		expect(await chat(other?.trust("node1"), authority?.trust("node1"))).toStartWith("200 ");
	}
	expect(new Set(heard)).toEqual(new Set(["Bearer 1"]));
});

test("NODE_TLS_REJECT_UNAUTHORIZED=0 opens nothing", async () => {
	const code = `
		import { createGateway } from ${JSON.stringify(import.meta.resolve("../../src/core/service/service.ts"))};
		import { systemClock } from ${JSON.stringify(import.meta.resolve("../../src/platform/clock.ts"))};
		import { silentLog } from ${JSON.stringify(import.meta.resolve("../../src/platform/log.ts"))};
		const tls = ${JSON.stringify(other?.trust("node1"))};
		const upstream = { key: "n", baseUrl: ${JSON.stringify(node.url)}, state: "ready", policy: "round_robin", timeoutMs: 5000, tls };
		const local = { upstreams: () => [upstream], models: () => [] };
		const body = JSON.stringify({ model: "tiny", messages: [] });
		const request = new Request("http://host/v1/chat/completions", { method: "POST", headers: { "content-type": "application/json" }, body });
		console.log((await createGateway({ clock: systemClock, log: silentLog, local }).handle(request, "/v1/chat/completions")).status);`;
	const child = Bun.spawn([process.execPath, "-e", code], {
		env: { ...process.env, NODE_TLS_REJECT_UNAUTHORIZED: "0" },
		stdout: "pipe",
	});
	expect((await new Response(child.stdout).text()).trim()).toBe("503");
});
