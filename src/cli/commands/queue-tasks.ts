import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { taskTable } from "../render/tasks.ts";
import { node } from "../values.ts";

export const command = defineCommand({
	about: "Lists the tasks that wait or run now. Those that have ended are in `gswarm queue history`.",
	args: { node: { type: "string", value: node, valueHint: "NODE", description: "Only tasks of this node" } },
	examples: [
		["queue tasks", "what goes on"],
		["queue tasks -o name", "the ids alone, for a script"],
	],
	next: ["queue show TASK", "queue cancel TASK"],
	async run({ api, out, say, style, width, world }, { node: name }) {
		const body = await (await api()).call("queueStatus", { query: name === undefined ? {} : { node: name } });
		await out.show(body, {
			names: () => body.tasks.map((task) => task.task_id),
			human: (wide) =>
				body.tasks.length === 0
					? ""
					: taskTable(body.tasks, { style, width, wide, nowMs: world.clock.nowMs() }),
		});
		if (body.tasks.length === 0) {
			say.info("Nothing waits or runs.");
			say.next(["queue history", "model download hf:ORG/NAME"]);
		}
		return EXIT.done;
	},
});
