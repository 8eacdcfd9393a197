import { argumentsOf } from "../../src/cli/detach.ts";
import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { AGENT_DEFAULTS } from "../../src/agent/options.ts";
import { type AgentFlags, agentOptions, parseDisk } from "../../src/cli/agent-options.ts";
import type { AgentOptions } from "../../src/cli/agent.ts";
import { parseArguments } from "../../src/cli/arguments.ts";
import { command } from "../../src/cli/commands/agent.ts";
import { GLOBAL_ARGS } from "../../src/cli/global-flags.ts";
import { createContext } from "../../src/cli/context.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { tempDir } from "../support/temp-dir.ts";
import { run } from "./support/fake-world.ts";

/** What a command line comes to; `input` is what is piped in, or undefined for a terminal where `typed` is typed. */
async function options(line: string, input?: string, typed = ""): Promise<AgentOptions> {
	const words = line.split(" ").filter((word) => word !== "");
	const args = { ...GLOBAL_ARGS, ...command.definition.args };
	const values = parseArguments(words, args, { command: "gswarm agent" });
	const sink = { isTty: false, columns: () => undefined, write: () => {} };
	const context = createContext(
		{
			environment: {
				dataDir: "/home/x/.gswarm",
				hostUrl: undefined,
				tokenFile: undefined,
				caFile: undefined,
				noColor: true,
			},
			clock: systemClock,
			terminal: {
				stdin: {
					isTty: input === undefined,
					readAll: () => Promise.resolve(""),
					readLine: () =>
						input === undefined ? Promise.reject(new Error("a terminal was read")) : Promise.resolve(input),
					readHidden: (_limit, ask) => {
						ask();
						return Promise.resolve(typed);
					},
				},
				stdout: sink,
				stderr: sink,
				onInterrupt: () => ({ [Symbol.dispose]: () => {} }),
			},
		},
		values as never,
		{ completionSpec: () => Promise.reject(new Error("not wanted here")) },
	);
	return await agentOptions(context, values as unknown as AgentFlags);
}

const PLAIN = { dataDir: "/home/x/.gswarm", disks: [], logLevel: "info" as const };

