# bash completion for gswarm. Generated from the command tree; do not edit.

# Sets REPLY to the path of a word below a path, or fails.
_gswarm_step() {
	case "$1/$2" in
		("/agent") REPLY="agent" ;;
		("/model") REPLY="model" ;;
		("/service") REPLY="service" ;;
		("/queue") REPLY="queue" ;;
		("/resources") REPLY="resources" ;;
		("/node") REPLY="node" ;;
		("/token") REPLY="token" ;;
		("/secret") REPLY="secret" ;;
		("/audit") REPLY="audit" ;;
		("/login") REPLY="login" ;;
		("/context") REPLY="context" ;;
		("/whoami") REPLY="whoami" ;;
		("/env") REPLY="env" ;;
		("/health") REPLY="health" ;;
		("/version") REPLY="version" ;;
		("/completions") REPLY="completions" ;;
		("/pull") REPLY="model download" ;;
		("/ls") REPLY="model list" ;;
		("/show") REPLY="model show" ;;
		("/rm") REPLY="model delete" ;;
		("/ps") REPLY="service list" ;;
		("agent/stop") REPLY="agent stop" ;;
		("agent/status") REPLY="agent status" ;;
		("model/list") REPLY="model list" ;;
		("model/show") REPLY="model show" ;;
		("model/locations") REPLY="model locations" ;;
		("model/register") REPLY="model register" ;;
		("model/describe") REPLY="model describe" ;;
		("model/download") REPLY="model download" ;;
		("model/copy") REPLY="model copy" ;;
		("model/move") REPLY="model move" ;;
		("model/verify") REPLY="model verify" ;;
		("model/export") REPLY="model export" ;;
		("model/adopt") REPLY="model adopt" ;;
		("model/present") REPLY="model present" ;;
		("model/import") REPLY="model import" ;;
		("model/upload") REPLY="model upload" ;;
		("model/serve") REPLY="model serve" ;;
		("model/pin") REPLY="model pin" ;;
		("model/unpin") REPLY="model unpin" ;;
		("model/evict") REPLY="model evict" ;;
		("model/hint") REPLY="model hint" ;;
		("model/preload") REPLY="model preload" ;;
		("model/delete") REPLY="model delete" ;;
		("service/list") REPLY="service list" ;;
		("service/status") REPLY="service status" ;;
		("service/logs") REPLY="service logs" ;;
		("service/switch") REPLY="service switch" ;;
		("service/stop") REPLY="service stop" ;;
		("queue/status") REPLY="queue status" ;;
		("queue/tasks") REPLY="queue tasks" ;;
		("queue/show") REPLY="queue show" ;;
		("queue/cancel") REPLY="queue cancel" ;;
		("queue/limit") REPLY="queue limit" ;;
		("queue/retry") REPLY="queue retry" ;;
		("queue/history") REPLY="queue history" ;;
		("queue/config") REPLY="queue config" ;;
		("node/list") REPLY="node list" ;;
		("node/limit") REPLY="node limit" ;;
		("node/approve") REPLY="node approve" ;;
		("node/remove") REPLY="node remove" ;;
		("node/reset") REPLY="node reset" ;;
		("token/create") REPLY="token create" ;;
		("token/list") REPLY="token list" ;;
		("token/revoke") REPLY="token revoke" ;;
		("secret/set") REPLY="secret set" ;;
		("secret/list") REPLY="secret list" ;;
		("secret/remove") REPLY="secret remove" ;;
		("context/list") REPLY="context list" ;;
		("context/use") REPLY="context use" ;;
		("context/remove") REPLY="context remove" ;;
		(*) return 1 ;;
	esac
}

