import { describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { COMPLETION_FILES } from "../../scripts/completions.ts";
import { completionSpec } from "../../src/cli/completion/read-tree.ts";
import { SHELLS, completionScript } from "../../src/cli/completion/script.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";
import { PROGRAM, type SocketAgent, gswarm, onTerminal, serveAgent } from "./support/child.ts";
import { type Script, fakeAgent } from "./support/fake-agent.ts";
import { run } from "./support/fake-world.ts";
import { DONE, MODEL, NODE, SERVICE, TOKEN } from "./support/samples.ts";

const LIMIT_MS = 60_000;
const SCRIPT: Script = {
	listNodes: { nodes: [NODE, { ...NODE, name: "node2" }], total: 2 },
	listModels: { models: [MODEL, { ...MODEL, model_name: "other" }], total: 2, page: 1, per_page: 200 },
	listServices: { services: [SERVICE], total: 1 },
	queueHistory: { tasks: [DONE], next_cursor: null },
	listTokens: {
		tokens: [TOKEN, { ...TOKEN, token_id: "gone0000", name: "bob", status: "revoked" }],
		total: 2,
	},
};

describe("completion scripts", () => {
	for (const shell of SHELLS) {
		test(`completions/${COMPLETION_FILES[shell]} is what the command tree makes (bun scripts/completions.ts writes it)`, async () => {
			const file = new URL(`../../completions/${COMPLETION_FILES[shell]}`, import.meta.url);
			const made = completionScript(shell, await completionSpec());
			expect(await Bun.file(file).text()).toBe(made);
			expect((await run(["completions", shell])).stdout).toBe(made);
		});
	}

	test("another shell is refused with the list", async () => {
		const { code, stderr } = await run(["completions", "tcsh"]);
		expect(code).toBe(2);
		expect(stderr).toContain("bash, zsh, fish");
	});
});

describe("live names", () => {
	const NAMES = {
		models: "acme/tiny\nother\n",
		nodes: "node1\nnode2\n",
		devices: "node1:disk\nnode1:dram\nnode2:disk\nnode2:dram\n",
		tasks: "download-tiny-k3v9x2ma\n",
		services: "svc-tiny-node2-dram-910b\n",
		tokens: "ann-laptop\n",
		contexts: "local\n",
	};
	for (const [kind, expected] of Object.entries(NAMES)) {
		test(`__complete ${kind} prints them, one a line`, async () => {
			const { stdout, code } = await run(["__complete", kind], { agent: fakeAgent(SCRIPT) });
			expect({ stdout, code }).toEqual({ stdout: expected, code: 0 });
		});
	}

	test("whatever goes wrong, a shell hears nothing of it", async () => {
		expect(await run(["__complete", "models"])).toMatchObject({ code: 0, stdout: "", stderr: "" });
		expect(await run(["__complete", "models"], { agent: fakeAgent({}) })).toMatchObject({
			stdout: "",
			stderr: "",
		});
	});

	test(
		"an agent that hangs is not waited for",
		async () => {
			await using agent = serveAgent({ ...fakeAgent({}), send: () => new Promise(() => {}) });
			const from = performance.now();
			expect(await gswarm(["__complete", "models"], agent.environment)).toMatchObject({
				code: 0,
				stdout: "",
			});
			expect(performance.now() - from).toBeLessThan(10_000);
		},
		LIMIT_MS,
	);
});

/** The line of a real, interactive bash after one Tab, without anybody's configuration. */
async function tabInBash(agent: SocketAgent, typed: string, { setup = "" } = {}): Promise<string> {
	using dir = tempDir();
	const bin = join(dir.path, "bin");
	mkdirSync(bin);
	writeFileSync(join(bin, "gswarm"), `#!/bin/sh\nexec "${process.execPath}" "${PROGRAM}" "$@"\n`);
	chmodSync(join(bin, "gswarm"), 0o755);
	const rc = join(dir.path, "rc");
	const script = new URL("../../completions/gswarm.bash", import.meta.url).pathname;
	// Ctrl-X d shows the line as readline has it.
	const show = `bind -x '"\\C-xd": printf "LINE[%s]END" "$READLINE_LINE"'`;
	writeFileSync(rc, `PS1='READY> '\nbind 'set bell-style none'\n${show}\nsource "${script}"\n${setup}\n`);
	const env = { ...agent.environment, PATH: `${bin}:${agent.environment.PATH}` };
	await using bash = onTerminal(["bash", "--noprofile", "--rcfile", rc, "-i"], env);
	await until("bash is ready", () => bash.shown().includes("READY> "));
	bash.type(`${typed}\t\u0018d`);
	return await until("it shows its line", () => /LINE\[(.*)\]END/.exec(bash.shown())?.[1]);
}

describe("in a real bash", () => {
	const TABS: readonly (readonly [string, string])[] = [
		["gswarm mod", "gswarm model "],
		["gswarm model dow", "gswarm model download "],
		["gswarm model copy acme/t", "gswarm model copy acme/tiny "],
		["gswarm model copy acme/tiny --fr", "gswarm model copy acme/tiny --from "],
		// Device names hold ":", at which readline splits.
		["gswarm model copy x --from node1:di", "gswarm model copy x --from node1:disk "],
		["gswarm model copy x --from=node2:dr", "gswarm model copy x --from=node2:dram "],
		["gswarm model copy x node1:disk node2:dr", "gswarm model copy x node1:disk node2:dram "],
		["gswarm ps -o wi", "gswarm ps -o wide "],
		["gswarm --json rm ot", "gswarm --json rm other "],
		["gswarm queue cancel down", "gswarm queue cancel download-tiny-k3v9x2ma "],
		["gswarm service logs sv", "gswarm service logs svc-tiny-node2-dram-910b "],
		["gswarm completions fi", "gswarm completions fish "],
		["gswarm agent --data-dir /et", "gswarm agent --data-dir /etc/"],
		["gswarm model show zzz", "gswarm model show zzz"],
	];
	for (const [typed, expected] of TABS) {
		test(
			`${typed}⇥ becomes ${expected}`,
			async () => {
				await using agent = serveAgent(fakeAgent(SCRIPT));
				expect(await tabInBash(agent, typed)).toBe(expected);
			},
			LIMIT_MS,
		);
	}

	test(
		'a shell that does not split at ":" and "=" completes the same',
		async () => {
			await using agent = serveAgent(fakeAgent(SCRIPT));
			const setup = "COMP_WORDBREAKS=${COMP_WORDBREAKS//[:=]/}";
			expect(await tabInBash(agent, "gswarm model list --location=node1:di", { setup })).toBe(
				"gswarm model list --location=node1:disk ",
			);
		},
		LIMIT_MS,
	);

	test(
		"a name that holds a command is text, never run",
		async () => {
			using dir = tempDir();
			const mark = join(dir.path, "was-run");
			const models = {
				models: [{ ...MODEL, model_name: `evil$(touch ${mark})` }],
				total: 1,
				page: 1,
				per_page: 200,
			};
			const { stdout } = await run(["__complete", "models"], { agent: fakeAgent({ listModels: models }) });
			expect(stdout).toBe("");
			// And should one come, it is compared as text.
			const script = new URL("../../completions/gswarm.bash", import.meta.url).pathname;
			const line = `source ${script}; gswarm() { printf '%s\\n' 'evil$(touch ${mark})'; }; COMP_LINE='gswarm model show ev'; COMP_POINT=\${#COMP_LINE}; _gswarm; printf '%s' "\${COMPREPLY[@]}"`;
			const answer = Bun.spawnSync(["bash", "-c", line]);
			expect(answer.stdout.toString()).toBe(`evil$(touch ${mark})`);
			expect(await Bun.file(mark).exists()).toBe(false);
		},
		LIMIT_MS,
	);
});
