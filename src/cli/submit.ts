/** What every command that starts a task does with the answer: wait for its end and tell it, or print the task's id. */
import type { Submitted, TaskDocument } from "../schema/task.ts";
import type { Context } from "./context.ts";
import { EXIT, exitCodeOf } from "./exit-codes.ts";
import { followTask } from "./follow.ts";
import { formatBytes, formatDuration, formatRate } from "./render/format.ts";
import { safeLine } from "./render/safe-text.ts";

/** The flag of every such command. */
export const WAIT_ARG = {
	type: "boolean",
	default: true,
	negativeDescription: "Do not wait for the end; print the task's id",
} as const;

export interface Telling {
	/** What the task works on, e.g. `acme/tiny → node1:disk`. */
	title: string;
	/** What was done, as a sentence without its full stop. */
	done: (task: TaskDocument) => string;
	/** What a newcomer should know now; may be empty. */
	more?: (task: TaskDocument) => string;
	/** Commands, without `gswarm`, that usually come next. */
	next?: (task: TaskDocument) => readonly string[];
	/** The one thing that a script wants from it, for standard output. */
	data?: (task: TaskDocument) => string;
}

/** Waits for the task, or does not, and answers the exit status. */
export async function settle(
	context: Context,
	submitted: Submitted,
	{ wait, telling }: { wait: boolean; telling: Telling },
): Promise<number> {
	const { out, say } = context;
	const { task_id: id, position, estimated_time: estimate } = submitted;
	if (!wait) {
		await out.show(submitted, { names: () => [id], human: () => safeLine(id) });
		const ahead = Math.max(0, position - 1);
		const behind = ahead === 0 ? "" : ` behind ${ahead} ${ahead === 1 ? "other" : "others"}`;
		const until = estimate > 0 ? `, done in about ${formatDuration(estimate)}` : "";
		say.info(`Queued as ${id}${behind}${until}.`);
		say.next([`queue show ${id} --wait`]);
		return EXIT.done;
	}
	const end = await followTask(context, id, telling.title);
	return "left" in end ? end.left : await tellEnd(context, end.settled, telling);
}

/** Prints how a task ended: the document for programs, a sentence for people. */
export async function tellEnd(context: Context, task: TaskDocument, telling: Telling): Promise<number> {
	const { out, say } = context;
	await out.show(task, {
		names: () => [task.task_id],
		human: () => (task.status === "completed" ? safeLine(telling.data?.(task) ?? "") : ""),
	});
	switch (task.status) {
		case "completed": {
			say.success(`${telling.done(task)}${howFast(task)}.`);
			const more = telling.more?.(task) ?? "";
			if (more !== "") say.info(more);
			if (task.result?.["simulated"] === true)
				say.info("That GPU is simulated: its memory is the machine's own, and nothing is computed on it.");
			say.next(telling.next?.(task) ?? []);
			return EXIT.done;
		}
		case "cancelled":
			say.error(`${task.task_id} was cancelled.`);
			return EXIT.failed;
		case "failed":
			say.error(task.error?.message ?? `${task.task_id} failed.`);
			say.hint(task.error?.hint ?? `\`gswarm queue show ${task.task_id}\` tells more.`);
			return exitCodeOf(task.error?.code ?? "TASK_FAILED");
		case "pending":
		case "running":
			return EXIT.done;
	}
}

/** A text of the task's result, if it has one of this name. */
export function resultText(task: TaskDocument, key: string): string | undefined {
	const value = task.result?.[key];
	return typeof value === "string" && value !== "" ? value : undefined;
}

function howFast({ started_at: from, completed_at: to, progress }: TaskDocument): string {
	if (from === null || to === null) return "";
	const seconds = Math.max(0, to - from);
	if (progress.bytes_done === 0) return ` (${formatDuration(seconds)})`;
	const rate = seconds > 0 ? `, ${formatRate(progress.bytes_done / seconds)}` : "";
	return ` (${formatBytes(progress.bytes_done)} in ${formatDuration(seconds)}${rate})`;
}
