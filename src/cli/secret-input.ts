/** A secret from where it may come: typed without being shown, or all of a pipe. Never from the command line. */
import { invalid } from "../schema/errors.ts";
import type { Context } from "./context.ts";

const LONGEST_SECRET = 4096;

/**
 * Asks for a secret; `what` is its name in the question and in messages, e.g. `Token of hf`.
 * @throws INVALID_REQUEST usage when there is none, or with --no-input on a terminal
 */
export async function readSecret({ globals, world, screen }: Context, what: string): Promise<string> {
	const { stdin, stderr } = world.terminal;
	const fail = (problem: string): Error =>
		invalid("usage", `${what}: ${problem}.`, {}, "Type it at the prompt, or pipe it in: `… < FILE`.");
	if (!stdin.isTty) return checked(await stdin.readAll(LONGEST_SECRET + 1), fail);
	if (!globals.input) throw fail("it would have to be typed, and --no-input was given");
	screen.clear();
	const text = await stdin.readHidden(LONGEST_SECRET + 1, () => stderr.write(`${what} (not shown): `));
	stderr.write("\n");
	return checked(text, fail);
}

/** Without repeating it: it may be most of a secret. */
function checked(text: string | undefined, fail: (problem: string) => Error): string {
	const secret = text?.trim() ?? "";
	// The first of them would be as good a guess as the last.
	if (/[\r\n]/.test(secret)) throw fail("several lines were given; it is one");
	if (secret === "") throw fail("nothing was given");
	if (secret.length > LONGEST_SECRET) throw fail(`it is longer than ${LONGEST_SECRET} characters`);
	if (!/^[\u0021-\u007e]+$/.test(secret))
		throw fail("it holds a space or another character that no token has");
	return secret;
}