describe("the flags of gswarm agent", () => {
	const ROLES: readonly (readonly [string, NonNullable<AgentOptions["role"]>])[] = [
		["--host", { host: true, node: false }],
		["--host --node n1", { host: true, node: true }],
		["--join http://127.0.0.1:8000", { host: false, node: true }],
	];
	for (const [line, role] of ROLES) {
		test(`"${line}" is host: ${role.host}, node: ${role.node}`, async () => {
			expect((await options(line)).role).toEqual(role);
		});
	}

	test("without a flag that says it the role is what the data directory is", async () => {
		for (const line of ["", "--node n1"]) expect((await options(line)).role).toBeUndefined();
	});

	test("what is not given stays undefined, for the configuration to say", async () => {
		expect(await options("")).toEqual(PLAIN);
	});

	test("all of them arrive", async () => {
		const line =
			"--host --node n1 --data-dir rel --bind 127.0.0.2 --advertise gpu1.lan --advertise 10.0.0.1 --tls --tls-cert /c.pem --tls-key /k.pem --port 1 --node-port 2 --peer-port 0 --disk /a=2TB --disk /b --dram 64GB --sim-gpu 8GB --sim-gpu 1GiB --log-level debug";
		expect(await options(line)).toEqual({
			role: { host: true, node: true },
			nodeName: "n1",
			dataDir: resolve("rel"),
			bind: "127.0.0.2",
			advertise: ["gpu1.lan", "10.0.0.1"],
			tls: true,
			tlsFiles: { certificate: "/c.pem", key: "/k.pem" },
			hostPort: 1,
			nodePort: 2,
			peerPort: 0,
			disks: [{ path: "/a", sizeBytes: 2e12 }, { path: "/b" }],
			dramBytes: 64e9,
			simulatedGpus: [8e9, 2 ** 30],
			logLevel: "debug",
		});
	});

	test("an agent in the background gets every one of them", async () => {
		const lines = [
			"--host --node n1 --data-dir rel --bind 127.0.0.2 --advertise gpu1.lan --advertise 10.0.0.1 --tls --tls-cert /c.pem --tls-key /k.pem --port 1 --node-port 2 --peer-port 0 --disk /a=2TB --disk /b --dram 64GB --sim-gpu 8GB --sim-gpu 1GiB --log-level debug",
			"--join http://127.0.0.1:8000",
		];
		for (const line of lines) {
			const given = await options(line);
			const [word, ...args] = argumentsOf(given);
			expect(word).toBe("agent");
			expect(await options(args.join(" "))).toEqual(given);
		}
	});

	test("the help names the agent's own defaults", () => {
		const said = Object.values(command.definition.args).map((arg) => arg.description ?? "");
		for (const value of Object.values(AGENT_DEFAULTS)) {
			expect(said.filter((text) => text.endsWith(`(default: ${value})`)).length).toBe(1);
		}
	});

	test("a disk's size stands behind the last =", () => {
		expect(parseDisk("/mnt/a=b=1GB")).toEqual({ path: "/mnt/a=b", sizeBytes: 1e9 });
		for (const text of ["=1GB", "/a=", "/a=huge"]) expect(() => parseDisk(text)).toThrow(/wanted PATH/);
	});

	test("the join string comes from standard input", async () => {
		expect((await options("--join 127.0.0.1", "  GSW10::id.secret \n")).joinString).toBe("GSW10::id.secret");
		// A machine that has joined before is started with nothing there.
		expect(await options("--join 127.0.0.1", "")).toEqual({
			role: { host: false, node: true },
			joinUrl: "http://127.0.0.1:8000",
			...PLAIN,
		});
	});

	test("at a terminal it is asked for, unless the machine has joined before or nothing may be asked", async () => {
		using dir = tempDir();
		const line = `--join 127.0.0.1 --data-dir ${dir.path}`;
		const joinString = async (words: string) =>
			(await options(words, undefined, " GSW10::id.typed ")).joinString;
		expect(await joinString(line)).toBe("GSW10::id.typed");
		expect(await joinString(`${line} --no-input`)).toBeUndefined();
		writeFileSync(join(dir.path, "node.json"), JSON.stringify({ name: "n1" }));
		expect(await joinString(line)).toBe("GSW10::id.typed");
		writeFileSync(join(dir.path, "node.json"), JSON.stringify({ name: "n1", joined: {} }));
		expect(await joinString(line)).toBeUndefined();
	});

	test("or from a file that nobody else may read", async () => {
		using dir = tempDir();
		const file = join(dir.path, "join");
		writeFileSync(file, "GSW10::id.secret\n", { mode: 0o600 });
		expect((await options(`--join 127.0.0.1 --join-file ${file}`)).joinString).toBe("GSW10::id.secret");
		const open = join(dir.path, "open");
		writeFileSync(open, "GSW10::id.secret\n", { mode: 0o644 });
		const { code, stderr } = await run(["agent", "--join", "127.0.0.1", "--join-file", open]);
		expect(code).toBe(2);
		expect(stderr).toContain(`chmod 600 ${open}`);
		expect(stderr).not.toContain("secret");
	});

	test("the input is not read when nobody joins", async () => {
		expect(await options("", "GSW10::id.secret")).toEqual(PLAIN);
	});

	const REFUSED: readonly (readonly [string, string])[] = [
		["--host 0.0.0.0", "did you mean `--bind 0.0.0.0`?"],
		["--host=0.0.0.0", "did you mean `--bind 0.0.0.0`?"],
		["--host --join 127.0.0.1", "exclude each other"],
		["--join-file x", "--join-file needs --join"],
		["--tls-cert c.pem", "--tls-cert and --tls-key go together"],
		["--tls-key k.pem", "--tls-cert and --tls-key go together"],
		["--join ftp://h", "is not an agent's address"],
		["--join http://u:p@h:1", "is not an agent's address"],
		["--port 99999", "wanted a port"],
		["--port -1", "needs a value"],
		["--node ../x", "is not a node name"],
		["--dram lots", "wanted a size"],
		["--disk /a=lots", "wanted PATH"],
		["--log-level trace", "is not known"],
		["start", 'does not take "start"'],
	];
	for (const [line, said] of REFUSED) {
		test(`${line} is exit 2: ${said}`, async () => {
			const { code, stdout, stderr } = await run(["agent", ...line.split(" ")]);
			expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
			expect(stderr).toContain(said);
		});
	}
});
