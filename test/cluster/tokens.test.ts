import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type ApiClient, createApiClient } from "../../src/api/client.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import type { TokenRole } from "../../src/schema/token.ts";
import { type LocalCluster, localCluster, modelFiles } from "../support/cluster.ts";
import { until } from "../support/until.ts";

const MODEL = "acme/tiny";
const LIMIT_MS = 60_000;
let c: LocalCluster;
let made = 0;

beforeAll(async () => {
	c = await localCluster({ files: { [MODEL]: modelFiles(100_000) } });
}, LIMIT_MS);
afterAll(() => c[Symbol.asyncDispose]());

interface Person {
	name: string;
	token: string;
	/** At the host, or at a node. */
	at(node?: string): ApiClient;
}

async function person(role: TokenRole, more: { ttl_s?: number } = {}): Promise<Person> {
	const name = `${role}-${++made}`;
	const { token } = await c.host.client.call("createToken", { body: { kind: "user", role, name, ...more } });
	return {
		name,
		token,
		at(node) {
			const { url, trust } = node === undefined ? c.host : c.node(node);
			return createApiClient({ baseUrl: url, token: () => token, tls: trust });
		},
	};
}

const outcome = (act: Promise<unknown>): Promise<string> =>
	act.then(
		() => "done",
		(error: unknown) => {
			const { status, reason } = asGswarmError(error);
			return `${status} ${reason}`;
		},
	);
const revoke = (name: string) => c.host.client.call("revokeToken", { params: { token_id: name } });

describe("a person's token", () => {
	test("is known to the host and to every node as soon as it was made", async () => {
		const ann = await person("user");
		for (const where of [undefined, "node1", "node2"]) {
			const me = await ann.at(where).call("whoami", {});
			expect(me).toMatchObject({
				name: ann.name,
				role: "user",
				expires_at: null,
				agent: { role: where === undefined ? "host" : "node", name: where ?? "host", cluster_id: "test" },
			});
			expect(await outcome(ann.at(where).call("listModels", {}))).toBe("done");
		}
		const { tokens } = await c.host.client.call("listTokens", {});
		expect(tokens.find((it) => it.name === ann.name)).toMatchObject({
			status: "active",
			created_by: "admin",
		});
		expect(JSON.stringify(tokens)).not.toContain(ann.token.split("_")[3] ?? "?");
	});

	test("that was revoked is refused by the next request, on the host and on every node", async () => {
		const ann = await person("operator");
		for (const where of [undefined, "node1", "node2"]) await ann.at(where).call("whoami", {});
		expect(await revoke(ann.name)).toMatchObject({ status: "revoked", nodes_not_reached: [] });
		expect(await outcome(ann.at().call("whoami", {}))).toBe("401 token_revoked");
		// A node holds what is good and nothing else.
		for (const where of ["node1", "node2"])
			expect(await outcome(ann.at(where).call("whoami", {}))).toBe("401 no_valid_token");
	});

	test("that has expired is refused everywhere, and who has it is told", async () => {
		const ann = await person("viewer", { ttl_s: 1 });
		const { expires_at: end } = await ann.at().call("whoami", {});
		await until("it has expired", () => Date.now() / 1000 > (end ?? 0));
		for (const where of [undefined, "node1"])
			expect(await outcome(ann.at(where).call("whoami", {}))).toBe("401 token_expired");
	});

	test("does what its role may, and no more", async () => {
		const may = async (role: TokenRole) => {
			const someone = await person(role);
			const [host, node] = [someone.at(), someone.at("node1")];
			const target = { params: { model_name: "nobody/here" } };
			const acts = {
				read: host.call("listNodes", {}),
				readNode: node.call("queueStatus", {}),
				ask: host.open("gatewayModels", {}),
				askNode: node.open("gatewayModels", {}),
				submit: host.call("copyModel", { ...target, body: { source_device: "disk", target_device: "dram" } }),
				delete: host.call("deleteModel", target),
				force: host.call("deleteModel", { ...target, query: { force: "true" } }),
				forceNode: node.call("deleteModel", { ...target, query: { force: "true" } }),
				tokens: host.call("listTokens", {}),
			};
			const allowed = await Promise.all(
				Object.entries(acts).map(async ([name, act]) => [name, await outcome(act)] as const),
			);
			return allowed.filter(([, end]) => !end.startsWith("403 ")).map(([name]) => name);
		};
		expect(await may("viewer")).toEqual(["read", "readNode"]);
		expect(await may("inference")).toEqual(["ask", "askNode"]);
		expect(await may("user")).toEqual(["read", "readNode", "ask", "askNode", "submit"]);
		const operator = ["read", "readNode", "ask", "askNode", "submit", "delete"];
		expect(await may("operator")).toEqual(operator);
		expect(await may("admin")).toEqual([...operator, "force", "forceNode", "tokens"]);
	});

	test("of an admin makes tokens; of anybody else none, and of whatever role they say who they are", async () => {
		const body = { kind: "user" as const, role: "viewer" as const, name: `made-${++made}` };
		for (const role of ["viewer", "inference", "user", "operator"] as const) {
			const someone = await person(role);
			expect(await outcome(someone.at().call("createToken", { body }))).toBe("403 role_not_allowed");
			expect(await someone.at().call("whoami", {})).toMatchObject({ role });
		}
		const boss = await person("admin");
		await boss.at().call("createToken", { body });
		const { tokens } = await boss.at().call("listTokens", {});
		expect(tokens.find((it) => it.name === body.name)?.created_by).toBe(boss.name);
	});
});

