/** Completion for fish: one declaration for each flag and argument, under the condition that its command is being typed. */
import type { CommandSpec, CompletionSpec, FlagSpec, Values } from "./spec.ts";

export function fishScript({ commands, globals }: CompletionSpec): string {
	const lines = [
		...commands.flatMap((command) => [
			...childLines(command),
			...argumentLines(command),
			...flagLines(command.flags, ` -n "__gswarm_in '${command.path}'"`),
		]),
		...flagLines(globals, ""),
	];
	const valueFlags = [
		...commands.flatMap(({ path, flags }) => namesWithValue(flags).map((name) => `'${path}/${name}'`)),
		...namesWithValue(globals).map((name) => `'*/${name}'`),
	];
	return `# fish completion for gswarm. Generated from the command tree; do not edit.

# Prints the path of the command being typed and how many arguments it has already, e.g. "model download/1".
function __gswarm_at
	set -l path ""
	set -l count 0
	set -l flag ""
	for word in (commandline -opc)[2..-1]
		if test -n "$flag"
			set flag ""
			continue
		end
		switch $word
			case '-*=*'
				continue
			case '-*'
				switch "$path/$word"
					case ${valueFlags.join(" ")}
						set flag $word
				end
				continue
		end
		switch "$path/$word"
${commands.flatMap((spec) => spec.children.map((child) => `\t\t\tcase '${spec.path}/${child.name}'\n\t\t\t\tset path '${child.path}'`)).join("\n")}
			case '*'
				set count (math $count + 1)
		end
	end
	echo "$path/$count"
end

function __gswarm_in
	string match -q -- "$argv[1]/*" (__gswarm_at)
end

function __gswarm_live
	set -l place
	set -l words (commandline -opc)
	if set -l at (contains -i -- --data-dir $words)
		set place --data-dir $words[(math $at + 1)]
	end
	$words[1] __complete $argv[1] $place 2>/dev/null
end

complete -c gswarm -f
${lines.join("\n")}
`;
}

function childLines(spec: CommandSpec): string[] {
	return spec.children.map(
		({ name, summary }) =>
			`complete -c gswarm -n "test (__gswarm_at) = '${spec.path}/0'" -a ${name} -d ${quote(summary)}`,
	);
}

function argumentLines(spec: CommandSpec): string[] {
	return spec.positionals.map((values, at) => {
		const condition = `complete -c gswarm -n "test (__gswarm_at) = '${spec.path}/${at}'"`;
		return values === "path" ? `${condition} -F` : `${condition} -a ${candidates(values)}`;
	});
}

function flagLines(flags: readonly FlagSpec[], condition: string): string[] {
	return flags.flatMap(({ names, description, values }) =>
		names.map((name) => {
			const shape = name.startsWith("--") ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`;
			const value = values === undefined ? "" : values === "path" ? " -r -F" : ` -x -a ${candidates(values)}`;
			return `complete -c gswarm${condition} ${shape}${value} -d ${quote(description)}`;
		}),
	);
}

function namesWithValue(flags: readonly FlagSpec[]): string[] {
	return flags.flatMap(({ names, values }) => (values === undefined ? [] : names));
}

function candidates(values: Values): string {
	if (typeof values === "string") return "''";
	return "live" in values ? `'(__gswarm_live ${values.live})'` : quote(values.words.join(" "));
}

function quote(text: string): string {
	return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}
