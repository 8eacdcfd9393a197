/**
 * All commands: names, one line each, and where they live. A command's module is loaded only when it is used,
 * so that this file must stay free of imports.
 */
import type { Command } from "./command.ts";

export interface Branch {
	summary: string;
	load?: () => Promise<{ command: Command }>;
	children?: Record<string, Branch>;
	/** Understood, but shown nowhere. */
	hidden?: boolean;
}

export const TREE: Branch = {
	summary: "One place for the models of a handful of GPU machines",
	children: {
		agent: {
			summary: "Run this machine's agent: a host, a node, or both",
			load: () => import("./commands/agent.ts"),
			children: {
				stop: {
					summary: "Stop the agent of a data directory",
					load: () => import("./commands/agent-stop.ts"),
				},
				status: {
					summary: "Say whether the agent runs, and where",
					load: () => import("./commands/agent-status.ts"),
				},
			},
		},
		model: {
			summary: "Download, copy, move, serve and delete models",
			children: {
				list: { summary: "List models", load: () => import("./commands/model-list.ts") },
				show: { summary: "Show one model", load: () => import("./commands/model-show.ts") },
				locations: { summary: "Show where a model is", load: () => import("./commands/model-locations.ts") },
				register: {
					summary: "Give a source a name, without downloading it",
					load: () => import("./commands/model-register.ts"),
				},
				describe: {
					summary: "Say what a model is",
					load: () => import("./commands/model-describe.ts"),
				},
				download: {
					summary: "Download a model to a device",
					load: () => import("./commands/model-download.ts"),
				},
				copy: {
					summary: "Copy a model to another device or node",
					load: () => import("./commands/model-copy.ts"),
				},
				move: {
					summary: "Move a model to another device or node",
					load: () => import("./commands/model-move.ts"),
				},
				verify: {
					summary: "Read a model's copies again, and repair a damaged one",
					load: () => import("./commands/model-verify.ts"),
				},
				export: {
					summary: "Write a model and its manifest to one file",
					load: () => import("./commands/model-export.ts"),
				},
				adopt: {
					summary: "Register models that lie on a node already",
					load: () => import("./commands/model-adopt.ts"),
				},
				present: {
					summary: "Show a copy in Hugging Face's cache layout",
					load: () => import("./commands/model-present.ts"),
				},
				import: {
					summary: "Take in a model from such a file",
					load: () => import("./commands/model-import.ts"),
				},
				upload: {
					summary: "Upload a model to a bucket",
					load: () => import("./commands/model-upload.ts"),
				},
				serve: {
					summary: "Serve a model behind an OpenAI-compatible address",
					load: () => import("./commands/model-serve.ts"),
				},
				pin: {
					summary: "Keep copies of a model from being evicted",
					load: () => import("./commands/model-pin.ts"),
				},
				unpin: {
					summary: "Let copies of a model be evicted again",
					load: () => import("./commands/model-unpin.ts"),
				},
				evict: {
					summary: "Make room on a device, or show who would go",
					load: () => import("./commands/model-evict.ts"),
				},
				hint: {
					summary: "Say that a model will be used soon",
					load: () => import("./commands/model-hint.ts"),
				},
				preload: {
					summary: "Show what is brought into memory ahead of its use, and why",
					load: () => import("./commands/model-preload.ts"),
				},
				delete: {
					summary: "Delete a model, or one copy of it",
					load: () => import("./commands/model-delete.ts"),
				},
			},
		},
		service: {
			summary: "Look after served models",
			children: {
				list: { summary: "List services", load: () => import("./commands/service-list.ts") },
				status: { summary: "Show one service", load: () => import("./commands/service-status.ts") },
				logs: {
					summary: "Print the last lines of a service's log",
					load: () => import("./commands/service-logs.ts"),
				},
				switch: {
					summary: "Let a served name mean another revision",
					load: () => import("./commands/service-switch.ts"),
				},
				stop: { summary: "Stop a service", load: () => import("./commands/service-stop.ts") },
			},
		},
		queue: {
			summary: "Look at tasks, cancel them, do them again",
			children: {
				status: { summary: "Show how much waits and runs", load: () => import("./commands/queue-status.ts") },
				tasks: { summary: "List tasks that wait or run", load: () => import("./commands/queue-tasks.ts") },
				show: { summary: "Show one task, or follow it", load: () => import("./commands/queue-show.ts") },
				cancel: { summary: "Cancel a task", load: () => import("./commands/queue-cancel.ts") },
				limit: {
					summary: "Change how fast a task may receive",
					load: () => import("./commands/queue-limit.ts"),
				},
				retry: {
					summary: "Do a failed or cancelled task again",
					load: () => import("./commands/queue-retry.ts"),
				},
				history: {
					summary: "List past tasks, the newest first",
					load: () => import("./commands/queue-history.ts"),
				},
				config: {
					summary: "Show or change how the queue works",
					load: () => import("./commands/queue-config.ts"),
				},
			},
		},
		resources: {
			summary: "Show what machines have and how much of it is in use",
			load: () => import("./commands/resources.ts"),
		},
		node: {
			summary: "Look after the machines of the cluster",
			children: {
				list: { summary: "List nodes and their devices", load: () => import("./commands/node-list.ts") },
				limit: {
					summary: "Change how fast a node, or the cluster, may receive and send",
					load: () => import("./commands/node-limit.ts"),
				},
				approve: {
					summary: "Let a node in that waits to join",
					load: () => import("./commands/node-approve.ts"),
				},
				remove: {
					summary: "Remove a node from the cluster",
					load: () => import("./commands/node-remove.ts"),
				},
				reset: {
					summary: "Forget a node's key, so that its machine can join anew",
					load: () => import("./commands/node-reset.ts"),
				},
			},
		},
		token: {
			summary: "Let people and machines in",
			children: {
				create: {
					summary: "Make a token for a person, or a join string for machines",
					load: () => import("./commands/token-create.ts"),
				},
				list: { summary: "List who may get in", load: () => import("./commands/token-list.ts") },
				revoke: { summary: "End a token at once", load: () => import("./commands/token-revoke.ts") },
			},
		},
		secret: {
			summary: "Keep tokens for downloads, such as the hub's",
			children: {
				set: {
					summary: "Store a secret, and where it may be sent",
					load: () => import("./commands/secret-set.ts"),
				},
				list: {
					summary: "List secrets, without their values",
					load: () => import("./commands/secret-list.ts"),
				},
				remove: { summary: "Forget a secret", load: () => import("./commands/secret-remove.ts") },
			},
		},
		audit: { summary: "Show who did what, and who was refused", load: () => import("./commands/audit.ts") },
		login: {
			summary: "Talk to a cluster elsewhere, as the person whose token it is",
			load: () => import("./commands/login.ts"),
		},
		context: {
			summary: "Choose among the clusters that you have logged in to",
			children: {
				list: { summary: "List them", load: () => import("./commands/context-list.ts") },
				use: { summary: "Make commands go to another one", load: () => import("./commands/context-use.ts") },
				remove: { summary: "Forget one", load: () => import("./commands/context-remove.ts") },
			},
		},
		whoami: {
			summary: "Say as whom commands go to which agent",
			load: () => import("./commands/whoami.ts"),
		},
		env: {
			summary: "Print the address and token for other programs",
			load: () => import("./commands/env.ts"),
		},
		health: { summary: "Ask the agent how it is", load: () => import("./commands/health.ts") },
		version: {
			summary: "Print the versions of this program and of the agent",
			load: () => import("./commands/version.ts"),
		},
		completions: {
			summary: "Print a completion script for a shell",
			load: () => import("./commands/completions.ts"),
		},
		__complete: {
			summary: "Live names for completion",
			load: () => import("./commands/complete.ts"),
			hidden: true,
		},
	},
};

