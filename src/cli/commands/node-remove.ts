import { confirm } from "../confirm.ts";
import { defineCommand } from "../command.ts";
import type { Context } from "../context.ts";
import { EXIT } from "../exit-codes.ts";
import { safeLine } from "../render/safe-text.ts";
import { node } from "../values.ts";

export const command = defineCommand({
	about:
		"Removes a machine from the cluster, or turns one away that waits to join. Its credential is refused from then on, and the cluster forgets what it holds; its files stay where they are. Refused while it serves a model or has the last copy of one on a disk.",
	args: {
		node: { type: "positional", value: node, description: "Name of the node" },
		force: {
			type: "boolean",
			description: "Also when it serves, or has the last copy of a model on a disk",
		},
	},
	examples: [
		["node remove node2", "take a machine out"],
		["node remove node2 --force --yes", "one that will not come back"],
	],
	next: ["node list", "model list"],
	async run(context, { node: name, force }) {
		if (!(await confirm(context, `${await lossOf(context, name)}Remove ${name} from the cluster?`))) {
			context.say.info("Nothing was removed.");
			return EXIT.failed;
		}
		const body = await (await context.api()).call("removeNode", {
			params: { node: name },
			query: { force: force ? "true" : "false" },
		});
		await context.out.show(body, { names: () => [body.node], human: () => safeLine(body.node) });
		context.say.success(`Removed ${name}; it takes a new join string to come back.`);
		return EXIT.done;
	},
});

/** What goes with the node, for whoever is asked; nothing where nobody is. */
async function lossOf({ api, globals, world }: Context, name: string): Promise<string> {
	const { stdin, stderr } = world.terminal;
	if (globals.yes || !globals.input || !stdin.isTty || !stderr.isTty) return "";
	const { nodes } = await (await api()).call("listNodes", {});
	const found = nodes.find((it) => it.name === name);
	if (found === undefined) return "";
	if (found.status === "waiting") return `${safeLine(name)} only waits to join. `;
	const { models, services, tasks } = found;
	const left = tasks.running + tasks.pending;
	return `${safeLine(name)} holds ${models} model(s), serves ${services} and has ${left} task(s) left; the cluster forgets all of it, the files stay there. `;
}
