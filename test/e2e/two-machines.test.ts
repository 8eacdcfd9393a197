/**
 * Two machines that see each other over a real network and nothing else: network namespaces with a cable between them.
 * A cluster begins on one of them, is opened to the network, and the other one joins with what is pasted there.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import {
	existsSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	rmSync,
	symlinkSync,
	writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { BINARY } from "../support/agents.ts";
import { writeGguf } from "../support/known-answer-model.ts";
import { requires } from "../support/requires.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const SUITE = "a second machine joins over a real network";
const isRoot = process.getuid?.() === 0;
if (!isRoot) console.error(`SKIP (needs root, for network namespaces): ${SUITE}`);
const withNetwork = isRoot && requires("ip", SUITE, "iproute2") ? test : test.skip;

const HOST = "10.77.0.1";
const OTHER = "10.77.0.2";
const MODEL_BYTES = 24_000_000;
const LIMIT_MS = 120_000;

type Machine = "a" | "b";
interface Said {
	code: number;
	stdout: string;
	stderr: string;
}

const home = tempDir();
const dirOf = (machine: Machine): string => join(home.path, machine);
const network = (machine: Machine): string => `gswarm-test-${process.pid}-${machine}`;
const running = new Set<Bun.Subprocess>();

async function ip(...args: string[]): Promise<void> {
	const child = Bun.spawn(["ip", ...args], { stdout: "ignore", stderr: "pipe" });
	const problem = await new Response(child.stderr).text();
	if ((await child.exited) !== 0) throw new Error(`ip ${args.join(" ")}: ${problem}`);
}

/** A shell on one of the machines, with gswarm in its PATH and a home of its own. */
function on(machine: Machine, script: string, environment: Record<string, string> = {}) {
	return Bun.spawn(["ip", "netns", "exec", network(machine), "bash", "-c", script], {
		env: {
			PATH: `${join(home.path, "bin")}:${process.env.PATH}`,
			HOME: dirOf(machine),
			GSWARM_HOME: dirOf(machine),
			...environment,
		},
		cwd: home.path,
		stdin: "ignore",
		stdout: "pipe",
		stderr: "pipe",
	});
}

async function say(machine: Machine, script: string, environment?: Record<string, string>): Promise<Said> {
	const child = on(machine, script, environment);
	const [stdout, stderr, code] = await Promise.all([
		new Response(child.stdout).text(),
		new Response(child.stderr).text(),
		child.exited,
	]);
	return { code, stdout, stderr };
}

/** As `say`, and fails the test when the command does. */
async function run(machine: Machine, script: string, environment?: Record<string, string>): Promise<string> {
	const { code, stdout, stderr } = await say(machine, script, environment);
	if (code !== 0) throw new Error(`${script} exited ${code}:\n${stdout}${stderr}`);
	return stdout;
}

/** What a port answers to plain HTTP; it has to be open. */
async function knock(from: Machine, address: string, port: number): Promise<string> {
	const request = String.raw`GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`;
	const script = `exec 3<>/dev/tcp/${address}/${port}; printf '${request}' >&3; cat <&3`;
	const { stdout, stderr } = await say(from, script);
	if (stderr.includes("refused")) throw new Error(`${address}:${port} is closed`);
	return stdout;
}

/** An agent in the foreground of its machine, when it is ready. */
async function agent(machine: Machine, script: string): Promise<{ stop(): Promise<void>; banner: string }> {
	const child = on(machine, `exec ${script}`);
	running.add(child);
	let banner = "";
	let errors = "";
	void (async () => {
		for await (const piece of child.stdout.pipeThrough(new TextDecoderStream())) banner += piece;
	})();
	void (async () => {
		for await (const piece of child.stderr.pipeThrough(new TextDecoderStream())) errors += piece;
	})();
	await until(`the agent of ${machine} is ready`, () => {
		if (child.exitCode !== null) throw new Error(`it exited ${child.exitCode}: ${errors}`);
		return banner.includes("is ready") && existsSync(join(dirOf(machine), "agent.json"));
	});
	return {
		banner,
		async stop() {
			child.kill("SIGTERM");
			await child.exited;
			running.delete(child);
		},
	};
}

/** Every file of the disk tier's copy of the model, hashed. */
function copyOn(machine: Machine): Record<string, string> {
	const models = join(dirOf(machine), "disk/models/tiny");
	const [revision = ""] = readdirSync(models);
	const files = readdirSync(join(models, revision)).filter((name) => !name.startsWith(".gswarm"));
	return Object.fromEntries(
		files.map((name) => [name, String(Bun.hash(readFileSync(join(models, revision, name))))]),
	);
}

beforeAll(async () => {
	if (withNetwork === test.skip) return;
	for (const machine of ["a", "b"] as const) {
		mkdirSync(dirOf(machine), { mode: 0o700 });
		await ip("netns", "add", network(machine));
		await ip("-n", network(machine), "link", "set", "lo", "up");
	}
	const ends = ["a", "b"].map((end) => `gst${process.pid % 100_000}${end}`) as [string, string];
	await ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1]);
	for (const [machine, end, address] of [
		["a", ends[0], HOST],
		["b", ends[1], OTHER],
	] as const) {
		await ip("link", "set", end, "netns", network(machine));
		await ip("-n", network(machine), "address", "add", `${address}/24`, "dev", end);
		await ip("-n", network(machine), "link", "set", end, "up");
	}
	mkdirSync(join(home.path, "bin"));
	symlinkSync(BINARY, join(home.path, "bin/gswarm"));
	mkdirSync(join(home.path, "shelf"));
	writeGguf(join(home.path, "shelf/tiny.gguf"), {
		name: "tiny",
		say: "Over the wire.",
		sizeBytes: MODEL_BYTES,
	});
	const config = `import_folders: [${join(home.path, "shelf")}]\n`;
	writeFileSync(join(dirOf("a"), "config.yaml"), config, { mode: 0o600 });
}, LIMIT_MS);

