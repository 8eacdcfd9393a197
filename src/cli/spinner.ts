/** A sign of life while the program waits for something that has no progress to show. */
import type { Context } from "./context.ts";

/** Shows `text` with a spinner on a terminal while the work runs; the spinner is gone when it has ended. */
export async function withSpinner<Answer>(
	{ screen, globals }: Pick<Context, "screen" | "globals">,
	text: string,
	work: () => Promise<Answer>,
): Promise<Answer> {
	// A terminal that has not been given a size yet has no room to spin in.
	if (!screen.live || globals.quiet || screen.width() < 1) return await work();
	const { default: ora } = await import("ora");
	// discardStdin would read the terminal, and spins at full speed once that has gone.
	const spinner = ora({ text, stream: process.stderr, discardStdin: false, hideCursor: false });
	spinner.start();
	try {
		return await work();
	} finally {
		spinner.stop();
	}
}
