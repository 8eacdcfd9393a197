/** Writes the completion scripts below `completions/` from the command tree. A test fails when they are stale. */
import { completionSpec } from "../src/cli/completion/read-tree.ts";
import { SHELLS, completionScript } from "../src/cli/completion/script.ts";

export const COMPLETION_FILES = { bash: "gswarm.bash", zsh: "_gswarm", fish: "gswarm.fish" } as const;

if (import.meta.main) {
	for (const shell of SHELLS) {
		const url = new URL(`../completions/${COMPLETION_FILES[shell]}`, import.meta.url);
		await Bun.write(url, completionScript(shell, await completionSpec()));
	}
}