/** Short forms at the top level. */
export const ALIASES: Readonly<Record<string, readonly string[]>> = {
	pull: ["model", "download"],
	ls: ["model", "list"],
	show: ["model", "show"],
	rm: ["model", "delete"],
	ps: ["service", "list"],
};

export interface Found {
	branch: Branch;
	/** Names from the root, aliases resolved. */
	path: readonly string[];
	/** What follows the command, with the flags that stood before it. */
	rest: readonly string[];
}

/** Walks down the words as far as they name commands; flags in between are passed on. */
export function findCommand(words: readonly string[], takesValue: (flag: string) => boolean): Found {
	let branch = TREE;
	const path: string[] = [];
	const rest: string[] = [];
	for (let at = 0; at < words.length; at++) {
		const word = words[at] ?? "";
		if (word.startsWith("-") && word !== "-" && word !== "--") {
			rest.push(word);
			const next = words[at + 1];
			if (takesValue(word) && next !== undefined) {
				rest.push(next);
				at += 1;
			}
			continue;
		}
		const steps = (path.length === 0 && Object.hasOwn(ALIASES, word) ? ALIASES[word] : undefined) ?? [word];
		const below = descend(branch, steps);
		if (below === undefined) return { branch, path, rest: [...rest, ...words.slice(at)] };
		branch = below;
		path.push(...steps);
	}
	return { branch, path, rest };
}

/** The branch at a path, if there is one. */
export function descend(from: Branch, path: readonly string[]): Branch | undefined {
	let branch: Branch | undefined = from;
	for (const name of path) {
		branch =
			branch.children !== undefined && Object.hasOwn(branch.children, name)
				? branch.children[name]
				: undefined;
		if (branch === undefined) return undefined;
	}
	return branch;
}

/** Every command that can be run and is shown, with its path. */
export function visibleCommands(
	from: Branch = TREE,
	path: readonly string[] = [],
): { path: readonly string[]; branch: Branch }[] {
	if (from.hidden === true) return [];
	const own = from.load === undefined ? [] : [{ path, branch: from }];
	const below = Object.entries(from.children ?? {}).flatMap(([name, child]) =>
		visibleCommands(child, [...path, name]),
	);
	return [...own, ...below];
}
