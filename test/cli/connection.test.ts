import { afterAll, describe, expect, test } from "bun:test";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { findConnection, parseHostUrl } from "../../src/cli/connection.ts";
import type { Environment } from "../../src/cli/environment.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import { tempDir } from "../support/temp-dir.ts";
import { run } from "./support/fake-world.ts";

const root = tempDir();
afterAll(() => root[Symbol.dispose]());
let made = 0;

/** A data directory as a running agent leaves it; this very process stands for the agent. */
function dataDir(change: object = {}, { token = "gsw_admin_x", mode = 0o600 } = {}): string {
	const path = join(root.path, `home${++made}`);
	Bun.spawnSync(["mkdir", path]);
	const file = {
		pid: process.pid,
		role: "host+node",
		name: "n",
		started_at: 1,
		host_url: "http://127.0.0.1:8000",
	};
	writeFileSync(
		join(path, "agent.json"),
		JSON.stringify({ ...file, node_url: "http://127.0.0.1:8001", ...change }),
	);
	writeFileSync(join(path, "admin.token"), `${token}\n`, { mode });
	return path;
}

function environment(change: Partial<Environment> = {}): Environment {
	return {
		dataDir: "/nonexistent",
		hostUrl: undefined,
		tokenFile: undefined,
		caFile: undefined,
		noColor: true,
		...change,
	};
}

function refusal(act: () => unknown): GswarmError {
	try {
		act();
	} catch (error) {
		if (error instanceof GswarmError) return error;
		throw error;
	}
	throw new Error("it was accepted");
}

