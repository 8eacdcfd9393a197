/** Tasks as a table, and one task in full. */
import type { TaskDocument } from "../../schema/task.ts";
import type { ObstacleBody } from "../../schema/queue.ts";
import { fields } from "./fields.ts";
import { formatAge, formatBytes, formatDuration, formatTime } from "./format.ts";
import { percentOf, progressSentence } from "./progress.ts";
import { safeLine } from "./safe-text.ts";
import { type Style, paintStatus } from "./style.ts";
import { renderTable } from "./table.ts";
import { waitSentence } from "./waits.ts";

export function taskTable(
	tasks: readonly TaskDocument[],
	{ style, width, wide, nowMs }: { style: Style; width: number | undefined; wide: boolean; nowMs: number },
): string {
	const rows = tasks.map((task) => [
		safeLine(task.task_id),
		task.task_type,
		safeLine(task.resources.models.join(", ")) || "-",
		paintStatus(style, safeLine(task.status)),
		safeLine(summaryOf(task)),
		safeLine(task.node),
		formatAge(task.completed_at ?? task.created_at, nowMs),
		...(wide
			? [task.priority, String(task.attempt), safeLine(task.resources.devices.join(", ")) || "-"]
			: []),
	]);
	return renderTable(
		[
			{ title: "TASK" },
			{ title: "TYPE" },
			{ title: "MODEL", shrink: true },
			{ title: "STATUS" },
			{ title: "PROGRESS", shrink: true },
			{ title: "NODE" },
			{ title: "WHEN" },
			...(wide ? [{ title: "PRIORITY" }, { title: "ATTEMPT" }, { title: "DEVICES" }] : []),
		],
		rows,
		{ width: wide ? undefined : width, style },
	);
}

export function taskDetail(
	task: TaskDocument & { obstacles?: readonly ObstacleBody[] | undefined },
	{ style, nowMs }: { style: Style; nowMs: number },
): string {
	const { progress, started_at: from, completed_at: to, obstacles = [] } = task;
	return fields(style, [
		["Task", task.task_id],
		["Type", task.task_type],
		["Status", { painted: paintStatus(style, safeLine(task.status)) }],
		["Phase", progressSentence(obstacles.length === 0 ? task : { ...task, waiting_for: null })],
		["Models", task.resources.models.join(", ")],
		["Devices", task.resources.devices.join(", ")],
		["Node", task.node],
		["Priority", task.priority],
		["Attempt", `${task.attempt} of ${task.max_attempts}`],
		["After", task.dependencies.join(", ")],
		["Retry of", task.retry_of],
		["Retried as", task.retried_as],
		...obstacles.map(
			(obstacle, at) => [at === 0 ? "Waits for" : "and for", waitSentence(obstacle, nowMs)] as const,
		),
		["Created", formatTime(task.created_at)],
		["Started", from === null ? null : formatTime(from)],
		["Ended", to === null ? null : formatTime(to)],
		["Took", from === null || to === null ? null : formatDuration(to - from)],
		[
			"Bytes",
			progress.bytes_total === 0
				? null
				: `${formatBytes(progress.bytes_done)} of ${formatBytes(progress.bytes_total)}`,
		],
		...Object.entries(task.request).map(([key, value]) => [`Request ${key}`, textOf(value)] as const),
		...Object.entries(task.result ?? {}).map(([key, value]) => [`Result ${key}`, textOf(value)] as const),
		["Error", task.error === null ? null : `${task.error.code}: ${task.error.message}`],
		["Hint", task.error?.hint],
	]);
}

function summaryOf(task: TaskDocument): string {
	switch (task.status) {
		case "pending":
			return task.waiting_for === null ? task.phase : `waits for ${task.waiting_for}`;
		case "running":
			return task.progress.bytes_total > 0 ? `${task.phase} ${percentOf(task)}%` : task.phase;
		case "completed":
			return task.progress.bytes_total > 0 ? formatBytes(task.progress.bytes_done) : "done";
		case "failed":
			return whyShort(task);
		case "cancelled":
			return "-";
	}
}

/** One word of why; `gswarm queue show` has the sentence. */
function whyShort({ error }: TaskDocument): string {
	const reason = error?.details["reason"];
	return typeof reason === "string" ? reason : (error?.code ?? "failed");
}

function textOf(value: unknown): string | null {
	if (value === null || value === undefined || (Array.isArray(value) && value.length === 0)) return null;
	return typeof value === "string" ? value : JSON.stringify(value);
}