# Sets REPLY to where the value of a flag comes from; fails when it takes none.
_gswarm_value() {
	case "$1/$2" in
		("agent/--join") REPLY="anything" ;;
		("agent/--join-file") REPLY="path" ;;
		("agent/--node") REPLY="live:nodes" ;;
		("agent/--port") REPLY="anything" ;;
		("agent/--node-port") REPLY="anything" ;;
		("agent/--peer-port") REPLY="anything" ;;
		("agent/--bind") REPLY="anything" ;;
		("agent/--advertise") REPLY="anything" ;;
		("agent/--tls-cert") REPLY="path" ;;
		("agent/--tls-key") REPLY="path" ;;
		("agent/--disk") REPLY="path" ;;
		("agent/--dram") REPLY="anything" ;;
		("agent/--sim-gpu") REPLY="anything" ;;
		("agent/--log-level") REPLY="words:debug info warn error" ;;
		("model list/--type") REPLY="anything" ;;
		("model list/--location") REPLY="live:devices" ;;
		("model list/--status") REPLY="words:ready downloading moving unavailable queued" ;;
		("model list/--page") REPLY="anything" ;;
		("model list/--per-page") REPLY="anything" ;;
		("model show/--include") REPLY="anything" ;;
		("model show/--exclude") REPLY="anything" ;;
		("model register/--source") REPLY="anything" ;;
		("model register/--type") REPLY="anything" ;;
		("model register/--size") REPLY="anything" ;;
		("model register/--meta") REPLY="anything" ;;
		("model describe/--type") REPLY="anything" ;;
		("model describe/--meta") REPLY="anything" ;;
		("model download/--source") REPLY="anything" ;;
		("model download/--to") REPLY="live:devices" ;;
		("model download/--revision") REPLY="anything" ;;
		("model download/--include") REPLY="anything" ;;
		("model download/--exclude") REPLY="anything" ;;
		("model download/--type") REPLY="anything" ;;
		("model download/--after") REPLY="live:tasks" ;;
		("model download/--priority") REPLY="words:critical high normal low" ;;
		("model download/--bandwidth") REPLY="anything" ;;
		("model copy/--from") REPLY="live:devices" ;;
		("model copy/--to") REPLY="live:devices" ;;
		("model copy/--after") REPLY="live:tasks" ;;
		("model copy/--priority") REPLY="words:critical high normal low" ;;
		("model copy/--bandwidth") REPLY="anything" ;;
		("model copy/--compression") REPLY="words:auto zstd none" ;;
		("model move/--from") REPLY="live:devices" ;;
		("model move/--to") REPLY="live:devices" ;;
		("model move/--after") REPLY="live:tasks" ;;
		("model move/--priority") REPLY="words:critical high normal low" ;;
		("model move/--bandwidth") REPLY="anything" ;;
		("model move/--compression") REPLY="words:auto zstd none" ;;
		("model verify/--device") REPLY="live:devices" ;;
		("model verify/--sample") REPLY="anything" ;;
		("model verify/--seed") REPLY="anything" ;;
		("model verify/--priority") REPLY="words:critical high normal low" ;;
		("model verify/--after") REPLY="live:tasks" ;;
		("model export/--from") REPLY="live:devices" ;;
		("model adopt/--node") REPLY="live:nodes" ;;
		("model adopt/--device") REPLY="live:devices" ;;
		("model adopt/--as") REPLY="live:models" ;;
		("model adopt/--type") REPLY="anything" ;;
		("model present/--device") REPLY="live:devices" ;;
		("model present/--cache-dir") REPLY="path" ;;
		("model present/--repository") REPLY="anything" ;;
		("model present/--ref") REPLY="anything" ;;
		("model import/--to") REPLY="live:devices" ;;
		("model import/--name") REPLY="live:models" ;;
		("model import/--after") REPLY="live:tasks" ;;
		("model import/--priority") REPLY="words:critical high normal low" ;;
		("model import/--bandwidth") REPLY="anything" ;;
		("model upload/--from") REPLY="live:devices" ;;
		("model upload/--after") REPLY="live:tasks" ;;
		("model upload/--priority") REPLY="words:critical high normal low" ;;
		("model upload/--bandwidth") REPLY="anything" ;;
		("model serve/--device") REPLY="live:devices" ;;
		("model serve/--port") REPLY="anything" ;;
		("model serve/--ctx") REPLY="anything" ;;
		("model serve/--parallel") REPLY="anything" ;;
		("model serve/--priority") REPLY="words:critical high normal low" ;;
		("model serve/--after") REPLY="live:tasks" ;;
		("model pin/--device") REPLY="live:devices" ;;
		("model unpin/--device") REPLY="live:devices" ;;
		("model evict/--device") REPLY="live:devices" ;;
		("model evict/--bytes") REPLY="anything" ;;
		("model hint/--in") REPLY="anything" ;;
		("model hint/--for") REPLY="anything" ;;
		("model hint/--device") REPLY="live:devices" ;;
		("model preload/--node") REPLY="live:nodes" ;;
		("model delete/--device") REPLY="live:devices" ;;
		("model delete/--revision") REPLY="anything" ;;
		("service logs/--lines") REPLY="anything" ;;
		("service switch/--to") REPLY="anything" ;;
		("service switch/--device") REPLY="live:devices" ;;
		("queue status/--status") REPLY="words:pending running" ;;
		("queue status/--type") REPLY="words:download copy move delete serve stop verify upload adopt evict" ;;
		("queue status/--priority") REPLY="words:critical high normal low" ;;
		("queue status/--node") REPLY="live:nodes" ;;
		("queue tasks/--status") REPLY="words:pending running" ;;
		("queue tasks/--type") REPLY="words:download copy move delete serve stop verify upload adopt evict" ;;
		("queue tasks/--priority") REPLY="words:critical high normal low" ;;
		("queue tasks/--node") REPLY="live:nodes" ;;
		("queue tasks/--limit") REPLY="anything" ;;
		("queue tasks/--cursor") REPLY="anything" ;;
		("queue history/--status") REPLY="words:completed failed cancelled" ;;
		("queue history/--type") REPLY="words:download copy move delete serve stop verify upload adopt evict" ;;
		("queue history/--priority") REPLY="words:critical high normal low" ;;
		("queue history/--node") REPLY="live:nodes" ;;
		("queue history/--since") REPLY="anything" ;;
		("queue history/--limit") REPLY="anything" ;;
		("queue history/--cursor") REPLY="anything" ;;
		("queue config/--max-concurrent-tasks") REPLY="anything" ;;
		("queue config/--priority-levels") REPLY="anything" ;;
		("queue config/--resource-tracking") REPLY="words:on off" ;;
		("queue config/--node") REPLY="live:nodes" ;;
		("resources/--node") REPLY="live:nodes" ;;
		("node limit/--down") REPLY="words:none" ;;
		("node limit/--up") REPLY="words:none" ;;
		("node approve/--address") REPLY="anything" ;;
		("token create/--role") REPLY="words:viewer inference user operator admin" ;;
		("token create/--name") REPLY="anything" ;;
		("token create/--ttl") REPLY="anything" ;;
		("token create/--uses") REPLY="anything" ;;
		("secret set/--origin") REPLY="anything" ;;
		("audit/--since") REPLY="anything" ;;
		("audit/--actor") REPLY="anything" ;;
		("audit/--action") REPLY="anything" ;;
		("audit/--limit") REPLY="anything" ;;
		("audit/--cursor") REPLY="anything" ;;
		("login/--ca-pin") REPLY="anything" ;;
		(*/-o|*/--output) REPLY="words:table wide json yaml name" ;;
		(*/--data-dir) REPLY="path" ;;
		(*/--context) REPLY="live:contexts" ;;
		(*/--timeout) REPLY="anything" ;;
		(*) return 1 ;;
	esac
}

