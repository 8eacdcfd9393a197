import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { contract } from "../../src/api/contract.ts";
import type { Route } from "../../src/api/route.ts";
import { type Device, formatDevice, formatTier, isDurable, parseDevice } from "../../src/schema/device.ts";
import {
	isModelName,
	MODEL_SUB_ROUTES,
	type ModelName,
	modelDirName,
	parseModelName,
	parseNewNodeName,
	parseNodeName,
	parseRevision,
	parseServiceId,
	parseTaskId,
} from "../../src/schema/names.ts";

const LETTERS = "ABCxyz0189._-".split("");
const text = fc.oneof(
	fc.string(),
	fc.string({ unit: fc.constantFrom(...LETTERS, "/", "\\", "%", ":", "\u0000", " ", "é") }),
);

describe("model names", () => {
	test.each([
		"llama",
		"org/name",
		"a/b/c",
		"Llama-3.1_8B.gguf",
		"x".repeat(96),
		`${"o".repeat(96)}/n`,
		"0",
		"locations",
	])("%s is one", (name) => {
		expect(parseModelName(name) as string).toBe(name);
	});

	test.each([
		"",
		"../../etc",
		"%2e%2e%2f",
		"a\u0000b",
		"x".repeat(97),
		"a/b/c/d",
		"a//b",
		"/a",
		"a/",
		"a b",
		".hidden",
		"-flag",
		"--host=0.0.0.0",
		"a..b",
		"a/..",
		"a\\b",
		"a\n",
		"é",
		"name:tag",
		"org/name@rev",
		"llm' OR 1=1--",
		"__proto__",
		...MODEL_SUB_ROUTES.map((word) => `org/${word}`),
	])("%j is 400 bad_model_name", (name) => {
		expect(isModelName(name)).toBe(false);
		expect(() => parseModelName(name)).toThrow(
			expect.objectContaining({ status: 400, reason: "bad_model_name" }),
		);
	});

	test("a name that is accepted is one path component on disk, and no two names share it", () => {
		fc.assert(
			fc.property(text, text, (one, other) => {
				for (const name of [one, other]) {
					if (!isModelName(name)) continue;
					const directory = modelDirName(name as ModelName);
					expect(directory).toMatch(/^[A-Za-z0-9][A-Za-z0-9._%-]*$/);
					expect(decodeURIComponent(directory)).toBe(name);
				}
			}),
		);
	});

	test("a name goes through a URL path unchanged, written with / or with %2F", () => {
		const segment = fc.string({ unit: fc.constantFrom(...LETTERS), minLength: 1, maxLength: 20 });
		fc.assert(
			fc.property(fc.array(segment, { minLength: 1, maxLength: 3 }), (segments) => {
				const name = segments.join("/");
				if (!isModelName(name)) return;
				const { pathname } = new URL(`http://host/api/v1/models/${name}`);
				expect(pathname).toBe(`/api/v1/models/${name}`);
				expect(decodeURIComponent(encodeURIComponent(name))).toBe(name);
			}),
		);
	});
});

describe("other names", () => {
	const parsers = { parseNodeName, parseRevision, parseTaskId, parseServiceId };

	const accepted = {
		parseNodeName: ["node1", "N", "a.b-c_d", "x".repeat(63)],
		parseRevision: ["main", "0".repeat(40), "sha256-ab", "v1.0", "x".repeat(128)],
		parseTaskId: ["download-llama-7b-k3v9x2ma", "serve-x"],
		parseServiceId: ["service-llama-ab12", "svc-1"],
	};
	const refused = {
		parseNodeName: ["", "x".repeat(64), "a:b", "a/b", "..", "-n", "a..b", "n\n"],
		parseRevision: ["", "a/b", "refs/pr/1", "..", ".git", "x".repeat(129), "a\u0000"],
		parseTaskId: ["", "../../x", "task", "-x", "task-", "task-../x", "Task-x", "t-..", "task-a b"],
		parseServiceId: ["", "chunk-..%2fx", "chunk-..", "a/b-c", `svc-${"x".repeat(161)}`],
	};
	const reasons = {
		parseNodeName: "bad_node_name",
		parseRevision: "bad_revision",
		parseTaskId: "bad_task_id",
		parseServiceId: "bad_service_id",
	};

	for (const parser of Object.keys(parsers) as (keyof typeof parsers)[]) {
		test(`${parser} takes what it should, and answers 400 ${reasons[parser]} to the rest`, () => {
			for (const name of accepted[parser]) expect(parsers[parser](name) as string).toBe(name);
			for (const name of refused[parser]) {
				expect(() => parsers[parser](name)).toThrow(
					expect.objectContaining({ status: 400, reason: reasons[parser] }),
				);
			}
		});
	}

	test("whatever any of them accepts is safe as one path component", () => {
		fc.assert(
			fc.property(text, (name) => {
				for (const parse of Object.values(parsers)) {
					try {
						parse(name);
					} catch {
						continue;
					}
					expect(name).not.toMatch(/[/\\\p{Cc} ]|^\.|\.\.|^-/u);
				}
			}),
		);
	});
});

