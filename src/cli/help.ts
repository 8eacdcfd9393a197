/** Help texts. Every one says what, how, with which flags, shows examples and what usually comes next. */
import { isNegatable } from "./arguments.ts";
import type { Arg, Args } from "./args.ts";
import type { Command } from "./command.ts";
import { GLOBAL_ARGS } from "./global-flags.ts";
import type { Style } from "./render/style.ts";
import { ALIASES, type Branch, TREE, visibleCommands } from "./tree.ts";

/** Terminals have 80 columns unless somebody made them wider. */
const WIDTH = 80;
const INDENT = "  ";

const START: readonly (readonly [string, string])[] = [
	["gswarm agent", "start an agent here; leave it running"],
	["gswarm node list", "see the machine and its devices"],
	["gswarm model download hf:ORG/NAME", "get a model from Hugging Face"],
	["gswarm model serve ORG/NAME", "serve it; prints an OpenAI-compatible address"],
];

/** `gswarm` and `gswarm --help`. */
export function rootHelp(style: Style): string {
	const groups = Object.entries(TREE.children ?? {}).filter(([, branch]) => branch.hidden !== true);
	const commands = groups.map(([name, { summary, children }]) => {
		const names = Object.keys(children ?? {});
		return [name, names.length === 0 ? summary : `${summary} (${names.join(", ")})`] as const;
	});
	return sections([
		`gswarm: ${lowerFirst(TREE.summary)}.`,
		`${style.bold("Usage:")} gswarm COMMAND [ARGUMENTS] [FLAGS]`,
		section(style, "Start here", columns(START)),
		section(style, "Commands", columns(commands)),
		section(
			style,
			"Short forms",
			columns(Object.entries(ALIASES).map(([name, path]) => [name, `gswarm ${path.join(" ")}`] as const)),
		),
		section(style, "Flags of every command", columns(flagRows(GLOBAL_ARGS))),
		wrap(
			"`gswarm COMMAND --help` tells more about one; `gswarm completions bash` completes them.",
			WIDTH,
		).join("\n"),
	]);
}

/** `gswarm model` and `gswarm model --help`. */
export function groupHelp(path: readonly string[], branch: Branch, style: Style): string {
	const rows = Object.entries(branch.children ?? {}).map(([name, child]) => [name, child.summary] as const);
	const name = `gswarm ${path.join(" ")}`;
	return sections([
		`${branch.summary}.`,
		`${style.bold("Usage:")} ${name} COMMAND [ARGUMENTS] [FLAGS]`,
		section(style, "Commands", columns(rows)),
		`\`${name} COMMAND --help\` tells more about one.`,
	]);
}

export function commandHelp(path: readonly string[], branch: Branch, command: Command, style: Style): string {
	const { args, meta } = command.definition;
	const name = `gswarm ${path.join(" ")}`;
	const positionals = Object.entries(args).filter(([, arg]) => arg.type === "positional");
	const flags = Object.fromEntries(Object.entries(args).filter(([, arg]) => arg.type !== "positional"));
	const usage = [
		name,
		...positionals.map(([key, arg]) =>
			arg.required === false
				? `[${key.toUpperCase()}]`
				: `${key.toUpperCase()}${arg.many === true ? "…" : ""}`,
		),
		...Object.entries(flags)
			.filter(([, arg]) => arg.required === true)
			.map(([key, arg]) => `--${key} ${hintOf(key, arg)}`),
		...(Object.keys(flags).length > 0 ? ["[FLAGS]"] : []),
	].join(" ");
	const aliases = Object.entries(ALIASES).filter(([, target]) => target.join(" ") === path.join(" "));
	const below = Object.entries(branch.children ?? {}).map(
		([key, child]) => [`${name} ${key}`, child.summary] as const,
	);
	return sections([
		`${branch.summary}.`,
		`${style.bold("Usage:")} ${usage}${aliases.map(([alias]) => `\n       gswarm ${alias} …`).join("")}`,
		wrap(meta.description, WIDTH).join("\n"),
		section(
			style,
			"Arguments",
			columns(positionals.map(([key, arg]) => [key.toUpperCase(), arg.description ?? ""] as const)),
		),
		section(style, "Flags", columns(flagRows(flags))),
		section(style, "Commands", columns(below)),
		section(style, "Examples", examples(command.examples)),
		section(
			style,
			"Next",
			(command.next ?? []).map((line) => `${INDENT}gswarm ${line}`),
		),
		wrap(`Flags of every command: ${globalNames()} (\`gswarm --help\`).`, WIDTH).join("\n"),
	]);
}

