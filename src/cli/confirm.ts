/** The one question this program asks. */
import { invalid } from "../schema/errors.ts";
import type { Context } from "./context.ts";

const LONGEST_ANSWER = 100;

/**
 * Asks on a terminal; elsewhere whoever wrote the command is taken at their word. `--yes` does not ask.
 * @throws INVALID_REQUEST usage with --no-input, when there would be a question
 */
export async function confirm({ globals, world, screen }: Context, question: string): Promise<boolean> {
	if (globals.yes) return true;
	if (!globals.input) {
		throw invalid("usage", `Not confirmed: ${question}`, {}, "Add `--yes` to do it without a question.");
	}
	const { stdin, stderr } = world.terminal;
	if (!stdin.isTty || !stderr.isTty) return true;
	screen.clear();
	stderr.write(`${question} [y/N] `);
	const answer = await stdin.readLine(LONGEST_ANSWER);
	return /^y(es)?$/i.test((answer ?? "").trim());
}
