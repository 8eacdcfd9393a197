import type { QueueConfigBody } from "../../schema/queue.ts";
import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { safeLine } from "../render/safe-text.ts";
import { renderTable } from "../render/table.ts";
import { given, missing, priorities } from "../task-filters.ts";
import { count, node } from "../values.ts";

export const command = defineCommand({
	about:
		"Shows how the queue works, or with flags changes it: at once, and over restarts. On a host without --node it is about the host and every node.",
	args: {
		"max-concurrent-tasks": {
			type: "string",
			value: count,
			valueHint: "N",
			description: "Tasks that run at once, at most 1024; one more may when it is critical",
		},
		"priority-levels": {
			type: "string",
			value: priorities,
			valueHint: "LIST",
			description: "Priorities that tasks may have, e.g. critical,high,normal,low",
		},
		"resource-tracking": {
			type: "enum",
			options: ["on", "off"],
			valueHint: "on|off",
			description: "Whether tasks wait for devices that others hold",
		},
		node: { type: "string", value: node, valueHint: "NODE", description: "The queue of this node alone" },
	},
	examples: [
		["queue config", "how the queues work now"],
		["queue config --max-concurrent-tasks 8 --node node1", "let node1 do eight things at once"],
	],
	next: ["queue status"],
	async run({ api, out, say, style, width }, values) {
		const tracking = values["resource-tracking"];
		const change = given({
			max_concurrent_tasks: values["max-concurrent-tasks"],
			priority_levels: values["priority-levels"],
			resource_tracking: tracking === undefined ? undefined : tracking === "on",
		});
		const query = given({ node: values.node });
		const client = await api();
		const isChange = Object.keys(change).length > 0;
		const body = isChange
			? await client.call("configureQueue", { query, body: change })
			: await client.call("queueConfig", { query });
		const rows = Object.entries(body.nodes ?? { [values.node ?? "this agent"]: body });
		await out.show(body, {
			names: () => rows.map(([name]) => name),
			human: (wide) =>
				renderTable(
					[
						{ title: "NODE" },
						{ title: "AT ONCE", align: "right" },
						{ title: "PRIORITIES" },
						{ title: "DEVICES" },
					],
					rows.map(([name, config]) => [safeLine(name), ...cells(config)]),
					{ width: wide ? undefined : width, style },
				),
		});
		if (isChange) say.success("The queue works so from now on.");
		const without = missing(body.missing_nodes);
		if (without !== undefined) say.warn(without);
		return isChange && without !== undefined ? EXIT.unavailable : EXIT.done;
	},
});

function cells({ max_concurrent_tasks, priority_levels, resource_tracking }: QueueConfigBody): string[] {
	return [
		String(max_concurrent_tasks),
		safeLine(priority_levels.join(", ")),
		resource_tracking ? "tracked" : "not tracked",
	];
}
