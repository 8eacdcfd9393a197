/**
 * The one reader of YAML from outside: one document of plain maps, lists and scalars (YAML 1.2, core schema). What the
 * format has beyond that and what two readers could take differently is refused: tags, directives, duplicate keys, keys
 * that are no text, cyclic or many aliases, numbers that would be rounded.
 */
import {
	CST,
	Composer,
	type Document,
	Lexer,
	LineCounter,
	type Pair,
	Parser,
	isAlias,
	isMap,
	isScalar,
	isSeq,
} from "yaml";
import { type GswarmError, invalid } from "../schema/errors.ts";
import {
	MAX_YAML_ALIASES,
	MAX_YAML_BYTES,
	MAX_YAML_DEPTH,
	MAX_YAML_TOKENS,
	MAX_YAML_VALUES,
} from "./limits.ts";
import { FORBIDDEN_KEYS } from "./safe-json.ts";

export interface YamlOptions {
	/** How often `*name` may stand for a value; none with 0. */
	maxAliases?: number;
}

/**
 * The document's value; null for an empty one.
 * @throws INVALID_REQUEST bad_yaml, with `line` where it can be told
 */
export function parseYaml(bytes: Uint8Array, { maxAliases = MAX_YAML_ALIASES }: YamlOptions = {}): unknown {
	if (bytes.length > MAX_YAML_BYTES) throw bad(`it is larger than ${MAX_YAML_BYTES / 1024 ** 2} MiB`);
	const lines = new LineCounter();
	const at = (offset: number): number => lines.linePos(offset).line;
	const [document, ...more] = documentsOf(decode(bytes), lines);
	if (document === undefined) return null;
	const [next] = more;
	if (next !== undefined) throw bad("it holds multiple documents", at(next.range[0]));
	const [problem] = [...document.errors, ...document.warnings];
	if (problem !== undefined) {
		throw bad((problem.message.split("\n")[0] ?? "it is no YAML").replace(/:$/, ""), at(problem.pos[0]));
	}
	return createReader(at, maxAliases)(document.contents);
}

type Node = NonNullable<Document.Parsed["contents"]>;

function decode(bytes: Uint8Array): string {
	let text: string;
	try {
		text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
	} catch {
		throw bad("it is not text in UTF-8");
	}
	const control = /(?![\t\n\r])\p{Cc}/u.exec(text);
	if (control !== null) throw bad("it holds a control character", lineOf(text, control.index));
	return text;
}

/** The parser keeps a stack of its own, so depth is bounded before the composer recurses into what it made. */
function documentsOf(text: string, lines: LineCounter): Document.Parsed[] {
	lines.addNewLine(0);
	const parser = new Parser(lines.addNewLine);
	const parts: CST.Token[] = [];
	let offset = 0;
	let count = 0;
	let isScalarNext = false;
	for (const lexeme of new Lexer().lex(text)) {
		const isText = isScalarNext;
		isScalarNext = lexeme === CST.SCALAR;
		if (!isText && lexeme.startsWith("!"))
			throw bad(`it has the tag ${JSON.stringify(lexeme.slice(0, 40))}`, lineOf(text, offset));
		if (!isText && lexeme.startsWith("%")) throw bad("it has a directive (%)", lineOf(text, offset));
		for (const part of parser.next(lexeme)) parts.push(part);
		offset = parser.offset;
		if (parser.stack.length > MAX_YAML_DEPTH)
			throw bad(`it is nested deeper than ${MAX_YAML_DEPTH} levels`, lineOf(text, offset));
		if (++count > MAX_YAML_TOKENS) throw bad(`it has more than ${MAX_YAML_TOKENS} parts`);
	}
	for (const part of parser.end()) parts.push(part);
	// The library compares each key with each other; ours below takes one look-up.
	const composer = new Composer<Node>({ uniqueKeys: false, logLevel: "silent" });
	return [...composer.compose(parts)].filter((document) => document.contents !== null || parts.length > 0);
}

