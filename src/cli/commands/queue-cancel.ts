import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { safeLine } from "../render/safe-text.ts";
import { cancelSentence } from "../follow.ts";
import { task } from "../values.ts";

export const command = defineCommand({
	about:
		"Cancels a task that waits or runs. A cancelled transfer leaves its source as it was and nothing at its target.",
	args: { task: { type: "positional", value: task, description: "Id of the task" } },
	examples: [["queue cancel download-tiny-k3v9x2ma", "stop a download"]],
	next: ["queue tasks"],
	async run({ api, out, say }, { task: id }) {
		const body = await (await api()).call("cancelTask", { params: { task_id: id } });
		await out.show(body, { names: () => [body.task_id], human: () => safeLine(body.task_id) });
		say.success(cancelSentence(body));
		return EXIT.done;
	},
});
