// What people are told to do next, and whether that would work.
import { expect, test } from "bun:test";
import { createApiClient } from "../../src/api/client.ts";
import { createMessages } from "../../src/cli/messages.ts";
import { createStyle } from "../../src/cli/render/style.ts";
import { withSpinner } from "../../src/cli/spinner.ts";
import { fakeAgent } from "./support/fake-agent.ts";
import { run } from "./support/fake-world.ts";

test("the context goes along to commands of the cluster, and not to those of this machine", () => {
	const printed: string[] = [];
	const screen = { live: false, print: (text: string) => void printed.push(text) } as never;
	const say = createMessages(
		{ screen, style: createStyle(false) },
		{ quiet: false, debug: false, dataDir: undefined, context: "work" },
	);
	say.next(["node list", "agent --detach", "context list", "login URL"]);
	expect(printed.join("\n").split("\n")).toEqual([
		"next: gswarm node list --context work",
		"      gswarm agent --detach",
		"      gswarm context list",
		"      gswarm login URL",
	]);
});

test("a port of TLS that is asked in plain HTTP is told as that", async () => {
	const reset = Object.assign(new Error("The socket connection was closed"), { code: "ECONNRESET" });
	const client = createApiClient({
		baseUrl: "http://127.0.0.1:8000",
		token: () => undefined,
		send: () => Promise.reject(reset),
	});
	await expect(client.call("health", {})).rejects.toMatchObject({
		message: "http://127.0.0.1:8000 closed the connection.",
		hint: "If that port speaks TLS, it is https://127.0.0.1:8000.",
	});
});

test("a host that is called host is so named once", async () => {
	const health = {
		status: "ok",
		details: {
			role: "host",
			name: "host",
			version: "1",
			uptime_s: 1,
			cluster_id: "c",
			nodes: {},
			problems: [],
		},
	};
	const { stdout } = await run(["health"], { agent: fakeAgent({ health }) });
	expect(stdout).toMatch(/Agent\s+host\n/);
});

test("an action that there is not is told, with the one that may have been meant", async () => {
	const agent = fakeAgent({ listAudit: { entries: [], next_cursor: null, lost: 0 } });
	const { stderr } = await run(["audit", "--action", "deletModel"], { agent });
	expect(stderr).toContain("There is no action deletModel; did you mean deleteModel?");
});

test.each(["https://gpu1:8000", "gpu1:8000", "me@gpu1"])(
	"--advertise %s is refused by the name of its flag",
	async (name) => {
		const { code, stderr } = await run(["agent", "--advertise", name]);
		expect(code).toBe(2);
		expect(stderr).toContain(`--advertise "${name}"`);
	},
);

test("token create alone says between what to choose", async () => {
	const { code, stderr } = await run(["token", "create"], { agent: fakeAgent({}) });
	expect(code).toBe(2);
	expect(stderr).toMatch(/person's token.*join string/);
});

test("a terminal without columns is not spun in", async () => {
	const screen = { live: true, width: () => -1 } as never;
	expect(await withSpinner({ screen, globals: { quiet: false } as never }, "x", async () => 7)).toBe(7);
});
