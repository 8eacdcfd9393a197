import { describe, expect, test } from "bun:test";
import { copyFileSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { writeGguf } from "../support/known-answer-model.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";
import { type EngineProcess, longRequest, spawnEngine, startEngine } from "./engine-process.ts";

const LIMIT_MS = 60_000;

function lastEvent(engine: EngineProcess): Record<string, unknown> | undefined {
	return engine.events().at(-1);
}

describe("an engine that is started wrongly", () => {
	test.each([
		[[], "--model is missing"],
		[["--model", "/x", "--port", "70000"], "--port wants a whole number from 0 to 65535, got 70000"],
		[["--model", "/x", "--host", "0.0.0.0"], "--host is 0.0.0.0; the engine asks for no token"],
		[["--model", "/x", "--parallel", "0"], "--parallel wants"],
		[["--model", "/x", "--instance-id", "a b"], "--instance-id wants"],
		[["--model", "/x", "--gpu", "all"], "--gpu"],
	])("with %p exits 2 and says %p", async (argv, message) => {
		await using engine = spawnEngine(...argv);
		expect(await engine.exited).toBe(2);
		expect(engine.stderr()).toContain(message);
		expect(engine.stderr()).toContain("usage: gswarm __engine");
	});

	test("on a port in use exits 4 and names the port", async () => {
		using dir = tempDir();
		writeGguf(join(dir.path, "tiny.gguf"));
		using holder = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response("mine") });
		await using engine = spawnEngine("--model", dir.path, "--port", String(holder.port));
		expect(await engine.exited).toBe(4);
		expect(engine.stderr()).toContain(String(holder.port));
	});
});

describe("a model that cannot be loaded", () => {
	async function refused(path: string): Promise<string> {
		await using engine = spawnEngine("--model", path);
		expect(await engine.exited).toBe(3);
		const event = lastEvent(engine);
		expect(event?.event).toBe("failed");
		expect(engine.stderr()).toContain(String(event?.message));
		return String(event?.message);
	}

	test("because it is truncated is refused with its name and both sizes", async () => {
		using dir = tempDir();
		const path = join(dir.path, "tiny.gguf");
		const { sizeBytes } = writeGguf(path);
		truncateSync(path, 1_000_000);
		expect(await refused(path)).toBe(
			`tiny.gguf is truncated: header needs ${sizeBytes} bytes, file has 1000000.`,
		);
	});

	test("because it is no GGUF, missing, or nowhere in its directory is refused by name", async () => {
		using dir = tempDir();
		writeFileSync(join(dir.path, "page.gguf"), "<html>not found</html>");
		expect(await refused(join(dir.path, "page.gguf"))).toContain("page.gguf is not a GGUF file");
		expect(await refused(join(dir.path, "none.gguf"))).toContain("there is nothing at");
		rmSync(join(dir.path, "page.gguf"));
		writeFileSync(join(dir.path, "model.safetensors"), "x");
		expect(await refused(dir.path)).toContain("holds no .gguf file");
	});

	test("because the directory holds two, or a shard is missing, is refused with the names", async () => {
		using dir = tempDir();
		writeGguf(join(dir.path, "a.gguf"));
		copyFileSync(join(dir.path, "a.gguf"), join(dir.path, "b.gguf"));
		expect(await refused(dir.path)).toContain("holds 2 GGUF models: a.gguf, b.gguf");
		mkdirSync(join(dir.path, "split"));
		copyFileSync(join(dir.path, "a.gguf"), join(dir.path, "split/m-00001-of-00002.gguf"));
		expect(await refused(join(dir.path, "split"))).toContain(
			"m-00002-of-00002.gguf of its 2 files is missing",
		);
	});

	test("because llama.cpp refuses it is refused with the path", async () => {
		using dir = tempDir();
		const path = join(dir.path, "strange.gguf");
		writeGguf(path);
		const bytes = readFileSync(path);
		// The architecture's name, at its first place in the file: the value of general.architecture.
		bytes.write("xlama", bytes.indexOf("llama"));
		writeFileSync(path, bytes);
		expect(await refused(path)).toContain(path);
	});
});

