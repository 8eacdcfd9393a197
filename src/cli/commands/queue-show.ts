import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { followTask } from "../follow.ts";
import { taskDetail } from "../render/tasks.ts";
import { itemTable } from "../render/transfer-items.ts";
import { tellEnd } from "../submit.ts";
import { itemsOf } from "../transfer-many.ts";
import { task } from "../values.ts";

export const command = defineCommand({
	about:
		"Shows one task: what it does, how far it is, what it waits for and who has that, what came of it. With --wait it follows the task to its end and exits as the task did.",
	args: {
		task: { type: "positional", value: task, description: "Id of the task" },
		wait: { type: "boolean", description: "Follow it to its end" },
	},
	examples: [
		["queue show download-tiny-k3v9x2ma", "one task"],
		["queue show download-tiny-k3v9x2ma --wait", "come back to a task that was left"],
	],
	next: ["queue cancel TASK", "queue retry TASK"],
	async run(context, { task: id, wait }) {
		const { api, out, style, world } = context;
		const document = await (await api()).call("getTask", { params: { task_id: id } });
		const title = [...document.resources.models, ...document.resources.devices.slice(-1)].join(" → ") || id;
		if (wait) {
			const end = await followTask(context, id, title);
			if ("left" in end) return end.left;
			return await tellEnd(context, end.settled, { title, done: () => `${id} is done` });
		}
		const items = "models" in document.request ? await itemsOf(context, id) : [];
		await out.show(document, {
			names: () => [document.task_id],
			human: (wide) => {
				const detail = taskDetail(document, { style, nowMs: world.clock.nowMs() });
				return items.length === 0
					? detail
					: `${detail}\n\n${itemTable(items, { style, width: wide ? undefined : context.width })}`;
			},
		});
		return EXIT.done;
	},
});