# Sets REPLY to where the n-th argument of a path comes from, or fails.
_gswarm_argument() {
	case "$1/$2" in
		("model show/0") REPLY="live:models" ;;
		("model locations/0") REPLY="live:models" ;;
		("model register/0") REPLY="live:models" ;;
		("model describe/0") REPLY="live:models" ;;
		("model download/0") REPLY="live:models" ;;
		("model copy/0") REPLY="live:models" ;;
		("model copy/1") REPLY="live:devices" ;;
		("model copy/2") REPLY="live:devices" ;;
		("model move/0") REPLY="live:models" ;;
		("model move/1") REPLY="live:devices" ;;
		("model move/2") REPLY="live:devices" ;;
		("model verify/0") REPLY="live:models" ;;
		("model export/0") REPLY="live:models" ;;
		("model export/1") REPLY="path" ;;
		("model adopt/0") REPLY="path" ;;
		("model present/0") REPLY="live:models" ;;
		("model import/0") REPLY="path" ;;
		("model upload/0") REPLY="live:models" ;;
		("model upload/1") REPLY="anything" ;;
		("model serve/0") REPLY="live:models" ;;
		("model pin/0") REPLY="live:models" ;;
		("model unpin/0") REPLY="live:models" ;;
		("model hint/0") REPLY="live:models" ;;
		("model preload/0") REPLY="live:models" ;;
		("model delete/0") REPLY="live:models" ;;
		("service status/0") REPLY="live:services" ;;
		("service logs/0") REPLY="live:services" ;;
		("service switch/0") REPLY="live:models" ;;
		("service stop/0") REPLY="live:services" ;;
		("queue show/0") REPLY="live:tasks" ;;
		("queue cancel/0") REPLY="live:tasks" ;;
		("queue limit/0") REPLY="live:tasks" ;;
		("queue limit/1") REPLY="words:none" ;;
		("queue retry/0") REPLY="live:tasks" ;;
		("node limit/0") REPLY="live:nodes" ;;
		("node approve/0") REPLY="live:nodes" ;;
		("node remove/0") REPLY="live:nodes" ;;
		("node reset/0") REPLY="live:nodes" ;;
		("token revoke/0") REPLY="live:tokens" ;;
		("secret set/0") REPLY="anything" ;;
		("secret remove/0") REPLY="anything" ;;
		("login/0") REPLY="anything" ;;
		("context use/0") REPLY="live:contexts" ;;
		("context remove/0") REPLY="live:contexts" ;;
		("completions/0") REPLY="words:bash zsh fish" ;;
		(*) return 1 ;;
	esac
}