describe("devices", () => {
	test.each([
		["disk", { node: undefined, kind: "disk", index: 0 }],
		["node1:disk", { node: "node1", kind: "disk", index: 0 }],
		["node1:disk:1", { node: "node1", kind: "disk", index: 1 }],
		["node1:disk1", { node: "node1", kind: "disk", index: 1 }],
		["dram", { node: undefined, kind: "dram", index: 0 }],
		["node1:gpu0", { node: "node1", kind: "gpu", index: 0 }],
		["gpu:0", { node: undefined, kind: "gpu", index: 0 }],
		["node1:gpu:12", { node: "node1", kind: "gpu", index: 12 }],
		["web", { node: undefined, kind: "web", index: 0 }],
	] as [string, Device][])("%s", (name, device) => {
		expect(parseDevice(name)).toEqual(device);
	});

	test.each([
		"",
		":",
		"gpu",
		"gpu1000",
		"disk1000",
		"dram1",
		"dram:0",
		"web:0",
		"node1:web",
		"node1:",
		":disk",
		"a:b:disk",
		"node1:cloud",
		"../x:disk",
		"node1:disk ",
		"gpu-1",
		"gpu1e1",
		"DISK",
	])("%j is refused with 400", (name) => {
		expect(() => parseDevice(name)).toThrow(expect.objectContaining({ status: 400 }));
	});

	test("a device written down is the same device when it is read", () => {
		const device = fc.oneof(
			fc.record({
				node: fc.constantFrom(undefined, "node1", "gpu0", "disk"),
				kind: fc.constantFrom("disk", "gpu"),
				index: fc.nat(999),
			}),
			fc.record({ node: fc.constantFrom(undefined, "n"), kind: fc.constant("dram"), index: fc.constant(0) }),
			fc.record({ node: fc.constant(undefined), kind: fc.constant("web"), index: fc.constant(0) }),
		);
		fc.assert(
			fc.property(device as fc.Arbitrary<Device>, (written) => {
				expect(parseDevice(formatDevice(written))).toEqual(written);
			}),
		);
	});

	test("a text that is accepted keeps its node", () => {
		fc.assert(
			fc.property(fc.string({ unit: fc.constantFrom(..."abgpudiskramweb0123:.-".split("")) }), (name) => {
				let device: Device;
				try {
					device = parseDevice(name);
				} catch {
					return;
				}
				const [prefix] = name.split(":");
				if (device.node === undefined) expect(name.replace(":", "")).toStartWith(device.kind);
				else expect(device.node as string).toBe(prefix as string);
			}),
			{ numRuns: 500 },
		);
	});

	test("only disks are durable, and the first disk has no number", () => {
		expect(
			["disk", "dram", "gpu", "web"].filter((kind) => isDurable({ kind: kind as Device["kind"] })),
		).toEqual(["disk"]);
		expect([formatTier({ kind: "disk", index: 0 }), formatTier({ kind: "disk", index: 2 })]).toEqual([
			"disk",
			"disk2",
		]);
		expect(formatTier({ kind: "gpu", index: 0 })).toBe("gpu0");
	});
});

test("words with a meaning of their own can be asked for as a node, and not be taken as its name", () => {
	for (const word of ["host", "all"]) {
		expect(String(parseNodeName(word))).toBe(word);
		expect(() => parseNewNodeName(word)).toThrow(expect.objectContaining({ reason: "bad_node_name" }));
	}
	expect(String(parseNewNodeName("host-1"))).toBe("host-1");
});

test("every word that follows a model's name in a route is known to end the name", () => {
	const words = Object.values<Route>(contract).flatMap(
		({ path }) => /^\/api\/v1\/models\/\{model_name\}\/([^/]+)/.exec(path)?.[1] ?? [],
	);
	expect(words.length).toBeGreaterThan(5);
	expect([...new Set(words)].filter((word) => !MODEL_SUB_ROUTES.includes(word))).toEqual([]);
});
