import { describe, expect, test } from "bun:test";
import { fakeAgent } from "./support/fake-agent.ts";
import { NOW_MS, run } from "./support/fake-world.ts";
import { TOKEN } from "./support/samples.ts";

const NOW_S = NOW_MS / 1000;
const SECRET = "gsw_user_k3v9x2ma_canary_000000";
const MADE = {
	token: SECRET,
	token_id: "k3v9x2ma",
	expires_at: null,
	uses: null,
	command: "gswarm login https://gpu1.lan:8000 --ca-pin 00ff",
};

describe("token create for a person", () => {
	test("prints the token alone on stdout, and the login beside it", async () => {
		const agent = fakeAgent({ createToken: MADE });
		const { code, stdout, stderr } = await run("token create --role user --name ann-laptop".split(" "), {
			agent,
		});
		expect({ code, stdout }).toEqual({ code: 0, stdout: `${SECRET}\n` });
		expect(stderr).toContain(MADE.command);
		expect(stderr).toContain("until it is revoked");
		expect(stderr).not.toContain(SECRET);
		expect(agent.only("createToken").body).toEqual({ kind: "user", role: "user", name: "ann-laptop" });
	});

	test("takes a time to live", async () => {
		const agent = fakeAgent({ createToken: { ...MADE, expires_at: NOW_S + 3600 } });
		const { stderr } = await run("token create --role inference --name app --ttl 1h".split(" "), { agent });
		expect(agent.only("createToken").body).toMatchObject({ ttl_s: 3600 });
		expect(stderr).toContain("good for 1h");
	});

	test.each([
		["token create --role user", "--name is missing"],
		["token create --name ann", "--role is missing"],
		["token create --join --role user", "--join makes a string for machines"],
		["token create --join --name ann", "--join makes a string for machines"],
		["token create --role user --name ann --uses 2", "of a join string"],
		["token create --role user --name ann --ttl 0", "at least a second"],
		["token create --role root --name ann", "viewer, inference, user, operator, admin"],
		["token create --role user --name ../x", "not a token's name"],
		["token create --role user --name admin", "has a meaning of its own"],
	])("%s is refused before anybody is asked", async (line, words) => {
		const agent = fakeAgent({});
		const { code, stderr } = await run(line.split(" "), { agent });
		expect(code).toBe(2);
		expect(stderr).toContain(words);
		expect(agent.seen).toEqual([]);
	});
});

describe("token list", () => {
	const tokens = [
		TOKEN,
		{ ...TOKEN, token_id: "gone0000", name: "bob", status: "revoked" as const },
		{
			...TOKEN,
			token_id: "join0000",
			kind: "join" as const,
			name: null,
			role: "join",
			uses_left: 2,
			expires_at: NOW_S + 600,
		},
	];
	const agent = () => fakeAgent({ listTokens: { tokens, total: tokens.length } });

	test("shows who may get in, and with --all who could", async () => {
		const { stdout } = await run(["token", "list"], { agent: agent() });
		expect(stdout).toContain("ann-laptop");
		expect(stdout).toContain("2 more");
		expect(stdout).not.toContain("bob");
		expect((await run(["token", "list", "--all"], { agent: agent() })).stdout).toContain("bob");
		expect((await run(["token", "list", "-q"], { agent: agent() })).stdout).toBe("ann-laptop\njoin0000\n");
	});

	test("an empty one says how to make one", async () => {
		const empty = fakeAgent({ listTokens: { tokens: [], total: 0 } });
		const { stderr } = await run(["token", "list"], { agent: empty });
		expect(stderr).toContain("gswarm token create --role user --name NAME");
	});
});

describe("token revoke", () => {
	const revoked = { ...TOKEN, status: "revoked" as const, nodes_not_reached: ["node2"] };

	test("names the nodes that could not be told", async () => {
		const agent = fakeAgent({ revokeToken: revoked });
		const { code, stderr } = await run(["token", "revoke", "ann-laptop"], { agent });
		expect(code).toBe(0);
		expect(stderr).toContain("Revoked ann-laptop.");
		expect(stderr).toContain("node2");
		expect(agent.only("revokeToken").params).toEqual({ token_id: "ann-laptop" });
	});

	test("asks first on a terminal", async () => {
		const agent = fakeAgent({ revokeToken: revoked });
		const terminal = { agent, columns: 80, stdinIsTty: true, input: "n" };
		expect((await run(["token", "revoke", "ann-laptop"], terminal)).code).toBe(1);
		expect(agent.seen).toEqual([]);
	});
});

test("whoami says as whom, and to whom", async () => {
	const me = {
		token_id: "k3v9x2ma",
		name: "ann-laptop",
		role: "user",
		expires_at: NOW_S + 60,
		agent: { role: "host" as const, name: "host", cluster_id: "c1" },
	};
	const { code, stdout } = await run(["whoami"], { agent: fakeAgent({ whoami: me }) });
	expect(code).toBe(0);
	for (const word of ["ann-laptop", "user", "host", "c1"]) expect(stdout).toContain(word);
	expect((await run(["whoami", "-q"], { agent: fakeAgent({ whoami: me }) })).stdout).toBe("ann-laptop\n");
});
