/** The completion scripts, generated from the command tree. */
import { bashScript } from "./bash.ts";
import { fishScript } from "./fish.ts";
import type { CompletionSpec } from "./spec.ts";
import { zshScript } from "./zsh.ts";

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

/** The script for a shell. */
export function completionScript(shell: Shell, spec: CompletionSpec): string {
	switch (shell) {
		case "bash":
			return bashScript(spec);
		case "zsh":
			return zshScript(spec);
		case "fish":
			return fishScript(spec);
	}
}
