import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { taskTable } from "../render/tasks.ts";
import { count, duration, node } from "../values.ts";
import { FINISHED_STATUS_NAMES, TASK_TYPE_NAMES } from "../words.ts";

export const command = defineCommand({
	about:
		"Lists finished tasks, the newest first, a page at a time; the last line says how to get the next page.",
	args: {
		status: {
			type: "enum",
			options: FINISHED_STATUS_NAMES,
			valueHint: "STATUS",
			description: "completed, failed or cancelled",
		},
		type: {
			type: "enum",
			options: TASK_TYPE_NAMES,
			valueHint: "TYPE",
			description: "download, copy, move, delete, serve or stop",
		},
		since: {
			type: "string",
			value: duration,
			valueHint: "TIME",
			description: "Not older than this, e.g. 2h or 7d",
		},
		limit: {
			type: "string",
			value: count,
			default: "50",
			valueHint: "N",
			description: "Tasks on a page, at most 200",
		},
		cursor: { type: "string", valueHint: "CURSOR", description: "Where the last page ended" },
		node: { type: "string", value: node, valueHint: "NODE", description: "Only tasks of this node" },
	},
	examples: [
		["queue history --status failed --since 1d", "what went wrong since yesterday"],
		["queue history --type download --limit 10", "the last ten downloads"],
	],
	next: ["queue show TASK"],
	async run({ api, out, say, style, width, world }, { status, type, since, limit, cursor, node: name }) {
		const nowMs = world.clock.nowMs();
		const body = await (await api()).call("queueHistory", {
			query: {
				limit,
				...(status === undefined ? {} : { status }),
				...(type === undefined ? {} : { type }),
				...(since === undefined ? {} : { since: Math.floor((nowMs - since) / 1000) }),
				...(cursor === undefined ? {} : { cursor }),
				...(name === undefined ? {} : { node: name }),
			},
		});
		await out.show(body, {
			names: () => body.tasks.map((task) => task.task_id),
			human: (wide) => (body.tasks.length === 0 ? "" : taskTable(body.tasks, { style, width, wide, nowMs })),
		});
		if (body.tasks.length === 0) {
			const isFiltered = [status, type, since, cursor, name].some((filter) => filter !== undefined);
			say.info(isFiltered ? "No task fits." : "There were no tasks yet.");
			say.next([isFiltered ? "queue history" : "model download hf:ORG/NAME"]);
		} else if (body.next_cursor !== null) say.next([`queue history --cursor ${body.next_cursor}`]);
		return EXIT.done;
	},
});
