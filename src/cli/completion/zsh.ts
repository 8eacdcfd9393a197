/** Completion for zsh. Words are split at spaces alone there, so a device is one word. */
import { type CommandSpec, type Values } from "./spec.ts";

export function zshScript(specs: readonly CommandSpec[]): string {
	return `#compdef gswarm
# zsh completion for gswarm. Generated from the command tree; do not edit.

# Sets REPLY to the path of a word below a path, or fails.
_gswarm_step() {
	case "$1/$2" in
${specs.flatMap((spec) => spec.children.map((child) => `\t\t(${quote(`${spec.path}/${child.name}`)}) REPLY=${quote(child.path)} ;;`)).join("\n")}
		(*) return 1 ;;
	esac
}

# Sets reply to "name:summary" of the commands below a path.
_gswarm_children() {
	reply=()
	case "$1" in
${specs
	.filter((spec) => spec.children.length > 0)
	.map(
		(spec) =>
			`\t\t(${quote(spec.path)}) reply=(${spec.children.map(({ name, summary }) => described(name, summary)).join(" ")}) ;;`,
	)
	.join("\n")}
	esac
}

# Sets reply to "flag:description" of the flags of a path.
_gswarm_flags() {
	reply=()
	case "$1" in
${specs
	.map(
		(spec) =>
			`\t\t(${quote(spec.path)}) reply=(${spec.flags.flatMap(({ names, description }) => names.map((name) => described(name, description))).join(" ")}) ;;`,
	)
	.join("\n")}
	esac
}

# Sets REPLY to where the value of a flag comes from; fails when it takes none.
_gswarm_value() {
	case "$1/$2" in
${specs
	.flatMap((spec) =>
		spec.flags.flatMap(({ names, values }) =>
			values === undefined
				? []
				: [
						`\t\t(${names.map((name) => quote(`${spec.path}/${name}`)).join("|")}) REPLY=${quote(origin(values))} ;;`,
					],
		),
	)
	.join("\n")}
		(*) return 1 ;;
	esac
}

# Sets REPLY to where the n-th argument of a path comes from, or fails.
_gswarm_argument() {
	case "$1/$2" in
${specs
	.flatMap((spec) =>
		spec.positionals.map(
			(values, at) => `\t\t(${quote(`${spec.path}/${at}`)}) REPLY=${quote(origin(values))} ;;`,
		),
	)
	.join("\n")}
		(*) return 1 ;;
	esac
}

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

function origin(values: Values): string {
	if (typeof values === "string") return values;
	return "live" in values ? `live:${values.live}` : `words:${values.words.join(" ")}`;
}

function quote(text: string): string {
	return `"${text}"`;
}

/** `'name:description'`, in single quotes. */
function described(name: string, description: string): string {
	return `'${name.replaceAll(":", "\\:")}:${description.replaceAll("'", "'\\''")}'`;
}