describe("the way to the agent", () => {
	test("the host's address of the data directory, with its token", () => {
		const expected = {
			url: "http://127.0.0.1:8000",
			token: "gsw_admin_x",
			ca: undefined,
			serverName: undefined,
			nodeOnly: false,
			context: undefined,
		};
		expect(findConnection(environment(), { dataDir: dataDir() })).toEqual(expected);
		expect(findConnection(environment({ dataDir: dataDir() }))).toEqual(expected);
	});

	test("a node's address where there is no host", () => {
		const path = dataDir({ host_url: undefined });
		expect(findConnection(environment(), { dataDir: path })).toMatchObject({
			url: "http://127.0.0.1:8001",
			nodeOnly: true,
		});
	});

	test("a named data directory comes before GSWARM_HOST, and that before the default one", () => {
		const tokenFile = join(root.path, "token");
		writeFileSync(tokenFile, "from-file\n", { mode: 0o600 });
		const both = environment({ hostUrl: "http://127.0.0.1:9999", tokenFile, dataDir: dataDir() });
		expect(findConnection(both, { dataDir: dataDir() }).url).toBe("http://127.0.0.1:8000");
		expect(findConnection(both)).toEqual({
			url: "http://127.0.0.1:9999",
			token: "from-file",
			ca: undefined,
			nodeOnly: false,
			context: undefined,
		});
	});

	test("an agent that is gone is no agent, even when its file is still there", () => {
		const child = Bun.spawnSync(["true"]);
		for (const path of [dataDir({ pid: child.pid }), "/nonexistent/x", root.path]) {
			expect(refusal(() => findConnection(environment(), { dataDir: path }))).toMatchObject({
				code: "RESOURCE_UNAVAILABLE",
				reason: "no_agent",
			});
		}
	});

	test("a damaged file is told as such", () => {
		for (const text of ["", "{", "[]", '{"pid":"1"}', '{"pid":-1}', '{"pid":1}']) {
			const path = dataDir();
			writeFileSync(join(path, "agent.json"), text);
			expect(refusal(() => findConnection(environment(), { dataDir: path })).reason).toBe("bad_agent_file");
		}
	});

	test("a token that others may read is refused, and how to mend it is said", () => {
		for (const mode of [0o644, 0o640, 0o602]) {
			const path = dataDir();
			chmodSync(join(path, "admin.token"), mode);
			const error = refusal(() => findConnection(environment(), { dataDir: path }));
			expect(error).toMatchObject({ code: "INVALID_REQUEST", reason: "unsafe_token_file" });
			expect(error.hint).toContain("chmod 600");
			expect(error.message).not.toContain("gsw_admin_x");
		}
	});

	test("a token's file with anything but one token is refused without showing it", () => {
		for (const token of ["", "two words", "a\nb", "x".repeat(5000), "\u001b[31m"]) {
			const error = refusal(() => findConnection(environment(), { dataDir: dataDir({}, { token }) }));
			expect(error.reason).toBe("bad_token_file");
			if (token !== "") expect(error.message).not.toContain(token);
		}
	});

	test("a missing token is exit 5", () => {
		const hostUrl = "127.0.0.1:8000";
		const error = refusal(() => findConnection(environment({ hostUrl, tokenFile: "/nonexistent/t" })));
		expect(error.code).toBe("UNAUTHORIZED");
	});

	test("addresses are read as people write them", () => {
		const urls = [
			"10.0.0.1",
			"10.0.0.1:9000",
			"127.0.0.1",
			"localhost:9000",
			"[::1]",
			"http://h",
			"http://h:80",
			"https://h",
			"http://[::1]:8000/",
		];
		expect(urls.map((text) => parseHostUrl(text).origin)).toEqual([
			"https://10.0.0.1:8000",
			"https://10.0.0.1:9000",
			"http://127.0.0.1:8000",
			"http://localhost:9000",
			"http://[::1]:8000",
			"http://h:8000",
			"http://h",
			"https://h",
			"http://[::1]:8000",
		]);
		for (const text of [
			"",
			"ftp://h",
			"http://u:p@h",
			"http://h/path",
			"http://h?q",
			"a b",
			"http://",
			"file:///etc",
		]) {
			expect(refusal(() => parseHostUrl(text)).reason).toBe("bad_host");
		}
	});

	test("plain http does not leave this machine", () => {
		for (const hostUrl of ["http://10.0.0.1:8000", "http://gpu1.lan", "http://127.0.0.1.evil.example"]) {
			const error = refusal(() => findConnection(environment({ hostUrl })));
			expect(error).toMatchObject({ code: "INVALID_REQUEST", reason: "plain_http" });
		}
	});

	test("the authority of an agent with https comes from its file, of one elsewhere from GSWARM_CA_FILE", () => {
		const ca = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
		const caFile = join(root.path, "ca.pem");
		writeFileSync(caFile, ca);
		const serverName = "host.gswarm.internal";
		const path = dataDir({ host_url: "https://127.0.0.1:8000", ca_file: caFile, server_name: serverName });
		expect(findConnection(environment(), { dataDir: path })).toMatchObject({
			url: "https://127.0.0.1:8000",
			ca,
			serverName,
		});
		const hostUrl = "https://10.0.0.1:8000";
		expect(findConnection(environment({ hostUrl, caFile }))).toMatchObject({ url: hostUrl, ca });
		for (const wrong of ["/nonexistent/ca.pem", join(path, "admin.token")]) {
			const error = refusal(() => findConnection(environment({ hostUrl, caFile: wrong })));
			expect(error).toMatchObject({ code: "INVALID_REQUEST", reason: "bad_ca_file" });
			expect(error.message).not.toContain("gsw_admin_x");
		}
	});

	test("a proxy of the environment does not see calls to this machine", () => {
		const { NO_PROXY, no_proxy } = process.env;
		try {
			process.env.NO_PROXY = "example.org";
			delete process.env.no_proxy;
			findConnection(environment(), { dataDir: dataDir() });
			expect([process.env.NO_PROXY, process.env.no_proxy]).toEqual(["example.org,127.0.0.1", "127.0.0.1"]);
		} finally {
			process.env.NO_PROXY = NO_PROXY;
			process.env.no_proxy = no_proxy;
		}
	});
});

describe("a node asked for what only hosts know", () => {
	test("is told as such", async () => {
		const server = Bun.serve({
			hostname: "127.0.0.1",
			port: 0,
			fetch: () =>
				Response.json(
					{
						error: {
							code: "NOT_FOUND",
							message: "no",
							details: { reason: "no_such_route" },
							timestamp: 1,
							request_id: "r",
						},
					},
					{ status: 404 },
				),
		});
		try {
			const path = dataDir({ host_url: undefined, node_url: server.url.origin });
			const { code, stderr } = await run(["node", "list", "--data-dir", path]);
			expect(code).toBe(3);
			expect(stderr).toContain("only its host answers");
		} finally {
			await server.stop(true);
		}
	});
});
