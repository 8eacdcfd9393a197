import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Args } from "../../src/cli/args.ts";
import { parseArguments } from "../../src/cli/arguments.ts";
import { GLOBAL_ARGS } from "../../src/cli/global-flags.ts";
import { editDistance, nearest } from "../../src/cli/suggest.ts";
import { findCommand, visibleCommands } from "../../src/cli/tree.ts";
import { device, duration, size } from "../../src/cli/values.ts";
import { takesValue } from "../../src/cli/arguments.ts";
import { GswarmError } from "../../src/schema/errors.ts";
import { run } from "./support/fake-world.ts";

const ARGS = {
	...GLOBAL_ARGS,
	name: { type: "positional" },
	other: { type: "positional", required: false },
	to: { type: "string", value: device, valueHint: "DEVICE" },
	size: { type: "string", value: size, default: "1kB" },
	include: { type: "string", many: true },
	force: { type: "boolean" },
	verify: { type: "boolean", negativeDescription: "do not" },
	wait: { type: "boolean", default: true },
	kind: { type: "enum", options: ["low", "high"] },
} as const satisfies Args;

function parse(...words: string[]): Record<string, unknown> {
	return parseArguments(words, ARGS, { command: "gswarm x" });
}

function refusal(...words: string[]): { message: string; hint: string | undefined } {
	try {
		parse(...words);
	} catch (error) {
		if (error instanceof GswarmError) return { message: error.message, hint: error.hint };
		throw error;
	}
	throw new Error(`${words.join(" ")} was accepted`);
}

describe("a strict command line", () => {
	test("an argument that may be repeated takes all words that are left, and one at least", () => {
		const args = { ...GLOBAL_ARGS, name: { type: "positional", many: true } } as const satisfies Args;
		const read = (...words: string[]) => parseArguments(words, args, { command: "gswarm x" })["name"];
		expect(read("a", "--json", "b", "--", "c")).toEqual(["a", "b", "c"]);
		expect(() => read()).toThrow("NAME is missing.");
	});

	test("absent flags have their defaults, and no others", () => {
		expect(parse("a")).toEqual({
			name: "a",
			size: 1000,
			include: [],
			force: false,
			wait: true,
			json: false,
			quiet: false,
			yes: false,
			input: true,
			color: true,
			debug: false,
			help: false,
		});
	});

	test("flags stand anywhere, with a space or with =", () => {
		const expected = { name: "a", to: "node1:disk", size: 5, include: ["x", "y"], force: true };
		expect(
			parse("--to", "node1:disk", "a", "--size=5", "--include", "x", "--force", "--include=y"),
		).toMatchObject(expected);
		expect(
			parse("a", "--include=x", "--force=true", "--to=node1:disk", "--include", "y", "--size", "5"),
		).toMatchObject(expected);
	});

	test("short flags may be joined, and a value may stick to its letter", () => {
		expect(parse("-qy", "a", "-ojson")).toMatchObject({ quiet: true, yes: true, output: "json" });
		expect(parse("a", "-qo", "wide")).toMatchObject({ quiet: true, output: "wide" });
		expect(parse("a", "-o=name")).toMatchObject({ output: "name" });
	});

	test("--no- turns off what is on, and tells no from silence", () => {
		expect(parse("a", "--no-wait", "--no-verify")).toMatchObject({ wait: false, verify: false });
		expect(parse("a", "--wait", "--verify")).toMatchObject({ wait: true, verify: true });
		expect(parse("a").verify).toBeUndefined();
	});

	test("-- ends the flags, but a name that looks like a flag stays refused", () => {
		expect(parse("--", "a", "b")).toMatchObject({ name: "a", other: "b" });
		expect(refusal("--", "--force").message).toBe('NAME may not start with "-"; got "--force".');
	});

	const REFUSED: readonly (readonly [string, string, string | undefined])[] = [
		["a --frce", "There is no flag --frce.", "Did you mean --force?"],
		["a --no-wiat", "There is no flag --no-wiat.", "Did you mean --no-wait?"],
		["a --no-force", "There is no flag --no-force.", undefined],
		["a -x", "There is no flag -x.", undefined],
		["a b c", 'gswarm x does not take "c" here.', undefined],
		["--to disk", "NAME is missing.", undefined],
		["a --to", "--to needs a value: --to DEVICE.", undefined],
		["a --to --force", "--to needs a value: --to DEVICE.", undefined],
		["a --to=-x", '--to may not start with "-"; got "-x".', undefined],
		["a --to=", "--to may not be empty.", undefined],
		["a --to disk --to dram", "--to was given twice.", undefined],
		["a --force --force", "--force was given twice.", undefined],
		["a --wait --no-wait", "--no-wait was given twice.", undefined],
		["a --force=maybe", '--force takes no value; got "maybe".', undefined],
		["a --no-wait=true", '--no-wait takes no value; got "true".', undefined],
		["a --size huge", '--size "huge": wanted a size such as 64MB, 10GiB or a number of bytes.', undefined],
		["a --kind hihg", '--kind "hihg" is not known: wanted low, high.', "Did you mean high?"],
		[
			"a --to gpu",
			'"gpu" is not a device: wanted [node:]disk, [node:]diskN, [node:]dram, [node:]gpuN or web.',
			"`gswarm node list` shows the nodes and their devices.",
		],
		["a --constructor", "There is no flag --constructor.", undefined],
		["a --__proto__=1", "There is no flag --__proto__.", undefined],
		["a --timeout soon", '--timeout "soon": wanted a duration such as 90s, 10m or 1h30m.', undefined],
	];
	for (const [line, message, hint] of REFUSED) {
		test(`${line} is refused: ${message}`, () => {
			expect(refusal(...line.split(" "))).toEqual({
				message,
				hint: hint ?? "`gswarm x --help` shows what it takes.",
			});
		});
	}

	test("--help asks about a command that is not complete", () => {
		expect(parse("--help")).toMatchObject({ help: true });
	});

	test("any words are understood or refused, and nothing else happens", () => {
		const word = fc.oneof(
			fc.string({ maxLength: 8 }),
			fc.constantFrom(
				"--to",
				"--to=disk",
				"--force",
				"-o",
				"json",
				"-q",
				"--",
				"-",
				"a",
				"--no-wait",
				"--include",
				"=",
				"--=",
			),
		);
		fc.assert(
			fc.property(fc.array(word, { maxLength: 8 }), (words) => {
				try {
					const values = parse(...words);
					expect(Object.keys(values).every((key) => key in ARGS)).toBe(true);
				} catch (error) {
					expect(error).toBeInstanceOf(GswarmError);
				}
			}),
			{ numRuns: 2000 },
		);
	});
});

