import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { fields } from "../render/fields.ts";
import { taskTable } from "../render/tasks.ts";
import { node } from "../values.ts";

export const command = defineCommand({
	about:
		"Shows how many tasks wait, run and are done since the agent started, how many may run at once, and the tasks themselves.",
	args: { node: { type: "string", value: node, valueHint: "NODE", description: "The queue of this node" } },
	examples: [
		["queue status", "the queue in short"],
		["queue status --node node2", "that of one node"],
	],
	next: ["queue show TASK", "queue history"],
	async run({ api, out, style, width, world }, { node: name }) {
		const body = await (await api()).call("queueStatus", { query: name === undefined ? {} : { node: name } });
		const { pending, running, completed } = body.task_queue;
		await out.show(body, {
			names: () => body.tasks.map((task) => task.task_id),
			human: (wide) =>
				[
					fields(style, [
						["Waiting", String(pending)],
						["Running", `${running} of at most ${body.queue_config.max_concurrent_tasks}`],
						["Completed", `${completed} since the agent started`],
					]),
					...(body.tasks.length === 0
						? []
						: ["", taskTable(body.tasks, { style, width, wide, nowMs: world.clock.nowMs() })]),
				].join("\n"),
		});
		return EXIT.done;
	},
});
