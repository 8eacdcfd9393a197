import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { formatRate } from "../render/format.ts";
import { safeLine } from "../render/safe-text.ts";
import { rateOrNone, task } from "../values.ts";

export const command = defineCommand({
	about:
		"Changes how fast a task may receive, also while it runs; at once, and until it has ended or its agent is started again.",
	args: {
		task: { type: "positional", value: task, description: "Id of the task" },
		rate: { type: "positional", value: rateOrNone, description: "A rate such as 100MB/s, or none" },
	},
	examples: [
		["queue limit download-tiny-k3v9x2ma 20MB/s", "leave room for others"],
		["queue limit download-tiny-k3v9x2ma none", "as fast as it goes"],
	],
	next: ["queue show TASK"],
	async run({ api, out, say }, { task: id, rate }) {
		const body = await (await api()).call("setTaskBandwidth", {
			params: { task_id: id },
			body: { bandwidth_limit: rate },
		});
		await out.show(body, { names: () => [body.task_id], human: () => safeLine(body.task_id) });
		say.success(
			rate === null ? `${id} has no limit of its own.` : `${id} receives at most ${formatRate(rate)}.`,
		);
		return EXIT.done;
	},
});
