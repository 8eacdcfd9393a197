/**
 * The rules of the house that a linter cannot express, over any set of files, so that each rule is tested on
 * planted violations as well as on the repository.
 */
import { basename, dirname } from "node:path";
import { Visitor } from "oxc-parser";
import { type Import, lineOf, readSource, type Source } from "./imports.ts";

export interface Violation {
	path: string;
	line: number;
	rule:
		| "layer"
		| "room"
		| "door"
		| "package"
		| "cycle"
		| "name"
		| "re-export"
		| "sleep"
		| "mock"
		| "time"
		| "reason";
	message: string;
}

/** Path from the root of the repository → text. Files of src, bin, test, scripts and bench. */
export type Files = ReadonlyMap<string, string>;

/** What each layer may import of src. A layer may always import itself, but rooms of the core have rules of their own. */
const LAYERS: Record<string, readonly string[]> = {
	schema: [],
	platform: ["schema"],
	core: ["schema", "platform"],
	api: ["schema"],
	agent: ["core", "api", "platform", "schema"],
	cli: ["api", "platform", "schema"],
	web: ["api", "schema"],
};

/** Which room may use which other room, through its door. */
const ROOM_PAIRS: Record<string, readonly string[]> = {
	transfer: ["storage", "source"],
	pool: ["storage", "transfer"],
	service: ["storage"],
};

/** Files that may do what their layer may not. */
const EXCEPTIONS: readonly { from: RegExp; to: RegExp; why: string }[] = [
	{ from: /^bin\/gswarm\.ts$/, to: /^src\/cli\//, why: "starts the root command" },
	{ from: /^bin\/gswarm\.ts$/, to: /^src\/platform\/version\.ts$/, why: "--version loads nothing else" },
	{
		from: /^bin\/gswarm\.ts$/,
		to: /^src\/core\/service\/engines\/llama\/main\.ts$/,
		why: "the engine is the same binary started with another word",
	},
	{
		from: /^bin\/gswarm\.ts$/,
		to: /^src\/core\/transfer\/plane\/main\.ts$/,
		why: "the data process is the same binary started with another word",
	},
	{
		from: /^bin\/gswarm\.ts$/,
		to: /^src\/core\/accelerator\/(holder|probe)\/main\.ts$/,
		why: "so are the processes that have to do with a GPU's driver",
	},
	{
		from: /^src\/cli\/(commands\/)?agent\.ts$/,
		to: /^src\/agent\/agent\.ts$/,
		why: "the one command that loads the agent",
	},
	{
		from: /^src\/cli\/(commands\/agent|agent-options|detach)\.ts$/,
		to: /^src\/agent\/options\.ts$/,
		why: "plain data that the flags of that command fill in",
	},
	{ from: /^src\/platform\/version\.ts$/, to: /^package\.json$/, why: "the one place of the version" },
];

/** Packages and built-in modules that a layer must not know. */
const BANNED_PACKAGES: Record<string, RegExp> = {
	schema: /^(?!zod$)/,
	api: /^(?!(zod|ofetch)$)/,
	platform: /^(hono|citty|consola|ora)(\/|$)/,
	core: /^(hono|citty|consola|ora|ofetch)(\/|$)/,
	agent: /^(citty|ora)(\/|$)/,
	cli: /^(hono|bun:sqlite|zod|node-llama-cpp)(\/|$)/,
	web: /^(bun|node:|hono|citty|consola|ora)/,
};

/** The table of commands names each one, and completions and help read the table: lazy loads are no circle there. */
const LAZY_TABLE = "src/cli/tree.ts";
const BAG_NAMES = /^(index|utils?|helpers?|common|misc|shared|lib)$/;
/** Support may (until() does), and programs that tests start; a test itself waits for conditions. */
const MUST_NOT_SLEEP = /^test\/(?!support\/).*\.test\.ts$/;
const DOOR_COMMENT_LINES = { least: 3, most: 10 };

/** Every violation in the given files, ordered by path. */
export function violations(files: Files): Violation[] {
	const sources = [...files]
		.filter(([path]) => /\.tsx?$/.test(path))
		.map(([path, text]) => readSource(path, text));
	return [
		...sources.flatMap((source) => [
			...source.imports.flatMap((one) => importViolations(source, one)),
			...nameViolations(source),
			...callViolations(source),
			...reasonViolations(source),
		]),
		...doorViolations(files),
		...cycleViolations(sources),
	].sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : a.line - b.line));
}

