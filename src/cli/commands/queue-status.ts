import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { fields } from "../render/fields.ts";
import { safeLine } from "../render/safe-text.ts";
import type { Style } from "../render/style.ts";
import { renderTable } from "../render/table.ts";
import { taskTable } from "../render/tasks.ts";
import type { AnswerOf } from "../../api/route.ts";
import type { Contract } from "../../api/contract.ts";
import { LIVE_STATUS_ARG, TASK_FILTER_ARGS, WATCH_ARG, given, missing } from "../task-filters.ts";
import { watchTasks } from "../watch.ts";

type Status = AnswerOf<Contract["queueStatus"]>;

/** The newest of the line; `gswarm queue tasks` has them all. */
const SHOWN_TASKS = 20;

export const command = defineCommand({
	about:
		"Shows how many tasks wait, run and are done since the agent started, how many may run at once, and the tasks themselves. On a host it is the whole cluster, node by node.",
	args: { status: LIVE_STATUS_ARG, ...TASK_FILTER_ARGS, watch: WATCH_ARG },
	examples: [
		["queue status", "the queue in short"],
		["queue status --node node2", "that of one node"],
		["queue status --watch", "keep an eye on it"],
	],
	next: ["queue show TASK", "queue tasks", "queue history"],
	async run(context, { status, type, priority, node, watch }) {
		const { api, out, say, style, width, world } = context;
		const filter = given({ status, type, priority, node });
		const query = { ...filter, limit: SHOWN_TASKS };
		const client = await api();
		const shown = (body: Status, columns: number | undefined, wide: boolean): string =>
			[
				summary(body, { style, width: columns }),
				...(body.tasks.length === 0
					? []
					: ["", taskTable(body.tasks, { style, width: columns, wide, nowMs: world.clock.nowMs() })]),
			].join("\n");
		if (watch) {
			return await watchTasks(context, filter, async (columns, signal) =>
				shown(await client.call("queueStatus", { query, signal }), columns, false).split("\n"),
			);
		}
		const body = await client.call("queueStatus", { query });
		await out.show(body, {
			names: () => body.tasks.map((task) => task.task_id),
			human: (wide) => shown(body, width, wide),
		});
		const without = missing(body.missing_nodes);
		if (without !== undefined) say.warn(without);
		if (body.total > body.tasks.length) {
			say.info(`${body.tasks.length} of ${body.total} tasks.`);
			say.next(["queue tasks"]);
		}
		return EXIT.done;
	},
});

function summary(
	{ queue_config: config, task_queue: counts, nodes = {} }: Status,
	{ style, width }: { style: Style; width: number | undefined },
): string {
	const queues = Object.entries(nodes);
	if (queues.length < 2) {
		return fields(style, [
			["Waiting", String(counts.pending)],
			[
				"Running",
				`${counts.running} of at most ${queues[0]?.[1].queue_config.max_concurrent_tasks ?? config.max_concurrent_tasks}`,
			],
			["Completed", `${counts.completed} since the agent started`],
		]);
	}
	const line = (
		name: string,
		{ task_queue, queue_config }: Pick<Status, "task_queue" | "queue_config">,
	): string[] => [
		safeLine(name),
		String(task_queue.pending),
		`${task_queue.running} of ${queue_config.max_concurrent_tasks}`,
		String(task_queue.completed),
	];
	return renderTable(
		[
			{ title: "QUEUE" },
			{ title: "WAITING", align: "right" },
			{ title: "RUNNING", align: "right" },
			{ title: "COMPLETED", align: "right" },
		],
		[
			...queues.map(([name, queue]) => line(name, queue)),
			["all", String(counts.pending), String(counts.running), String(counts.completed)],
		],
		{ width, style },
	);
}
