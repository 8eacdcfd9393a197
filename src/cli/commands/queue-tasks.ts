import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { taskTable } from "../render/tasks.ts";
import { LIVE_STATUS_ARG, TASK_FILTER_ARGS, WATCH_ARG, given, missing, nextPage } from "../task-filters.ts";
import { count } from "../values.ts";
import { watchTasks } from "../watch.ts";

export const command = defineCommand({
	about:
		"Lists the tasks that wait or run now, running ones first. Those that have ended are in `gswarm queue history`. With --watch the list is kept up to date; where the output is no terminal, each change is a line.",
	args: {
		status: LIVE_STATUS_ARG,
		...TASK_FILTER_ARGS,
		limit: {
			type: "string",
			value: count,
			default: "100",
			valueHint: "N",
			description: "Tasks on a page, at most 200",
		},
		cursor: { type: "string", valueHint: "CURSOR", description: "Where the last page ended" },
		watch: WATCH_ARG,
	},
	examples: [
		["queue tasks", "what goes on"],
		["queue tasks --status pending --node node1", "what waits on node1"],
		["queue tasks --watch", "what goes on, and how it goes on"],
		["queue tasks -o name", "the ids alone, for a script"],
	],
	next: ["queue show TASK", "queue cancel TASK"],
	async run(context, { status, type, priority, node, limit, cursor, watch }) {
		const { api, out, say, style, width, world } = context;
		const filter = given({ status, type, priority, node });
		const query = { ...filter, limit, ...given({ cursor }) };
		const client = await api();
		if (watch) {
			return await watchTasks(context, filter, async (columns, signal) => {
				const { tasks, total } = await client.call("queueStatus", { query, signal });
				const nowMs = world.clock.nowMs();
				if (tasks.length === 0) return ["Nothing waits or runs."];
				const more = total > tasks.length ? [`${total - tasks.length} more.`] : [];
				return [...taskTable(tasks, { style, width: columns, wide: false, nowMs }).split("\n"), ...more];
			});
		}
		const body = await client.call("queueStatus", { query });
		const { tasks, total, next_cursor: nextCursor } = body;
		await out.show(body, {
			names: () => tasks.map((task) => task.task_id),
			human: (wide) =>
				tasks.length === 0 ? "" : taskTable(tasks, { style, width, wide, nowMs: world.clock.nowMs() }),
		});
		const without = missing(body.missing_nodes);
		if (without !== undefined) say.warn(without);
		if (tasks.length === 0) {
			const isFiltered = Object.keys(filter).length > 0 || cursor !== undefined;
			say.info(isFiltered ? "No task fits." : "Nothing waits or runs.");
			say.next(isFiltered ? ["queue tasks"] : ["queue history", "model download hf:ORG/NAME"]);
		} else if (nextCursor !== null) {
			say.info(`${tasks.length} of ${total} tasks.`);
			say.next([nextPage("queue tasks", nextCursor, filter)]);
		}
		return EXIT.done;
	},
});
