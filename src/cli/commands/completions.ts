import { defineCommand } from "../command.ts";
import { SHELLS, type Shell, completionScript } from "../completion/script.ts";
import { EXIT } from "../exit-codes.ts";
import type { ValueKind } from "../values.ts";

const shellName: ValueKind<Shell> = {
	parse: (text) => SHELLS.find((shell) => shell === text),
	wanted: SHELLS.join(", "),
	words: SHELLS,
};

export const command = defineCommand({
	about:
		"Prints a script that completes commands, flags, and the names of models, devices, nodes, tasks and services of the running agent.",
	args: { shell: { type: "positional", value: shellName, description: SHELLS.join(", ") } },
	examples: [
		["completions bash > ~/.local/share/bash-completion/completions/gswarm", "for bash"],
		["completions zsh > ~/.zfunc/_gswarm", "for zsh, with ~/.zfunc in fpath"],
		["completions fish > ~/.config/fish/completions/gswarm.fish", "for fish"],
	],
	async run({ out, completionSpec }, { shell }) {
		out.text(completionScript(shell, await completionSpec()));
		return EXIT.done;
	},
});
