import { expect, test } from "bun:test";
import { createLlamaEngine } from "../../src/core/service/service.ts";
import { parseEngineArguments } from "../../src/core/service/engines/llama/arguments.ts";
import { parseModelName } from "../../src/schema/names.ts";

const engine = createLlamaEngine({
	command: ["/opt/gswarm", "__engine"],
	cacheDir: "/tmp/cache",
	threads: 3,
});
const input = {
	instanceId: "serve-tiny-1.abc",
	modelPath: "/data/models/acme%2Ftiny/@main",
	modelName: parseModelName("acme/tiny"),
};

test("the engine's own parser understands every flag that it is launched with", () => {
	const config = { max_batch_size: 4, max_sequence_length: 2048 };
	const { argv, environment } = engine.launch({ ...input, config });
	expect(argv.slice(0, 2)).toEqual(["/opt/gswarm", "__engine"]);
	expect(environment).toEqual({});
	expect(parseEngineArguments(argv.slice(2))).toMatchObject({
		modelPath: input.modelPath,
		alias: "acme/tiny",
		host: "127.0.0.1",
		port: 0,
		contextTokens: 2048,
		parallel: 4,
		threads: 3,
		instanceId: "serve-tiny-1.abc",
		cacheDir: "/tmp/cache",
		orphanTimeoutMs: 120_000,
	});
});

test("what is not configured is left to the engine", () => {
	const { argv } = engine.launch({ ...input, config: {} });
	expect(argv).not.toContain("--ctx-size");
	expect(argv).not.toContain("--parallel");
});

test("a length that the engine would refuse is refused before it is started, naming the field", () => {
	expect(() => engine.launch({ ...input, config: { max_sequence_length: 63 } })).toThrow(/63.*64/);
	expect(() => engine.launch({ ...input, config: { max_sequence_length: 64 } })).not.toThrow();
});

test("only the line of this very instance tells where it listens, and only on loopback", () => {
	const line = (fields: object): string =>
		JSON.stringify({
			event: "listening",
			instance_id: "i1",
			host: "127.0.0.1",
			port: 4711,
			pid: 1,
			...fields,
		});
	expect(engine.readEndpoint(line({}), "i1")).toEqual({ baseUrl: "http://127.0.0.1:4711" });
	expect(engine.readEndpoint(line({ host: "::1" }), "i1")).toEqual({ baseUrl: "http://[::1]:4711" });
	expect(engine.readEndpoint(line({}), "i2")).toBeUndefined();
	expect(engine.readEndpoint(line({ host: "169.254.169.254" }), "i1")).toBeUndefined();
	expect(engine.readEndpoint(line({ event: "ready" }), "i1")).toBeUndefined();
	expect(engine.readEndpoint("llama.cpp info: {", "i1")).toBeUndefined();
});

test("health counts only under the instance's own name", () => {
	const body = (status: string, id = "i1"): string => JSON.stringify({ status, instance_id: id });
	expect(engine.readHealth(200, body("ok"), "i1")).toBe("ready");
	expect(engine.readHealth(503, body("loading"), "i1")).toBe("loading");
	expect(engine.readHealth(503, body("stopping"), "i1")).toBe("silent");
	expect(engine.readHealth(200, body("ok", "i2"), "i1")).toBe("foreign");
	expect(engine.readHealth(409, body("other_instance", "i2"), "i1")).toBe("foreign");
	expect(engine.readHealth(200, "<html>", "i1")).toBe("silent");
});

test("only exits that would repeat themselves are permanent", () => {
	expect([0, 1, 4, 137, null].map((code) => engine.readExit(code).isPermanent)).toEqual(Array(5).fill(false));
	expect(engine.readExit(3)).toEqual({ reason: "model_load_failed", isPermanent: true });
	expect([2, 6].map((code) => engine.readExit(code).isPermanent)).toEqual([true, true]);
});
