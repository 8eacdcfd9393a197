/** The completion scripts, generated from the command tree. */
import { bashScript } from "./bash.ts";
import { fishScript } from "./fish.ts";
import { completionSpec } from "./spec.ts";
import { zshScript } from "./zsh.ts";

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

/** The script for a shell. */
export async function completionScript(shell: Shell): Promise<string> {
	const spec = await completionSpec();
	switch (shell) {
		case "bash":
			return bashScript(spec);
		case "zsh":
			return zshScript(spec);
		case "fish":
			return fishScript(spec);
	}
}
