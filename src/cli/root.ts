/**
 * The command line's entry: finds the command, reads its flags, runs it, and turns whatever went wrong into one
 * message with a hint and an exit status. A thin client: each command is one call of the API and one rendering.
 */
import { asGswarmError, GswarmError, invalid } from "../schema/errors.ts";
import { parseArguments, takesValue } from "./arguments.ts";
import type { Context, World } from "./context.ts";
import { EXIT, exitCodeOf } from "./exit-codes.ts";
import { GLOBAL_ARGS, type Globals } from "./global-flags.ts";
import { safeText } from "./render/safe-text.ts";
import { createStyle } from "./render/style.ts";
import { nearest } from "./suggest.ts";
import { BrokenPipe, systemTerminal } from "./terminal.ts";
import { ALIASES, type Found, TREE, findCommand } from "./tree.ts";

/** Runs a command line (without the program's name) on the real terminal and answers the exit status. */
export async function main(argv: string[]): Promise<number> {
	const { systemEnvironment } = await import("./environment.ts");
	const { systemClock } = await import("../platform/clock.ts");
	return runCli(argv, { environment: systemEnvironment(), terminal: systemTerminal(), clock: systemClock });
}

/** The same in a given world. */
export async function runCli(argv: readonly string[], world: World): Promise<number> {
	let context: Context | undefined;
	try {
		if (argv[0] === "--version" || argv[0] === "-V") {
			const { version } = await import("../platform/version.ts");
			world.terminal.stdout.write(`gswarm ${version}\n`);
			return EXIT.done;
		}
		const words = argv[0] === "help" ? [...argv.slice(1), "--help"] : argv;
		const found = findCommand(words, (flag) => takesValue(flag, GLOBAL_ARGS));
		const { branch, path } = found;
		if (branch.load === undefined) return await answerGroup(found, world);
		const { command } = await branch.load();
		const name = `gswarm ${path.join(" ")}`;
		const args = { ...GLOBAL_ARGS, ...command.definition.args };
		const values = parseArguments(found.rest, args, { command: name, stray: command.stray });
		// The parser filled every global flag, so the values are Globals.
		const globals = values as unknown as Globals;
		if (globals.help) {
			const { commandHelp } = await import("./help.ts");
			world.terminal.stdout.write(commandHelp(path, branch, command, helpStyle(world, globals.color)));
			return EXIT.done;
		}
		const { createContext } = await import("./context.ts");
		context = createContext(world, globals, {
			// A command that needs all commands gets them from here, where they are known.
			completionSpec: async () => await (await import("./completion/read-tree.ts")).completionSpec(),
		});
		return await command.run(context, values);
	} catch (error) {
		return report(error, world, context, argv.includes("--debug"));
	}
}

/** A group by itself shows its help; a word after it that is no command is an error that says which was meant. */
async function answerGroup({ branch, path, rest }: Found, world: World): Promise<number> {
	const words = rest.filter(
		(word, at) => !word.startsWith("-") && !takesValue(rest[at - 1] ?? "", GLOBAL_ARGS),
	);
	const [unknown] = words;
	const name = ["gswarm", ...path].join(" ");
	if (unknown !== undefined) {
		const meant = await meantBy(unknown, branch, path);
		throw invalid(
			"usage",
			`There is no command ${JSON.stringify(`${name} ${unknown}`)}.`,
			{},
			meant.length > 0 ? `Did you mean \`${meant.join("` or `")}\`?` : `\`${name} --help\` lists them.`,
		);
	}
	const values = parseArguments(rest, GLOBAL_ARGS, { command: name }) as unknown as Globals;
	const { groupHelp, rootHelp } = await import("./help.ts");
	const style = helpStyle(world, values.color);
	const text = branch === TREE ? rootHelp(style) : groupHelp(path, branch, style);
	const asked = values.help || branch === TREE;
	(asked ? world.terminal.stdout : world.terminal.stderr).write(text);
	return asked ? EXIT.done : EXIT.usage;
}

/** The same word elsewhere, a short form's command, or a word like it here. */
async function meantBy(word: string, branch: Found["branch"], path: Found["path"]): Promise<string[]> {
	const { commandsNamed } = await import("./help.ts");
	const elsewhere = commandsNamed(word);
	if (elsewhere.length > 0) return elsewhere;
	if (Object.hasOwn(ALIASES, word)) return [`gswarm ${ALIASES[word]?.join(" ")}`];
	const known = [...Object.keys(branch.children ?? {}), ...(path.length === 0 ? Object.keys(ALIASES) : [])];
	const near = nearest(
		word,
		known.filter((name) => !name.startsWith("__")),
	);
	return near === undefined ? [] : [["gswarm", ...path, near].join(" ")];
}

function helpStyle({ environment, terminal }: World, color: boolean) {
	return createStyle(color && !environment.noColor && terminal.stdout.isTty);
}

/** The one place that turns an error into output. */
function report(error: unknown, world: World, context: Context | undefined, debug: boolean): number {
	if (error instanceof BrokenPipe) return EXIT.brokenPipe;
	try {
		context?.screen.clear();
		const { stderr } = world.terminal;
		const style = createStyle(stderr.isTty && !world.environment.noColor && context?.globals.color !== false);
		const line = (label: string, text: string): void => stderr.write(`${label}${safeText(text)}\n`);
		const known = error instanceof GswarmError;
		const failure = asGswarmError(error);
		const message = known
			? failure.message
			: `Unexpected: ${error instanceof Error ? error.message : String(error)}`;
		line(style.bad("error: "), message);
		const hint = known ? failure.hint : "This is a fault of gswarm; `--debug` shows where.";
		if (hint !== undefined) line(style.accent("hint: "), hint);
		if (debug && error instanceof Error) line("", inside(error));
		return known ? exitCodeOf(failure.code) : EXIT.failed;
	} catch (second) {
		if (second instanceof BrokenPipe) return EXIT.brokenPipe;
		throw second;
	}
}

function inside(error: Error): string {
	const cause = error.cause instanceof Error ? `\ncaused by ${inside(error.cause)}` : "";
	return `${error.stack ?? error.message}${cause}`;
}
