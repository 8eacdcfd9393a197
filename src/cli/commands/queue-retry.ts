import { defineCommand } from "../command.ts";
import { WAIT_ARG, settle } from "../submit.ts";
import { task } from "../values.ts";

export const command = defineCommand({
	about:
		"Does a failed or cancelled task again, as a new task with an id of its own. The old one stays in the history.",
	args: {
		task: { type: "positional", value: task, description: "Id of the task" },
		wait: WAIT_ARG,
	},
	examples: [
		["queue retry download-tiny-k3v9x2ma", "do it again and wait for it"],
		["queue retry download-tiny-k3v9x2ma --no-wait", "only queue it"],
	],
	next: ["queue show TASK"],
	async run(context, { task: id, wait }) {
		const submitted = await (await context.api()).call("retryTask", { params: { task_id: id } });
		const telling = { title: `${id} again`, done: () => `${submitted.task_id} is done` };
		return await settle(context, submitted, { wait, telling });
	},
});
