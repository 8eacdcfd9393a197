/**
 * `bun run demo`: the main job on this machine, from nothing to an answer, with the commands that a user types.
 * A hub on the loopback interface serves a model made a moment ago that knows one sentence; a host and two nodes run
 * as separate processes of the compiled binary in a home of their own; the answer has to be the sentence.
 * Exits 0, or 1 and says where it differed. Ctrl-C takes everything down too.
 */
import { existsSync, mkdirSync, readFileSync, statfsSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { writeGguf, writeSafetensorsRepository } from "../test/support/known-answer-model.ts";
import { type Hub, startHub } from "../test/support/loopback-hub.ts";
import { missingFiles, sizeOf } from "./demo/compare-files.ts";
import { Difference, inUnits, Stage } from "./demo/stage.ts";

const BINARY = resolve(import.meta.dir, "../dist/gswarm");
const SENTENCE = "This answer came from the hub over two nodes into memory, word by word.";
const MODEL_BYTES = 128_000_000;
const SHARDS = 4;
const MEMORY_DIR = "/dev/shm";
/** The model, room to stage it, and a rest. */
const MEMORY_NEEDED = 3;

interface Story {
	stage: Stage;
	hub: Hub;
	/** What the hub serves: one directory per repository. */
	shelf: string;
}

process.exit(await main());

async function main(): Promise<number> {
	if (!existsSync(BINARY)) {
		console.error(`demo: ${BINARY} is missing; \`bun run build\` makes it.`);
		return 1;
	}
	// Before there is anything to take down.
	const interrupted = new Promise<string>((stop) => {
		for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => stop(signal));
	});
	await using stage = new Stage(BINARY);
	const told = perform(stage).then(
		() => "",
		(error: unknown) => error,
	);
	const end = await Promise.race([told, interrupted]);
	if (end === "") {
		stage.printMeasures();
		console.log("\nThe answer was the sentence, and nothing is left behind.");
		return 0;
	}
	if (typeof end === "string") {
		console.error(`\ndemo: ended by ${end}; taking everything down.`);
		return 130;
	}
	const reason = end instanceof Difference ? end.message : Bun.inspect(end);
	console.error(`\ndemo: different in step "${stage.title}": ${reason}`);
	stage.printLogs();
	return 1;
}

async function perform(stage: Stage): Promise<void> {
	const shelf = join(stage.home, "shelf");
	const sizeBytes = modelBytes();
	await stage.step("make a model that knows one sentence", async () => {
		mkdirSync(join(shelf, "tiny-GGUF"), { recursive: true });
		const options = { name: "tiny", say: SENTENCE, sizeBytes, shards: SHARDS };
		const { sizeBytes: written } = writeGguf(join(shelf, "tiny-GGUF/tiny-F32.gguf"), options);
		writeSafetensorsRepository(join(shelf, "tiny"), options);
		return 2 * written;
	});
	const hub = startHub({
		repositories: {
			"acme/tiny-GGUF": { dir: join(shelf, "tiny-GGUF") },
			"acme/tiny": { dir: join(shelf, "tiny") },
		},
	});
	try {
		await mainJob({ stage, hub, shelf });
	} finally {
		hub.stop();
	}
}