afterAll(async () => {
	for (const child of running) child.kill("SIGKILL");
	await Promise.all([...running].map((child) => child.exited));
	for (const machine of ["a", "b"] as const) {
		const path = join(dirOf(machine), "node.json");
		if (existsSync(path)) {
			const { node_id: id } = JSON.parse(readFileSync(path, "utf8")) as { node_id: string };
			rmSync(`/dev/shm/gswarm-${id}`, { recursive: true, force: true });
		}
		// With the namespace goes its end of the cable, and with that the other one.
		if (withNetwork === test) await ip("netns", "delete", network(machine)).catch(() => undefined);
	}
	home[Symbol.dispose]();
}, LIMIT_MS);

withNetwork(
	"a cluster of one machine is opened to the network, a second machine joins with one pasted command, and a model goes over",
	async () => {
		// 1. One machine, as everybody begins.
		const before = await agent("a", "gswarm agent --node gpu1 --dram 1MB");
		const source = `file://${join(home.path, "shelf/tiny.gguf")}`;
		await run("a", `gswarm model download tiny --source ${source} --to gpu1:disk`);
		expect((await say("b", `exec 3<>/dev/tcp/${HOST}/8000`)).stderr).toContain("refused");
		await before.stop();

		// 2. The same, open to others: over TLS, with everything it had.
		const host = await agent("a", "gswarm agent --bind 0.0.0.0 --dram 1MB");
		expect(host.banner).toContain(`https://${HOST}:8000`);
		expect(host.banner).toContain("gswarm token create --join");
		expect(JSON.parse(await run("a", "gswarm model list --json"))).toMatchObject({
			models: [{ model_name: "tiny", locations: ["gpu1:disk"] }],
		});
		for (const port of [8000, 8001, 8002]) {
			expect(await knock("b", HOST, port)).toBe("");
		}

		// 3. What is printed there is pasted here.
		const { token, command } = JSON.parse(await run("a", "gswarm token create --join --json")) as {
			token: string;
			command: string;
		};
		expect(command).toBe(`gswarm agent --join https://${HOST}:8000`);
		const other = await agent("b", `${command} --node gpu2 --dram 1MB <<'.'\n${token}\n.\n`);
		expect(other.banner).toContain(`joined    https://${HOST}:8000`);
		const file = JSON.parse(readFileSync(join(dirOf("b"), "agent.json"), "utf8")) as { node_url: string };
		expect(file.node_url).toBe(`https://${OTHER}:8001`);
		const nodes = await until("both are alive", async () => {
			const all = JSON.parse(await run("a", "gswarm node list --json")) as {
				nodes: { name: string; status: string; address: string; last_seen_s: number | null }[];
			};
			const isHeard = all.nodes.every((it) => it.status === "alive" && it.last_seen_s !== null);
			return isHeard ? all.nodes : undefined;
		});
		expect(nodes.map((it) => `${it.name} ${it.address}`)).toEqual([`gpu1 ${HOST}`, `gpu2 ${OTHER}`]);
		expect(await run("b", "gswarm model list --json")).toContain('"models": []');

		// 4. A model goes over, and a person on the other machine sees it there with the host's token and CA.
		await run("a", "gswarm model copy tiny --from gpu1:disk --to gpu2:disk");
		expect(copyOn("b")).toEqual(copyOn("a"));
		const elsewhere = {
			GSWARM_HOST: `https://${HOST}:8000`,
			GSWARM_TOKEN_FILE: join(dirOf("a"), "admin.token"),
			GSWARM_CA_FILE: join(dirOf("a"), "ca.pem"),
		};
		const seen = JSON.parse(await run("b", "gswarm model locations tiny --json", elsewhere)) as {
			locations: { device: string }[];
		};
		expect(seen.locations.map((it) => it.device)).toEqual(["gpu1:disk", "gpu2:disk"]);

		// 5. It goes on after a restart of either, without a string.
		await other.stop();
		const again = await agent("b", "gswarm agent --dram 1MB");
		await until("it is back", async () => (await run("a", "gswarm node list")).match(/gpu2 +alive/) !== null);
		await host.stop();

		// 6. Where the operator says that nobody else is on this network, parts need no TLS, and all else has it still.
		const config = readFileSync(join(dirOf("a"), "config.yaml"), "utf8");
		writeFileSync(join(dirOf("a"), "config.yaml"), `${config}cluster: {trusted_network: true}\n`);
		const trusting = await agent("a", "gswarm agent --bind 0.0.0.0 --dram 1MB");
		await until("both give parts without TLS", async () => {
			const [one, two] = await Promise.all([knock("b", HOST, 8002), knock("a", OTHER, 8002)]);
			return one.startsWith("HTTP/1.1") && two.startsWith("HTTP/1.1");
		});
		for (const port of [8000, 8001]) expect(await knock("b", HOST, port)).toBe("");
		await run("a", "gswarm model delete tiny --device gpu2:disk --force --yes");
		await run("a", "gswarm model copy tiny --from gpu1:disk --to gpu2:disk");
		expect(copyOn("b")).toEqual(copyOn("a"));
		await again.stop();
		await trusting.stop();
	},
	LIMIT_MS,
);