describe("finding the command", () => {
	const find = (line: string) => findCommand(line.split(" "), (flag) => takesValue(flag, GLOBAL_ARGS));

	test("global flags may stand before, between and after its words", () => {
		for (const line of [
			"--json model list --page 2",
			"model --json list --page 2",
			"model list --json --page 2",
		]) {
			const { path, rest } = find(line);
			expect(path).toEqual(["model", "list"]);
			expect(rest).toContain("--json");
		}
		expect(find("--data-dir model model list")).toMatchObject({
			path: ["model", "list"],
			rest: ["--data-dir", "model"],
		});
		expect(find("-o json node list").path).toEqual(["node", "list"]);
	});

	test("short forms stand for whole commands, at the first place only", () => {
		expect(find("pull acme/tiny")).toMatchObject({ path: ["model", "download"], rest: ["acme/tiny"] });
		expect(find("model pull").path).toEqual(["model"]);
	});

	test("a command with commands below it stays itself when another word follows", () => {
		expect(find("agent --port 9000").path).toEqual(["agent"]);
		expect(find("agent stop").path).toEqual(["agent", "stop"]);
	});

	test("names of Object's own are no commands", async () => {
		for (const word of ["constructor", "toString", "__proto__"]) {
			expect((await run([word])).code).toBe(2);
			expect((await run(["model", word])).code).toBe(2);
		}
	});

	const MISTYPED: readonly (readonly [string, string])[] = [
		["modle list", "gswarm model"],
		["model lsit", "gswarm model list"],
		["model ls", "gswarm model list"],
		["model rm x", "gswarm model delete"],
		["download x", "gswarm model download"],
		["serve x", "gswarm model serve"],
		["stop", "gswarm agent stop"],
		["--json nod list", "gswarm node"],
	];
	for (const [line, meant] of MISTYPED) {
		test(`gswarm ${line}: did you mean ${meant}?`, async () => {
			const { code, stdout, stderr } = await run(line.split(" "));
			expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
			expect(stderr).toContain(`\`${meant}\``);
		});
	}

	test("what is far from everything gets no guess", async () => {
		expect((await run(["zzzzzzzz"])).stderr).not.toContain("Did you mean");
	});

	test("commands of later versions are not listed", () => {
		const names = visibleCommands().map(({ path }) => path.join(" "));
		expect(names.filter((name) => /^(workflow|data|profiler|config|__)/.test(name))).toEqual([]);
	});

	test("distance counts a swap of neighbours as one", () => {
		expect([editDistance("lsit", "list"), editDistance("", "abc"), editDistance("abc", "abc")]).toEqual([
			1, 3, 0,
		]);
		expect(nearest("dow", ["download", "copy"])).toBe("download");
		fc.assert(
			fc.property(fc.string({ maxLength: 8 }), fc.string({ maxLength: 8 }), (a, b) => {
				expect(editDistance(a, b)).toBe(editDistance(b, a));
				expect(editDistance(a, b)).toBeLessThanOrEqual(Math.max(a.length, b.length));
			}),
		);
	});
});

test("durations are read as milliseconds by the kind", () => {
	expect(duration.parse("1m")).toBe(60_000);
});
