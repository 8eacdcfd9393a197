/** Completion for zsh. Words are split at spaces alone there, so a device is one word. */
import { sharedFunctions } from "./shell-functions.ts";
import type { CommandSpec, CompletionSpec, FlagSpec } from "./spec.ts";

export function zshScript(spec: CompletionSpec): string {
	return `#compdef gswarm
# zsh completion for gswarm. Generated from the command tree; do not edit.

${sharedFunctions(spec)}

# Sets reply to "name:summary" of the commands below a path.
_gswarm_children() {
	reply=()
	case "$1" in
${spec.commands.flatMap(childrenCase).join("\n")}
	esac
}

# Sets reply to "flag:description" of the flags of a path.
_gswarm_flags() {
	reply=()
	case "$1" in
${spec.commands.flatMap(flagsCase).join("\n")}
	esac
	reply+=(${describedFlags(spec.globals)})
}

# Offers the candidates of an origin.
_gswarm_offer() {
	local -a names
	case "$1" in
		(live:*)
			names=(\${(f)"$("$program" __complete \${1#live:} $place 2>/dev/null)"})
			compadd -a names
			;;
		(words:*)
			names=(\${=1#words:})
			compadd -a names
			;;
		(path) _files ;;
		(*) _message value ;;
	esac
}

_gswarm() {
	local program=$words[1] current_path="" flag="" word REPLY
	local -a place reply
	integer at=0 i
	for ((i = 2; i < CURRENT; i++)); do
		word=$words[i]
		if [[ -n $flag ]]; then
			[[ $flag == --data-dir ]] && place=(--data-dir $word)
			flag=""
		elif [[ $word == --data-dir=* ]]; then
			place=($word)
		elif [[ $word == -*=* ]]; then
			:
		elif [[ $word == -* ]]; then
			_gswarm_value "$current_path" "$word" && flag=$word
		elif ((at == 0)) && _gswarm_step "$current_path" "$word"; then
			current_path=$REPLY
		else
			((at += 1))
		fi
	done
	if [[ -n $flag ]]; then
		_gswarm_value "$current_path" "$flag" && _gswarm_offer "$REPLY"
	elif [[ $PREFIX == --*=* ]]; then
		flag=\${PREFIX%%=*}
		compset -P '*='
		_gswarm_value "$current_path" "$flag" && _gswarm_offer "$REPLY"
	elif [[ $PREFIX == -* ]]; then
		_gswarm_flags "$current_path"
		_describe -o flag reply
	else
		if ((at == 0)); then
			_gswarm_children "$current_path"
			((\${#reply})) && _describe command reply
		fi
		_gswarm_argument "$current_path" $at && _gswarm_offer "$REPLY"
	fi
}

if [[ $funcstack[1] == _gswarm ]]; then
	_gswarm "$@"
else
	compdef _gswarm gswarm
fi
`;
}

function childrenCase({ path, children }: CommandSpec): string[] {
	if (children.length === 0) return [];
	return [
		`\t\t("${path}") reply=(${children.map(({ name, summary }) => described(name, summary)).join(" ")}) ;;`,
	];
}

function flagsCase({ path, flags }: CommandSpec): string[] {
	return flags.length === 0 ? [] : [`\t\t("${path}") reply=(${describedFlags(flags)}) ;;`];
}

function describedFlags(flags: readonly FlagSpec[]): string {
	return flags
		.flatMap(({ names, description }) => names.map((name) => described(name, description)))
		.join(" ");
}

/** `'name:description'`, in single quotes. */
function described(name: string, description: string): string {
	return `'${name.replaceAll(":", "\\:")}:${description.replaceAll("'", "'\\''")}'`;
}
