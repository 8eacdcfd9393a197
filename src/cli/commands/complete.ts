import type { ApiClient } from "../../api/client.ts";
import { LOCAL_CONTEXT } from "../../schema/names.ts";
import { defineCommand } from "../command.ts";
import { readContexts } from "../context-store.ts";
import { EXIT } from "../exit-codes.ts";
import type { LiveName } from "../values.ts";

const LIVE_NAMES: readonly LiveName[] = [
	"models",
	"nodes",
	"devices",
	"tasks",
	"services",
	"tokens",
	"contexts",
];
/** A person has pressed a key and waits. */
const WITHIN_MS = 300;
const MOST_NAMES = 200;
/** A shell puts the name on the line as it is, so nothing that a shell would obey may be in it. */
const COMPLETABLE = /^[A-Za-z0-9][A-Za-z0-9._:/@-]*$/;

export const command = defineCommand({
	about: "Prints live names for the completion scripts; says nothing when there are none in time.",
	args: { kind: { type: "positional", description: LIVE_NAMES.join(", ") } },
	examples: [["__complete models", "names of models"]],
	async run({ api, out, world }, { kind }) {
		const live = LIVE_NAMES.find((name) => name === kind);
		if (live === undefined) return EXIT.usage;
		try {
			const names =
				live === "contexts"
					? contextNames(world.environment.dataDir)
					: await namesOf(await api(), live, AbortSignal.timeout(WITHIN_MS));
			out.text([...new Set(names.filter((name) => COMPLETABLE.test(name)))].sort().join("\n"));
		} catch {
			// No agent, no right, no time: a shell that completes must not be talked into.
		}
		return EXIT.done;
	},
});

function contextNames(directory: string): string[] {
	return [LOCAL_CONTEXT, ...readContexts(directory).contexts.map((context) => context.name)];
}

async function namesOf(
	api: ApiClient,
	kind: Exclude<LiveName, "contexts">,
	signal: AbortSignal,
): Promise<string[]> {
	switch (kind) {
		case "models": {
			const { models } = await api.call("listModels", { query: { per_page: MOST_NAMES }, signal });
			return models.map((model) => model.model_name);
		}
		case "nodes":
			return (await api.call("listNodes", { signal })).nodes.map((node) => node.name);
		case "devices": {
			const { nodes } = await api.call("listNodes", { signal });
			return nodes.flatMap((node) => Object.keys(node.tiers).map((tier) => `${node.name}:${tier}`));
		}
		case "tasks":
			return (await api.call("queueHistory", { query: { limit: MOST_NAMES }, signal })).tasks.map(
				(task) => task.task_id,
			);
		case "services":
			return (await api.call("listServices", { signal })).services.map((service) => service.service_id);
		case "tokens":
			return (await api.call("listTokens", { signal })).tokens
				.filter((token) => token.status === "active" && token.kind !== "admin")
				.map((token) => token.name ?? token.token_id);
	}
}