/** The commands that hold a word somewhere, for "did you mean". */
export function commandsNamed(word: string): string[] {
	return visibleCommands()
		.filter(({ path }) => path.at(-1) === word)
		.map(({ path }) => `gswarm ${path.join(" ")}`);
}

function flagRows(args: Args): (readonly [string, string])[] {
	return Object.entries(args).map(([name, arg]) => {
		const { alias } = arg as { alias?: string };
		const short = alias === undefined ? "    " : `-${alias}, `;
		const value = arg.type === "boolean" ? "" : ` ${hintOf(name, arg)}`;
		const onlyNegative = arg.type === "boolean" && arg.default === true;
		const shown = onlyNegative ? `no-${name}` : isNegatable(arg) ? `[no-]${name}` : name;
		const text = onlyNegative ? (arg.negativeDescription ?? arg.description) : arg.description;
		return [`${short}--${shown}${value}`, `${text ?? ""}${notes(arg)}`] as const;
	});
}

function notes(arg: Arg): string {
	const said = [
		...(arg.required === true ? ["required"] : []),
		...(arg.many === true ? ["may be repeated"] : []),
		...(arg.default === undefined || arg.type === "boolean" ? [] : [`default: ${String(arg.default)}`]),
	];
	return said.length === 0 ? "" : ` (${said.join("; ")})`;
}

function hintOf(name: string, arg: Arg): string {
	if (arg.valueHint !== undefined) return arg.valueHint;
	if (arg.type === "enum") return (arg.options ?? []).join("|");
	return name.toUpperCase();
}

function globalNames(): string {
	return Object.entries(GLOBAL_ARGS)
		.map(
			([name, arg]: [string, Arg]) =>
				`--${arg.type === "boolean" && arg.default === true ? "no-" : ""}${name}`,
		)
		.join(" ");
}

function examples(list: Command["examples"]): string[] {
	return list.flatMap(([line, what]) => [`${INDENT}# ${what}`, `${INDENT}gswarm ${line}`]);
}

function section(style: Style, title: string, lines: readonly string[]): string {
	return lines.length === 0 ? "" : [style.bold(title), ...lines].join("\n");
}

function sections(parts: readonly string[]): string {
	return `${parts.filter((part) => part !== "").join("\n\n")}\n`;
}

/** Two columns; the second is wrapped under itself. */
function columns(rows: readonly (readonly [string, string])[]): string[] {
	const left = Math.min(36, Math.max(0, ...rows.map(([first]) => first.length)));
	return rows.flatMap(([first, second]) => {
		const lines = wrap(second, WIDTH - INDENT.length * 2 - left);
		const head = first.length > left ? [`${INDENT}${first}`] : [];
		const label = first.length > left ? "" : first;
		return [
			...head,
			...lines.map((line, at) =>
				`${INDENT}${(at === 0 ? label : "").padEnd(left)}${INDENT}${line}`.trimEnd(),
			),
		];
	});
}

function wrap(text: string, width: number): string[] {
	return text.split("\n").flatMap((paragraph) => {
		const lines: string[] = [];
		let line = "";
		for (const word of paragraph.split(" ")) {
			if (line !== "" && line.length + 1 + word.length > width) {
				lines.push(line);
				line = word;
			} else line = line === "" ? word : `${line} ${word}`;
		}
		return [...lines, line];
	});
}

function lowerFirst(text: string): string {
	return text.charAt(0).toLowerCase() + text.slice(1);
}
