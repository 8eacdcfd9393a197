import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { taskTable } from "../render/tasks.ts";
import { TASK_FILTER_ARGS, given, missing, nextPage } from "../task-filters.ts";
import { count, duration } from "../values.ts";
import { FINISHED_STATUS_NAMES } from "../words.ts";

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
		...TASK_FILTER_ARGS,
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
	},
	examples: [
		["queue history --status failed --since 1d", "what went wrong since yesterday"],
		["queue history --type download --limit 10", "the last ten downloads"],
	],
	next: ["queue show TASK"],
	async run({ api, out, say, style, width, world }, values) {
		const { status, type, priority, since, limit, cursor, node } = values;
		const nowMs = world.clock.nowMs();
		const filter = given({
			status,
			type,
			priority,
			node,
			since: since === undefined ? undefined : Math.floor((nowMs - since) / 1000),
		});
		const body = await (await api()).call("queueHistory", {
			query: { ...filter, limit, ...given({ cursor }) },
		});
		await out.show(body, {
			names: () => body.tasks.map((task) => task.task_id),
			human: (wide) => (body.tasks.length === 0 ? "" : taskTable(body.tasks, { style, width, wide, nowMs })),
		});
		const without = missing(body.missing_nodes);
		if (without !== undefined) say.warn(without);
		if (body.tasks.length === 0) {
			const isFiltered = Object.keys(filter).length > 0 || cursor !== undefined;
			say.info(isFiltered ? "No task fits." : "There were no tasks yet.");
			say.next([isFiltered ? "queue history" : "model download hf:ORG/NAME"]);
		} else if (body.next_cursor !== null) {
			const ago = since === undefined ? undefined : `${Math.round(since / 1000)}s`;
			const again = {
				status,
				type,
				priority,
				node,
				since: ago,
				limit: limit === 50 ? undefined : String(limit),
			};
			say.next([nextPage("queue history", body.next_cursor, again)]);
		}
		return EXIT.done;
	},
});