# Prints the commands below a path.
_gswarm_children() {
	case "$1" in
		("") printf '%s\n' agent model service queue resources node token secret audit login context whoami env health version completions pull ls show rm ps ;;
		("agent") printf '%s\n' stop status ;;
		("model") printf '%s\n' list show locations register describe download copy move verify export adopt present import upload serve pin unpin evict hint preload delete ;;
		("service") printf '%s\n' list status logs switch stop ;;
		("queue") printf '%s\n' status tasks show cancel limit retry history config ;;
		("node") printf '%s\n' list limit approve remove reset ;;
		("token") printf '%s\n' create list revoke ;;
		("secret") printf '%s\n' set list remove ;;
		("context") printf '%s\n' list use remove ;;
	esac
}

# Prints the flags of a path.
_gswarm_flags() {
	printf '%s\n' --json -o --output -q --quiet --data-dir --context --timeout -y --yes --no-input --no-color --debug -h --help
	case "$1" in
		("agent") printf '%s\n' --host --join --join-file --node --port --node-port --peer-port --bind --advertise --tls --tls-cert --tls-key --disk --dram --sim-gpu --detach --log-level ;;
		("model list") printf '%s\n' --type --location --status --page --per-page ;;
		("model show") printf '%s\n' --include --exclude --all-files ;;
		("model register") printf '%s\n' --source --type --size --meta ;;
		("model describe") printf '%s\n' --type --meta ;;
		("model download") printf '%s\n' --source --to --revision --include --exclude --all-files --type --after --priority --bandwidth --verify --no-verify --dry-run --no-wait ;;
		("model copy") printf '%s\n' --from --to --after --priority --bandwidth --compression --verify --no-verify --dry-run --no-wait ;;
		("model move") printf '%s\n' --from --to --keep-source --after --priority --bandwidth --compression --verify --no-verify --no-wait ;;
		("model verify") printf '%s\n' --device --sample --seed --sha256 --no-repair --priority --after --no-wait ;;
		("model export") printf '%s\n' --from --overwrite ;;
		("model adopt") printf '%s\n' --node --device --as --type --link --dry-run --no-wait ;;
		("model present") printf '%s\n' --device --cache-dir --repository --ref --remove ;;
		("model import") printf '%s\n' --to --name --on-node --after --priority --bandwidth --no-wait ;;
		("model upload") printf '%s\n' --from --overwrite --after --priority --bandwidth --no-wait ;;
		("model serve") printf '%s\n' --replace --device --port --ctx --parallel --priority --after --no-wait ;;
		("model pin") printf '%s\n' --device ;;
		("model unpin") printf '%s\n' --device ;;
		("model evict") printf '%s\n' --device --bytes --dry-run --no-wait ;;
		("model hint") printf '%s\n' --in --for --device --cancel ;;
		("model preload") printf '%s\n' --explain --node ;;
		("model delete") printf '%s\n' --device --revision --delete-files --force --no-wait ;;
		("service logs") printf '%s\n' --lines ;;
		("service switch") printf '%s\n' --to --device --no-wait ;;
		("service stop") printf '%s\n' --no-wait ;;
		("queue status") printf '%s\n' --status --type --priority --node --watch ;;
		("queue tasks") printf '%s\n' --status --type --priority --node --limit --cursor --watch ;;
		("queue show") printf '%s\n' --wait ;;
		("queue retry") printf '%s\n' --no-wait ;;
		("queue history") printf '%s\n' --status --type --priority --node --since --limit --cursor ;;
		("queue config") printf '%s\n' --max-concurrent-tasks --priority-levels --resource-tracking --node ;;
		("resources") printf '%s\n' --node --watch ;;
		("node limit") printf '%s\n' --down --up ;;
		("node approve") printf '%s\n' --address ;;
		("node remove") printf '%s\n' --force ;;
		("token create") printf '%s\n' --role --name --join --ttl --uses --approve ;;
		("token list") printf '%s\n' --all ;;
		("secret set") printf '%s\n' --origin ;;
		("audit") printf '%s\n' --since --actor --action --limit --cursor ;;
		("login") printf '%s\n' --ca-pin ;;
	esac
}

