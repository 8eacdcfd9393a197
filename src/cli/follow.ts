/**
 * Waiting for a task: bars on a terminal, plain lines elsewhere. The task lives in the agent: whoever stops waiting
 * (Ctrl-C, --timeout, a lost agent) stops only the waiting, and is told how to come back.
 */
import type { ApiClient } from "../api/client.ts";
import { GswarmError } from "../schema/errors.ts";
import type { TaskDocument } from "../schema/task.ts";
import type { Context } from "./context.ts";
import { EXIT } from "./exit-codes.ts";
import { readings } from "./readings.ts";
import { progressBar, progressSentence } from "./render/progress.ts";
import { createStyle } from "./render/style.ts";

/** The task's end, or the exit status with which the waiting stopped before it. */
export type FollowEnd = { settled: TaskDocument } | { left: number };

const LINE_EVERY_MS = 10_000;
/** How long after the first Ctrl-C a second one cancels the task. */
const SECOND_INTERRUPT_MS = 2_000;

/** Waits until the task has ended. `title` names what it works on. @throws what the API says, e.g. 404 */
export async function followTask(context: Context, taskId: string, title: string): Promise<FollowEnd> {
	const { globals, world } = context;
	const api = await context.api();
	const startMs = world.clock.monotonicMs();
	const deadlineMs = globals.timeout === undefined ? Number.POSITIVE_INFINITY : startMs + globals.timeout;
	const shown = createProgress(context, title, startMs);
	const interrupts = countInterrupts(context);
	try {
		const seen = readings(context, api, {
			taskId,
			deadlineMs,
			signal: interrupts.first,
			onAway: () => shown.away("the agent does not answer; asking again"),
			gaveUp: (error) => withReturn(error, taskId),
		});
		for await (const task of seen) {
			if (isOver(task)) return { settled: task };
			shown.update(task);
		}
		if (interrupts.first.aborted) return await detachOrCancel(context, api, taskId, shown, interrupts);
		return leave(context, shown, taskId, "Stopped waiting", EXIT.timeout);
	} finally {
		shown.end();
		interrupts[Symbol.dispose]();
	}
}

interface Progress {
	update(task: TaskDocument): void;
	away(reason: string): void;
	end(): void;
}

function createProgress({ screen, say, world, globals }: Context, title: string, startMs: number): Progress {
	const style = createStyle(screen.live && globals.color && !world.environment.noColor);
	const silent = { update: () => {}, away: () => {}, end: () => {} };
	if (globals.quiet) return silent;
	if (screen.live) {
		return {
			update(task) {
				const elapsedS = (world.clock.monotonicMs() - startMs) / 1000;
				screen.show([progressBar(task, { title, width: screen.width(), elapsedS, style })]);
			},
			away: (reason) => screen.show([`${title}  ${reason}`]),
			end: () => screen.clear(),
		};
	}
	let phase: string | undefined;
	let lastMs = Number.NEGATIVE_INFINITY;
	return {
		update(task) {
			const now = world.clock.monotonicMs();
			// Queueing is too short to be told, unless it lasts.
			const isNews = task.phase !== phase && !(task.phase === "queued" && now - startMs < 1000);
			if (!isNews && now - lastMs < LINE_EVERY_MS) return;
			if (task.phase === "queued" && !isNews && phase === undefined && now - startMs < 1000) return;
			say.info(`${title}: ${progressSentence(task)}`);
			phase = task.phase;
			lastMs = now;
		},
		away: (reason) => say.info(`${title}: ${reason}`),
		end: () => {},
	};
}

interface Interrupts extends Disposable {
	first: AbortSignal;
	second: AbortSignal;
}

function countInterrupts(context: Context): Interrupts {
	const first = new AbortController();
	const second = new AbortController();
	const listening = context.world.terminal.onInterrupt(() => (first.signal.aborted ? second : first).abort());
	return {
		first: first.signal,
		second: second.signal,
		[Symbol.dispose]: () => listening[Symbol.dispose](),
	};
}

async function detachOrCancel(
	context: Context,
	api: ApiClient,
	taskId: string,
	shown: Progress,
	{ second }: Interrupts,
): Promise<FollowEnd> {
	const { world, say, screen } = context;
	const left = leave(context, shown, taskId, "Stopped waiting", EXIT.interrupted);
	if (!screen.live) return left;
	say.info(`Ctrl-C again cancels the task (within ${SECOND_INTERRUPT_MS / 1000} s).`);
	await world.clock.sleep(SECOND_INTERRUPT_MS, second);
	if (!second.aborted) return left;
	say.info(cancelSentence(await api.call("cancelTask", { params: { task_id: taskId } })));
	return left;
}

/** A cancel of what several asked for takes one of them away; the answer does not tell that from one under way. */
export function cancelSentence({ task_id: id, status }: TaskDocument): string {
	if (status === "cancelled") return `Cancelled ${id}.`;
	return `${id} is being cancelled; if it was asked for more than once, it goes on for the others.`;
}

function leave({ say }: Context, shown: Progress, taskId: string, what: string, exitCode: number): FollowEnd {
	shown.end();
	say.warn(`${what}; the task goes on.`);
	say.next([`queue show ${taskId} --wait`, `queue cancel ${taskId}`]);
	return { left: exitCode };
}

function isOver({ status }: TaskDocument): boolean {
	return status === "completed" || status === "failed" || status === "cancelled";
}

function withReturn(error: GswarmError, taskId: string): GswarmError {
	return new GswarmError(error.code, error.message, {
		details: error.details,
		hint: `The task goes on when the agent does: \`gswarm queue show ${taskId} --wait\` comes back to it.`,
		cause: error,
	});
}
