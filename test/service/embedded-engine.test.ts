/** The room with the real engine: `gswarm __engine` from source, and a model whose answer is known. */
import { expect, test } from "bun:test";
import { mkdirSync, truncateSync } from "node:fs";
import { join } from "node:path";
import type { GswarmError } from "../../src/schema/errors.ts";
import { DEFAULT_SENTENCE, writeGguf } from "../support/known-answer-model.ts";
import { tempDir } from "../support/temp-dir.ts";
import { chat, identityOf, isAlive, openNode, SERVICE } from "./harness.ts";

const LIMIT_MS = 60_000;
const COMMAND = [process.execPath, join(import.meta.dir, "../../bin/gswarm.ts"), "__engine"];

test(
	"a model is served, answers what it must, survives its agent, and is stopped",
	async () => {
		using dir = tempDir();
		const modelPath = join(dir.path, "model");
		mkdirSync(modelPath);
		writeGguf(join(modelPath, "tiny.gguf"));
		const config = { max_batch_size: 2, max_sequence_length: 256 };
		const before = openNode(dir.path, { command: COMMAND });
		const { pid, ready_s } = await before.start({ modelPath, config });
		expect(ready_s).toBeGreaterThan(0);
		const engine = identityOf(before);
		const answer = await chat(before.url, "hello", { temperature: 0 });
		expect(await answer.json()).toMatchObject({ choices: [{ message: { content: DEFAULT_SENTENCE } }] });
		await before.leave();

		await using node = openNode(dir.path, { command: COMMAND });
		await node.services.recover();
		expect(node.services.get(SERVICE)).toMatchObject({ state: "ready", pid, restarts: 0 });
		const stream = await chat(node.url, "hello", { temperature: 0, stream: true });
		const deltas = [...(await stream.text()).matchAll(/"content":"([^"]*)"/g)].map(([, text]) => text);
		expect(deltas.join("")).toBe(DEFAULT_SENTENCE);
		await node.services.stop(SERVICE, { timeoutMs: 5000 });
		expect(isAlive(engine)).toBe(false);
	},
	LIMIT_MS,
);

test(
	"a truncated model is refused by the name of its file, and nothing runs",
	async () => {
		using dir = tempDir();
		const modelPath = join(dir.path, "model");
		mkdirSync(modelPath);
		writeGguf(join(modelPath, "tiny.gguf"));
		truncateSync(join(modelPath, "tiny.gguf"), 1_000_000);
		await using node = openNode(dir.path, { command: COMMAND });
		const error = await node.start({ modelPath }).then(
			() => undefined,
			(reason: unknown) => reason as GswarmError,
		);
		expect(error?.reason).toBe("model_load_failed");
		expect(error?.message).toContain("tiny.gguf is truncated");
		expect(JSON.stringify([error?.message, error?.details])).not.toContain(dir.path);
		expect(node.services.get(SERVICE)).toMatchObject({ state: "failed", pid: null, restarts: 0 });
		await node.services.stop(SERVICE, { timeoutMs: 0 });
		expect(node.services.list()).toEqual([]);
	},
	LIMIT_MS,
);