test("what a token needs, and what is of another kind, is refused with the field", async () => {
	const ask = (body: object) =>
		c.host.client.call("createToken", { body: body as never }).then(
			() => "done",
			(error: unknown) => String(asGswarmError(error).details["field"]),
		);
	expect(await ask({ kind: "user", name: "x" })).toBe("role");
	expect(await ask({ kind: "user", role: "user" })).toBe("name");
	expect(await ask({ kind: "user", role: "root", name: "x" })).toBe("role");
	expect(await ask({ kind: "user", role: "user", name: "../x" })).toBe("name");
	expect(await ask({ kind: "user", role: "user", name: "x", uses: 1 })).toBe("uses");
	expect(await ask({ kind: "user", role: "user", name: "x", approve: true })).toBe("approve");
	expect(await ask({ kind: "join", role: "user" })).toBe("role");
	expect(await ask({ kind: "join", name: "x" })).toBe("name");
	expect(await ask({ kind: "join", ttl_s: 31 * 86_400 })).toBe("ttl_s");
	expect(await outcome(revoke("nobody"))).toBe("404 token_not_found");
	expect(await outcome(revoke("a..b"))).toBe("400 bad_token_name");
});

describe("a user cancels their own tasks and nobody else's", () => {
	const cancelled = (client: ApiClient, task_id: string) =>
		outcome(client.call("cancelTask", { params: { task_id } }));

	test.each([
		["through the host", undefined],
		["on the node itself", "node1"],
	])(
		"%s",
		async (_where, where) => {
			const [ann, bob, boss] = [await person("user"), await person("user"), await person("operator")];
			const { task_id: id } = await ann.at(where).call("downloadModel", {
				params: { model_name: MODEL },
				body: { target_device: "node1:disk", source_url: `hf:${MODEL}` },
			});
			await c.ended(id);
			expect(await cancelled(bob.at(where), id)).toBe("403 not_your_task");
			// Theirs to cancel: only that it has ended stands in the way.
			expect(await cancelled(ann.at(where), id)).toBe("409 already_terminal");
			expect(await cancelled(boss.at(where), id)).toBe("409 already_terminal");
			expect(await cancelled(bob.at(where), "download-none-00000000")).toBe("404 task_not_found");
		},
		LIMIT_MS,
	);
});

describe("a node that is away", () => {
	test(
		"is named by a revocation, and knows it as soon as it is back",
		async () => {
			const [ann, bob] = [await person("user"), await person("user")];
			await c.node("node2").stop();
			expect(await revoke(ann.name)).toMatchObject({ nodes_not_reached: ["node2"] });
			await c.node("node2").start();
			await until(
				"node2 knows people again",
				async () => (await outcome(bob.at("node2").call("whoami", {}))) === "done",
			);
			expect(await outcome(ann.at("node2").call("whoami", {}))).toBe("401 no_valid_token");
		},
		LIMIT_MS,
	);

	test(
		"from its host after a restart accepts its own admin and nobody else",
		async () => {
			const ann = await person("admin");
			expect(await outcome(ann.at("node2").call("whoami", {}))).toBe("done");
			await c.host.stop();
			expect(await outcome(ann.at("node2").call("whoami", {}))).toBe("done");
			await c.node("node2").stop();
			await c.node("node2").start();
			expect(await outcome(ann.at("node2").call("whoami", {}))).toBe("401 no_valid_token");
			expect(await c.node("node2").client.call("whoami", {})).toMatchObject({ name: "admin", role: "admin" });
			await c.host.start();
			await until(
				"people are known again",
				async () => (await outcome(ann.at("node2").call("whoami", {}))) === "done",
			);
		},
		LIMIT_MS,
	);
});