function createReader(at: (offset: number) => number, maxAliases: number): (node: Node | null) => unknown {
	const anchors = new Map<string, Node>();
	const open = new Set<Node>();
	let [values, aliases] = [0, 0];

	const read = (node: Node | null, depth: number): unknown => {
		if (node === null) return null;
		const line = at(node.range[0]);
		if (++values > MAX_YAML_VALUES) throw bad(`it has more than ${MAX_YAML_VALUES} values`, line);
		if (depth > MAX_YAML_DEPTH) throw bad(`it is nested deeper than ${MAX_YAML_DEPTH} levels`, line);
		if (isAlias(node)) {
			if (++aliases > maxAliases) throw tooManyAliases(maxAliases, line);
			const target = anchors.get(node.source);
			if (target === undefined) throw bad(`the alias *${node.source} has no anchor before it`, line);
			if (open.has(target)) throw bad(`the alias *${node.source} stands inside its own value`, line);
			return read(target, depth);
		}
		if (node.anchor !== undefined) {
			const known = anchors.get(node.anchor);
			if (known !== undefined && known !== node) throw bad(`the anchor &${node.anchor} is there twice`, line);
			anchors.set(node.anchor, node);
		}
		if (isScalar(node)) return scalarOf(node, line);
		open.add(node);
		const value = isSeq(node) ? node.items.map((item) => read(item, depth + 1)) : mapOf(node, depth);
		open.delete(node);
		return value;
	};

	const mapOf = (node: Node, depth: number): Record<string, unknown> => {
		const map: Record<string, unknown> = {};
		if (!isMap(node)) return map;
		for (const { key, value } of node.items as Pair<Node | null, Node | null>[]) {
			const line = at(key?.range[0] ?? node.range[0]);
			const name = keyOf(key, line);
			if (Object.hasOwn(map, name)) throw bad(`the key ${JSON.stringify(name)} is there twice`, line);
			map[name] = read(value, depth + 1);
		}
		return map;
	};

	return (node) => read(node, 1);
}

function keyOf(key: Node | null, line: number): string {
	const name = isScalar(key) ? key.value : undefined;
	if (typeof name !== "string") throw bad("a key is no text; put it into quotes", line);
	if (!name.isWellFormed()) throw bad("a key has half a character", line);
	if (FORBIDDEN_KEYS.has(name)) throw bad(`the key ${JSON.stringify(name)} is not allowed`, line);
	return name;
}

function scalarOf({ value, source }: { value: unknown; source?: string }, line: number): unknown {
	if (typeof value === "string" && !value.isWellFormed()) throw bad("a text has half a character", line);
	if (typeof value !== "number") return value;
	if (!Number.isFinite(value)) throw bad(`the number ${short(source)} is not finite`, line);
	const isWhole = /^[-+]?(0[xo])?[0-9a-f]+$/i.test(source ?? "") && !/^[-+]?\d+e/i.test(source ?? "");
	if (isWhole && !Number.isSafeInteger(value))
		throw bad(`the number ${short(source)} is too large to be kept exactly`, line);
	return value;
}

function tooManyAliases(limit: number, line: number): GswarmError {
	if (limit === 0) return bad("it has an alias (*name); write the value where it is used", line);
	return bad(`it has more than ${limit} aliases (*name)`, line);
}

function lineOf(text: string, offset: number): number {
	return text.slice(0, offset).split("\n").length;
}

function short(text = ""): string {
	return text.length > 40 ? `${text.slice(0, 40)}…` : text;
}

function bad(problem: string, line?: number): GswarmError {
	const where = line === undefined ? "" : `line ${line}: `;
	return invalid("bad_yaml", `The YAML is not accepted: ${where}${problem}.`, {
		problem: `${where}${problem}`,
		...(line === undefined ? {} : { line }),
	});
}