# Prints the candidates of an origin.
_gswarm_candidates() {
	case "$1" in
		live:*) "${words[0]}" __complete "${1#live:}" "${place[@]}" 2>/dev/null ;;
		words:*) printf '%s\n' ${1#words:} ;;
		path) compgen -f -- "$2" ;;
	esac
}

_gswarm() {
	local line=${COMP_LINE:0:COMP_POINT} cur="" path="" flag="" word value="" given="" at=0 REPLY
	local -a words place
	COMPREPLY=()
	place=()
	read -r -a words <<<"$line"
	case "$line" in
		*[[:space:]]) ;;
		*)
			cur=${words[${#words[@]} - 1]}
			unset "words[${#words[@]} - 1]"
			;;
	esac
	for word in "${words[@]:1}"; do
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
		value=${cur#*=}
		[[ $COMP_WORDBREAKS == *=* ]] || prefix="${cur%%=*}="
		_gswarm_value "$path" "${cur%%=*}" && given=$REPLY
		list=$(_gswarm_candidates "$given" "$value")
	elif [[ $cur == -* ]]; then
		value=$cur
		list=$(_gswarm_flags "$path")
	else
		value=$cur
		[[ $at -eq 0 ]] && list=$(_gswarm_children "$path")
		if _gswarm_argument "$path" "$at"; then
			given=$REPLY
			list+=$'\n'$(_gswarm_candidates "$given" "$value")
		fi
	fi

	# Readline replaces only what follows the last ":".
	local before=""
	[[ $COMP_WORDBREAKS == *:* && $value == *:* ]] && before=${value%"${value##*:}"}
	while IFS= read -r word; do
		[[ -n $word && $word == "$value"* ]] || continue
		COMPREPLY+=("$prefix${word#"$before"}")
	done <<<"$list"
	[[ $given == path ]] && compopt -o filenames 2>/dev/null
	return 0
}

complete -F _gswarm gswarm