describe("a running engine", () => {
	test(
		"tells port, progress and readiness, and answers 503 with the reason until then",
		async () => {
			using dir = tempDir();
			writeGguf(join(dir.path, "tiny.gguf"));
			await using engine = spawnEngine("--model", dir.path, "--instance-id", "i-1");
			const statuses = new Set<number>();
			await until("it is ready", async () => {
				const response = await engine.get("/health?instance=i-1");
				statuses.add(response.status);
				if (response.status === 503)
					expect(await response.json()).toMatchObject({
						status: "loading",
						reason: expect.stringContaining("loading"),
						pid: engine.pid,
					});
				return response.status === 200;
			});
			expect(statuses).toEqual(new Set([503, 200]));
			const names = engine.events().map((event) => event.event);
			expect(names[0]).toBe("listening");
			expect(names.at(-1)).toBe("ready");
			expect(lastEvent(engine)?.ms).toBeGreaterThan(0);
			expect(engine.stderr()).toBe("");
		},
		LIMIT_MS,
	);

	test(
		"told to stop answers what is in flight, refuses what is new and exits 0",
		async () => {
			using dir = tempDir();
			writeGguf(join(dir.path, "tiny.gguf"));
			await using engine = await startEngine("--model", dir.path, "--threads", "1");
			const answer = engine.post("/v1/chat/completions", longRequest(800));
			await until("it computes", async () =>
				(await engine.get("/metrics").then((r) => r.text())).includes("running 1"),
			);
			engine.signal("SIGTERM");
			await until("it says so", () => lastEvent(engine)?.event === "stopping");
			const refused = await engine.post("/v1/chat/completions", longRequest(1));
			expect(refused.status).toBe(503);
			expect((await engine.get("/health")).status).toBe(503);
			const { usage } = (await (await answer).json()) as { usage: { completion_tokens: number } };
			expect(usage.completion_tokens).toBe(800);
			expect(await engine.exited).toBe(0);
			expect(lastEvent(engine)).toMatchObject({ event: "stopped", why: "SIGTERM" });
		},
		LIMIT_MS,
	);

	test(
		"gives up what is in flight when the drain takes too long",
		async () => {
			using dir = tempDir();
			writeGguf(join(dir.path, "tiny.gguf"));
			await using engine = await startEngine("--model", dir.path, "--threads", "1", "--drain-timeout-s", "0");
			const stream = await engine.post("/v1/chat/completions", { ...longRequest(1900), stream: true });
			const whole = engine.post("/v1/chat/completions", longRequest(1900));
			await until("both compute", async () =>
				(await engine.get("/metrics").then((r) => r.text())).includes("running 2"),
			);
			engine.signal("SIGTERM");
			expect((await whole).status).toBe(503);
			expect(await stream.text()).not.toContain("[DONE]");
			expect(await engine.exited).toBe(0);
		},
		LIMIT_MS,
	);

	test(
		"told to stop while it loads exits 0",
		async () => {
			using dir = tempDir();
			writeGguf(join(dir.path, "big.gguf"), { sizeBytes: 64_000_000 });
			await using engine = spawnEngine("--model", dir.path);
			await until("it listens", () => engine.events().length > 0);
			engine.signal("SIGTERM");
			expect(await engine.exited).toBe(0);
			expect(engine.events().some((event) => event.event === "ready")).toBe(false);
		},
		LIMIT_MS,
	);
});

describe("an engine whose agent is gone", () => {
	test(
		"ends itself after the timeout, whatever others ask",
		async () => {
			using dir = tempDir();
			writeGguf(join(dir.path, "tiny.gguf"));
			await using engine = await startEngine(
				"--model",
				dir.path,
				"--instance-id",
				"i-1",
				"--orphan-timeout-s",
				"1",
			);
			let ended = false;
			const exited = engine.exited.then((code) => {
				ended = true;
				return code;
			});
			// Health without the id, under another id and requests to the model come from anybody.
			await until("it ends", async () => {
				if (ended) return true;
				await engine.get("/health").catch(() => {});
				await engine.get("/health?instance=i-2").catch(() => {});
				await engine.post("/v1/completions", { prompt: "x", max_tokens: 1 }).catch(() => {});
				return false;
			});
			expect(await exited).toBe(0);
			expect(lastEvent(engine)).toMatchObject({ event: "stopped", why: "orphaned" });
		},
		LIMIT_MS,
	);

	test(
		"lives on while its agent asks for it or waits for an answer",
		async () => {
			using dir = tempDir();
			writeGguf(join(dir.path, "tiny.gguf"));
			await using engine = await startEngine(
				"--model",
				dir.path,
				"--instance-id",
				"i-1",
				"--orphan-timeout-s",
				"1",
				"--threads",
				"1",
			);
			const startMs = performance.now();
			await until("two timeouts have passed", async () => {
				expect((await engine.get("/health?instance=i-1")).status).toBe(200);
				return performance.now() - startMs > 2000;
			});
			const carried = { headers: { "x-gswarm-instance": "i-1" } };
			const carriedMs = performance.now();
			while (performance.now() - carriedMs < 2000) {
				const answer = await engine.post("/v1/chat/completions", longRequest(500), carried);
				expect(answer.status).toBe(200);
			}
			expect(lastEvent(engine)?.event).toBe("ready");
		},
		LIMIT_MS,
	);

	test(
		"is ended by the kernel when a hostile chat template holds it in a loop",
		async () => {
			using dir = tempDir();
			const path = join(dir.path, "tiny.gguf");
			writeGguf(path);
			const bytes = readFileSync(path);
			const start = bytes.indexOf("{{ bos_token }}");
			const end = bytes.indexOf("{% endif %}", bytes.indexOf("add_generation_prompt")) + "{% endif %}".length;
			const loops = "{% for a in range(9999) %}".repeat(4) + "{% endfor %}".repeat(4);
			expect(end - start).toBeGreaterThan(loops.length);
			bytes.write(loops.padEnd(end - start), start);
			writeFileSync(path, bytes);
			await using engine = await startEngine(
				"--model",
				path,
				"--instance-id",
				"i-1",
				"--orphan-timeout-s",
				"1",
			);
			const answer = engine.post("/v1/chat/completions", longRequest(1)).catch(() => "cut");
			expect(await engine.exited).toBe(-14);
			expect(await answer).toBe("cut");
		},
		LIMIT_MS,
	);
});
