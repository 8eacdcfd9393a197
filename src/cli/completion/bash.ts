/**
 * Completion for bash 3.2 and later, without the bash-completion package. Two things need care. bash splits words at
 * ":" and "=" (COMP_WORDBREAKS), and device names hold ":": the line is split here at spaces alone, and what readline
 * regards as before the word is cut from the answers. And names come from a server: they are compared as text, never
 * given to `compgen -W`, which would expand them.
 */
import { sharedFunctions } from "./shell-functions.ts";
import type { CommandSpec, CompletionSpec, FlagSpec } from "./spec.ts";

export function bashScript(spec: CompletionSpec): string {
	return `# bash completion for gswarm. Generated from the command tree; do not edit.

${sharedFunctions(spec)}

# Prints the commands below a path.
_gswarm_children() {
	case "$1" in
${spec.commands.flatMap(childrenCase).join("\n")}
	esac
}

# Prints the flags of a path.
_gswarm_flags() {
	printf '%s\\n' ${namesOf(spec.globals)}
	case "$1" in
${spec.commands.flatMap(flagsCase).join("\n")}
	esac
}

# Prints the candidates of an origin.
_gswarm_candidates() {
	case "$1" in
		live:*) "\${words[0]}" __complete "\${1#live:}" "\${place[@]}" 2>/dev/null ;;
		words:*) printf '%s\\n' \${1#words:} ;;
		path) compgen -f -- "$2" ;;
	esac
}

_gswarm() {
	local line=\${COMP_LINE:0:COMP_POINT} cur="" path="" flag="" word value="" given="" at=0 REPLY
	local -a words place
	COMPREPLY=()
	place=()
	read -r -a words <<<"$line"
	case "$line" in
		*[[:space:]]) ;;
		*)
			cur=\${words[\${#words[@]} - 1]}
			unset "words[\${#words[@]} - 1]"
			;;
	esac
	for word in "\${words[@]:1}"; do
		if [[ -n $flag ]]; then
			[[ $flag == --data-dir ]] && place=(--data-dir "$word")
			flag=""
		elif [[ $word == --data-dir=* ]]; then
			place=("$word")
		elif [[ $word == -*=* ]]; then
			:
		elif [[ $word == -* ]]; then
			_gswarm_value "$path" "$word" && flag=$word
		elif [[ $at -eq 0 ]] && _gswarm_step "$path" "$word"; then
			path=$REPLY
		else
			at=$((at + 1))
		fi
	done

	local list="" prefix=""
	if [[ -n $flag ]]; then
		value=$cur
		_gswarm_value "$path" "$flag" && given=$REPLY
		list=$(_gswarm_candidates "$given" "$value")
	elif [[ $cur == --*=* ]]; then
		value=\${cur#*=}
		[[ $COMP_WORDBREAKS == *=* ]] || prefix="\${cur%%=*}="
		_gswarm_value "$path" "\${cur%%=*}" && given=$REPLY
		list=$(_gswarm_candidates "$given" "$value")
	elif [[ $cur == -* ]]; then
		value=$cur
		list=$(_gswarm_flags "$path")
	else
		value=$cur
		[[ $at -eq 0 ]] && list=$(_gswarm_children "$path")
		if _gswarm_argument "$path" "$at"; then
			given=$REPLY
			list+=$'\\n'$(_gswarm_candidates "$given" "$value")
		fi
	fi

	# Readline replaces only what follows the last ":".
	local before=""
	[[ $COMP_WORDBREAKS == *:* && $value == *:* ]] && before=\${value%"\${value##*:}"}
	while IFS= read -r word; do
		[[ -n $word && $word == "$value"* ]] || continue
		COMPREPLY+=("$prefix\${word#"$before"}")
	done <<<"$list"
	[[ $given == path ]] && compopt -o filenames 2>/dev/null
	return 0
}

complete -F _gswarm gswarm
`;
}

function childrenCase({ path, children }: CommandSpec): string[] {
	if (children.length === 0) return [];
	return [`\t\t("${path}") printf '%s\\n' ${children.map(({ name }) => name).join(" ")} ;;`];
}

function flagsCase({ path, flags }: CommandSpec): string[] {
	return flags.length === 0 ? [] : [`\t\t("${path}") printf '%s\\n' ${namesOf(flags)} ;;`];
}

function namesOf(flags: readonly FlagSpec[]): string {
	return flags.flatMap(({ names }) => names).join(" ");
}