async function mainJob({ stage, hub, shelf }: Story): Promise<void> {
	stage.environment.HF_ENDPOINT = hub.url;
	const ggufBytes = sizeOf(join(shelf, "tiny-GGUF"));
	const shardBytes = sizeOf(join(shelf, "tiny"));
	for (const dir of [".gswarm", "node1", "node2"]) trustHub(join(stage.home, dir), hub);

	await stage.step("start the host", async () => {
		await stage.type("gswarm agent --host --port 0 --detach");
	});
	const { host_url: host } = JSON.parse(readFileSync(join(stage.home, ".gswarm/agent.json"), "utf8"));
	for (const name of ["node1", "node2"]) {
		await stage.step(`${name} joins`, async () => {
			const ports = "--node-port 0 --peer-port 0";
			const agent = `gswarm agent --join ${host} --node ${name} --data-dir ~/${name} ${ports} --detach`;
			await stage.type(`gswarm token create --join | ${agent}`);
		});
	}
	await stage.step("both nodes are there", async () => {
		const { stdout } = await stage.type("gswarm node list");
		for (const name of ["node1", "node2"]) stage.expect(`${name} in the list`, true, stdout.includes(name));
	});
	await stage.step("download a GGUF model from the hub to the disk of node1", async () => {
		await stage.type("gswarm model download tiny --source hf:acme/tiny-GGUF --to node1:disk");
		stage.expect("bytes that left the hub", ggufBytes, bytesSent(hub, ".gguf"));
		return ggufBytes;
	});
	await stage.step("download a repository of several files", async () => {
		await stage.type("gswarm model download tiny-hf --source hf:acme/tiny --to node1:disk");
		stage.expect("files missing on node1", [], missingFiles(join(shelf, "tiny"), join(stage.home, "node1")));
		return shardBytes;
	});
	await stage.step("copy the GGUF model to the disk of node2", async () => {
		await stage.type("gswarm model copy tiny --from node1:disk --to node2:disk");
		stage.expect(
			"files missing on node2",
			[],
			missingFiles(join(shelf, "tiny-GGUF"), join(stage.home, "node2")),
		);
		return ggufBytes;
	});
	await stage.step("copy the repository to the disk of node2", async () => {
		await stage.type("gswarm model copy tiny-hf --from node1:disk --to node2:disk");
		stage.expect("files missing on node2", [], missingFiles(join(shelf, "tiny"), join(stage.home, "node2")));
		return shardBytes;
	});
	await stage.step("move the GGUF model to the memory of node2", async () => {
		await stage.type("gswarm model move tiny --from node2:disk --to node2:dram");
		await stage.type("gswarm model list");
		return ggufBytes;
	});
	await stage.step("serve it from memory", async () => {
		await stage.type("gswarm model serve tiny --device node2:dram");
		await stage.type("gswarm service list");
	});
	await stage.step("ask", async () => {
		for (const stream of [false, true]) {
			const answer = await ask(stage, host, stream);
			stage.expect("the answer", SENTENCE, answer);
		}
	});
	await stage.step("stop the service", async () => {
		await stage.type("gswarm service stop tiny");
	});
	await stage.step("delete the models", async () => {
		await stage.type("gswarm model delete tiny --yes");
		await stage.type("gswarm model delete tiny-hf --yes");
		for (const name of ["node1", "node2"]) {
			const left = sizeOf(join(stage.home, name)) > ggufBytes;
			stage.expect(`a model left on the disk of ${name}`, false, left);
		}
	});
	await stage.step("stop the agents", async () => {
		await stage.type("gswarm agent stop --data-dir ~/node2");
		await stage.type("gswarm agent stop --data-dir ~/node1");
		await stage.type("gswarm agent stop");
		stage.expectNobodyLeft();
	});
}

/** Asks the host as any OpenAI client does; the whole answer, or the pieces of its stream put together. */
async function ask(stage: Stage, host: string, stream: boolean): Promise<string> {
	const messages = [{ role: "user", content: "Where did you come from?" }];
	const body = JSON.stringify({ model: "tiny", messages, stream });
	console.log(`    POST ${host}/v1/chat/completions ${body}`);
	const token = readFileSync(join(stage.home, ".gswarm/admin.token"), "utf8").trim();
	const response = await fetch(`${host}/v1/chat/completions`, {
		method: "POST",
		headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
		body,
	});
	const text = await response.text();
	stage.expect("the status of the answer", 200, response.status);
	const answer = stream
		? text
				.split("\n")
				.filter((line) => line.startsWith("data: {"))
				.map((line) => JSON.parse(line.slice("data: ".length)).choices[0]?.delta.content ?? "")
				.join("")
		: JSON.parse(text).choices[0].message.content;
	console.log(`      ${answer}`);
	return answer;
}

/** An agent refuses addresses of its own machine unless its configuration names them. */
function trustHub(dataDir: string, hub: Hub): void {
	mkdirSync(dataDir, { mode: 0o700 });
	const config = `sources:\n  allow: ["${hub.url}", "${hub.cdnUrl}"]\n`;
	writeFileSync(join(dataDir, "config.yaml"), config, { mode: 0o600 });
}

function bytesSent(hub: Hub, extension: string): number {
	const requests = hub.log().filter(({ server, path }) => server === "cdn" && path?.endsWith(extension));
	return requests.reduce((sum, request) => sum + request.bytesSent, 0);
}

/** The size that fits into memory; says so when it is less than wanted. */
function modelBytes(): number {
	if (!existsSync(MEMORY_DIR)) return MODEL_BYTES;
	const { bavail, bsize } = statfsSync(MEMORY_DIR);
	const fitting = Math.floor((bavail * bsize) / MEMORY_NEEDED);
	if (fitting >= MODEL_BYTES) return MODEL_BYTES;
	console.log(
		`${MEMORY_DIR} has ${inUnits(bavail * bsize)} free: the model has ${inUnits(fitting)}, not ${inUnits(MODEL_BYTES)}.`,
	);
	return fitting;
}