function importViolations(
	{ path: from }: Source,
	{ specifier, path: to, line, reExport }: Import,
): Violation[] {
	const found: Violation[] = [];
	const say = (rule: Violation["rule"], message: string): void => {
		found.push({ path: from, line, rule, message });
	};
	if (MUST_NOT_SLEEP.test(from) && specifier.startsWith("node:timers")) {
		say("sleep", `${specifier}: wait for a condition with until()`);
	}
	if (!/^(src|bin)\//.test(from)) return found;
	if (reExport === "star") say("re-export", `export * from "${specifier}": a door names what it hands on`);
	if (to === undefined) {
		const layer = layerOf(from) ?? "";
		if (specifier === "<computed>") say("layer", "import() of a computed name cannot be checked");
		else if (BANNED_PACKAGES[layer]?.test(specifier) === true)
			say("package", `${layer} knows no ${specifier}`);
		return found;
	}
	if (EXCEPTIONS.some((exception) => exception.from.test(from) && exception.to.test(to))) return found;
	const [fromLayer, toLayer] = [layerOf(from), layerOf(to)];
	if (fromLayer === undefined || toLayer === undefined) {
		say("layer", `${fromLayer ?? "bin"} must not import ${to}`);
		return found;
	}
	if (reExport === "named" && !isOwnDoor(from, to)) {
		say("re-export", `hands on names of ${to}; only a room's door may, of its own room`);
	}
	if (fromLayer !== toLayer && LAYERS[fromLayer]?.includes(toLayer) !== true) {
		say("layer", `${fromLayer} must not import ${toLayer} (${to})`);
		return found;
	}
	const [fromRoom, toRoom] = [roomOf(from), roomOf(to)];
	if (toLayer === "core" && fromRoom !== toRoom) {
		if (fromRoom !== undefined && ROOM_PAIRS[fromRoom]?.includes(`${toRoom}`) !== true) {
			say("room", `core/${fromRoom} must not use core/${toRoom}`);
		}
		if (to !== `src/core/${toRoom}/${toRoom}.ts`) {
			say("door", `${to} is inside core/${toRoom}; its door is src/core/${toRoom}/${toRoom}.ts`);
		}
	}
	const wirings = [wiringOf(from), wiringOf(to)];
	if (wirings.includes("host") && wirings.includes("node")) {
		say("layer", `the wirings of host and node must not import each other (${to})`);
	}
	return found;
}

/** Files are named after their concept. */
function nameViolations({ path }: Source): Violation[] {
	const bad = path
		.replace(/\.tsx?$/, "")
		.split("/")
		.filter((segment) => BAG_NAMES.test(segment));
	return bad.map((segment) => ({ path, line: 1, rule: "name", message: `"${segment}" names no concept` }));
}

function callViolations({ path, text, program }: Source): Violation[] {
	const found: Violation[] = [];
	const say = (rule: Violation["rule"], start: number, message: string): void => {
		found.push({ path, line: lineOf(text, start), rule, message });
	};
	const isTest = path.startsWith("test/");
	const mustNotSleep = MUST_NOT_SLEEP.test(path);
	new Visitor({
		CallExpression({ callee, start }) {
			const name = text.slice(callee.start, callee.end).replaceAll(/\s/g, "");
			if (
				mustNotSleep &&
				/^(globalThis\.)?(Bun\.sleep(Sync)?|setTimeout|setInterval|Atomics\.wait)$/.test(name)
			) {
				say("sleep", start, `${name}: wait for a condition with until()`);
			}
			if (isTest && /^(mock\.module|(jest|vi)\.mock)$/.test(name)) {
				say("mock", start, `${name}: give the dependency as an argument`);
			}
			if (path.startsWith("src/") && name === "Date") say("time", start, "Date() reads the clock");
		},
		NewExpression({ callee, arguments: given, start }) {
			const isDate = callee.type === "Identifier" && callee.name === "Date";
			if (path.startsWith("src/") && path !== "src/platform/clock.ts" && isDate && given.length === 0) {
				say("time", start, "new Date() reads the clock; give it clock.nowMs()");
			}
		},
	}).visit(program);
	return found;
}

/** An exception to a rule says why. */
function reasonViolations({ path, text, comments }: Source): Violation[] {
	return comments.flatMap(({ value, start }): Violation[] => {
		const [directive] = /^\s*(oxlint-disable\S*|eslint-disable\S*|@ts-\S+|biome-ignore)/.exec(value) ?? [];
		if (directive === undefined || / (--|-|:) \S/.test(value.slice(directive.length))) return [];
		const message = `${directive.trim()} needs its reason after " -- "`;
		return [{ path, line: lineOf(text, start), rule: "reason", message }];
	});
}

/** Each room has its door, and a door opens with what the room is. */
function doorViolations(files: Files): Violation[] {
	const rooms = new Set([...files.keys()].map(roomOf).filter((room) => room !== undefined));
	return [...rooms].flatMap((room): Violation[] => {
		const path = `src/core/${room}/${room}.ts`;
		const text = files.get(path);
		if (text === undefined) return [{ path, line: 1, rule: "door", message: `core/${room} has no door` }];
		const lines = openingComment(text);
		const { least, most } = DOOR_COMMENT_LINES;
		if (lines >= least && lines <= most) return [];
		const message = `opens with ${lines} lines of comment, wanted ${least} to ${most}: what the room does, its states, what it does not do`;
		return [{ path, line: 1, rule: "door", message }];
	});
}

/** Lines with words in the comment that a file starts with. */
function openingComment(text: string): number {
	const comment = /^\s*(\/\*[\s\S]*?\*\/|(?:\/\/.*\n)+)/.exec(text)?.[1] ?? "";
	return comment.split("\n").filter((line) => /\w/.test(line)).length;
}

/** Circles of files, type imports included: each set of files that reach each other, named once. */
function cycleViolations(sources: readonly Source[]): Violation[] {
	const known = new Map(sources.map((source) => [source.path, source]));
	const state = new Map<string, { index: number; low: number; onStack: boolean }>();
	const stack: string[] = [];
	const found: Violation[] = [];
	// Tarjan, "Depth-first search and linear graph algorithms" (1972).
	const visit = (path: string): { index: number; low: number; onStack: boolean } => {
		const mine = { index: state.size, low: state.size, onStack: true };
		state.set(path, mine);
		stack.push(path);
		for (const { path: to, lazy } of known.get(path)?.imports ?? []) {
			if (to === undefined || !known.has(to) || (lazy && path === LAZY_TABLE)) continue;
			const seen = state.get(to);
			if (seen === undefined) mine.low = Math.min(mine.low, visit(to).low);
			else if (seen.onStack) mine.low = Math.min(mine.low, seen.index);
		}
		if (mine.low === mine.index) {
			const circle = stack.splice(stack.indexOf(path));
			for (const member of circle) (state.get(member) ?? mine).onStack = false;
			const [first = path] = circle.toSorted();
			if (circle.length > 1 || known.get(path)?.imports.some(({ path: to }) => to === path) === true) {
				found.push({ path: first, line: 1, rule: "cycle", message: circle.toSorted().join(" ↔ ") });
			}
		}
		return mine;
	};
	for (const path of known.keys()) if (!state.has(path)) visit(path);
	return found;
}

function layerOf(path: string): string | undefined {
	const [, layer] = /^src\/([^/]+)\//.exec(path) ?? [];
	return layer !== undefined && layer in LAYERS ? layer : undefined;
}

function roomOf(path: string): string | undefined {
	return /^src\/core\/([^/]+)\//.exec(path)?.[1];
}

function wiringOf(path: string): string | undefined {
	return /^src\/agent\/(host|node)(?=[/.-])/.exec(path)?.[1];
}

function isOwnDoor(from: string, to: string): boolean {
	const room = roomOf(from);
	return (
		room !== undefined &&
		room === roomOf(to) &&
		basename(from) === `${room}.ts` &&
		basename(dirname(from)) === room
	);
}
