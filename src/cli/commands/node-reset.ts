import { confirm } from "../confirm.ts";
import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { safeLine } from "../render/safe-text.ts";
import { node } from "../values.ts";

export const command = defineCommand({
	about:
		"Forgets the key of a node whose data directory was lost, so that the machine, set up anew, can join under the same name. The former key and credential are refused from then on.",
	args: { node: { type: "positional", value: node, description: "Name of the node" } },
	examples: [["node reset node2", "before the new node2 joins"]],
	next: ["token create --join", "node list"],
	async run(context, { node: name }) {
		if (!(await confirm(context, `Forget the key of ${name}?`))) {
			context.say.info("Nothing was changed.");
			return EXIT.failed;
		}
		const body = await (await context.api()).call("resetNode", { params: { node: name } });
		await context.out.show(body, { names: () => [body.node], human: () => safeLine(body.node) });
		context.say.success(`${name} can join anew.`);
		context.say.next(["token create --join"]);
		return EXIT.done;
	},
});
