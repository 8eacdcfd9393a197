/**
 * A stand-in for `gswarm __engine`: a real child process with the same flags, log lines, HTTP routes and exit codes,
 * and no model. `fixtureEngine({ crashAfterMs: 50 })` gives the command for createLlamaEngine.
 *
 * Answers: POST /v1/chat/completions gives "echo: <last message>", as SSE with `stream`, `pieces` of it `gapMs` apart.
 * GET /fixture tells the environment, headers and bodies it got, and which requests were cancelled.
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

export interface FixtureSwitches {
	/** Answers 503 `loading` this long. */
	loadMs?: number;
	/** Exits with code 1 and a last word this long after it is ready. */
	crashAfterMs?: number;
	/** Never answers a health check once ready. */
	hang?: boolean;
	ignoreSigterm?: boolean;
	/** Leaves at SIGTERM without finishing what is under way. */
	dropAtSigterm?: boolean;
	/** Exits with this code at once, after a `failed` line with the message. */
	exitCode?: number;
	message?: string;
	/** Pieces of a streamed answer, and the pause between them. */
	pieces?: number;
	gapMs?: number;
	/** Says another instance id than it was given. */
	lie?: boolean;
}

/** The command of an engine with these switches. */
export function fixtureEngine(switches: FixtureSwitches = {}): string[] {
	return [process.execPath, fileURLToPath(import.meta.url), "--switches", JSON.stringify(switches)];
}

/** What GET /fixture tells. */
export interface FixtureReport {
	environment: Record<string, string>;
	requests: { path: string; headers: Record<string, string>; body: string }[];
	cancelled: number;
}

const FLAGS = [
	"switches",
	"model",
	"alias",
	"host",
	"port",
	"ctx-size",
	"parallel",
	"threads",
	"instance-id",
	"cache-dir",
	"orphan-timeout-s",
	"drain-timeout-s",
	"queue-limit",
] as const;

if (import.meta.main) run();

function run(): void {
	const { values } = parseArgs({
		args: process.argv.slice(2),
		options: Object.fromEntries(FLAGS.map((flag) => [flag, { type: "string" as const }])),
		strict: true,
	});
	const switches = JSON.parse(values["switches"] ?? "{}") as FixtureSwitches;
	const instanceId = String(values["instance-id"]);
	const told = switches.lie === true ? `${instanceId}-not` : instanceId;
	const emit = (event: Record<string, unknown>): void => console.log(JSON.stringify(event));
	if (switches.exitCode !== undefined) {
		emit({ event: "failed", reason: "bad_model", message: switches.message ?? "no reason" });
		console.error(`fixture engine: ${switches.message}`);
		process.exit(switches.exitCode);
	}

	const orphanMs = 1000 * Number(values["orphan-timeout-s"] ?? 120);
	let renewedMs = performance.now();
	setInterval(() => {
		if (performance.now() - renewedMs > orphanMs) process.exit(0);
	}, 50);
	let isReady = false;
	let isStopping = false;
	let running = 0;
	const report: FixtureReport = {
		environment: { ...process.env } as Record<string, string>,
		requests: [],
		cancelled: 0,
	};

	const server = Bun.serve({
		hostname: values["host"] ?? "127.0.0.1",
		port: Number(values["port"] ?? 0),
		idleTimeout: 0,
		async fetch(request) {
			const url = new URL(request.url);
			if (url.pathname === "/fixture") return Response.json(report);
			if (url.pathname === "/health") {
				if (isReady && switches.hang === true) return new Promise<Response>(() => {});
				if (url.searchParams.get("instance") === instanceId) renewedMs = performance.now();
				const status = isStopping ? "stopping" : isReady ? "ok" : "loading";
				const body = { status, instance_id: told, model: values["alias"], pid: process.pid };
				return Response.json(body, { status: status === "ok" ? 200 : 503 });
			}
			const body = await request.text();
			report.requests.push({ path: url.pathname + url.search, headers: request.headers.toJSON(), body });
			request.signal.addEventListener("abort", () => report.cancelled++);
			running++;
			const asked = JSON.parse(body) as {
				stream?: boolean;
				messages?: { content: string }[];
				wait_ms?: number;
			};
			const text = `echo: ${asked.messages?.at(-1)?.content ?? ""}`;
			if (asked.stream === true) return stream(text);
			await Bun.sleep(asked.wait_ms ?? 0);
			running--;
			return Response.json(
				{ choices: [{ message: { role: "assistant", content: text } }] },
				{ headers: { "x-engine": "fixture", "set-cookie": "engine=1", "access-control-allow-origin": "*" } },
			);
		},
	});

	function stream(text: string): Response {
		const pieces = switches.pieces ?? 3;
		const body = async function* (): AsyncGenerator<string> {
			try {
				for (let i = 0; i < pieces; i++) {
					yield `data: ${JSON.stringify({ choices: [{ delta: { content: `${text} ${i}` } }] })}\n\n`;
					await Bun.sleep(switches.gapMs ?? 0);
				}
				yield "data: [DONE]\n\n";
			} finally {
				running--;
			}
		};
		return new Response(body(), { headers: { "content-type": "text/event-stream" } });
	}

	process.on("SIGTERM", () => {
		if (switches.ignoreSigterm === true) return;
		if (switches.dropAtSigterm === true) process.exit(0);
		isStopping = true;
		const endMs = performance.now() + 1000;
		setInterval(() => {
			if (running <= 0 || performance.now() > endMs) process.exit(0);
		}, 5);
	});
	emit({
		event: "listening",
		instance_id: instanceId,
		host: "127.0.0.1",
		port: server.port,
		pid: process.pid,
	});
	setTimeout(() => {
		isReady = true;
		emit({ event: "ready", ms: switches.loadMs ?? 0 });
		if (switches.crashAfterMs === undefined) return;
		setTimeout(() => {
			console.error("fixture engine: segmentation fault, as asked");
			process.exit(1);
		}, switches.crashAfterMs);
	}, switches.loadMs ?? 0);
}
