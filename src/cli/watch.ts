/**
 * Watching tasks until Ctrl-C: on a terminal a picture that is drawn anew whenever something changed, elsewhere a line
 * (or with --json an object) for each change of a task's state.
 */
import type { ApiClient } from "../api/client.ts";
import type { TaskEventBody } from "../schema/queue.ts";
import type { Priority, TaskDocument } from "../schema/task.ts";
import type { Context } from "./context.ts";
import { EXIT } from "./exit-codes.ts";
import { listen } from "./listen.ts";
import { formatTime } from "./render/format.ts";
import { safeLine } from "./render/safe-text.ts";

/** Which tasks are watched. */
export interface WatchFilter {
	node?: string;
	type?: TaskDocument["task_type"];
	status?: TaskDocument["status"];
	priority?: Priority;
}

const SHORTEST_MS = 250;
/** Numbers that no event tells of, such as ages, are drawn anew so often. */
const REFRESH_MS = 2_000;

/** `draw` gives the lines of the picture. Ends with 130 after Ctrl-C, with 124 when --timeout has passed. */
export async function watchTasks(
	context: Context,
	filter: WatchFilter,
	draw: (columns: number, signal: AbortSignal) => Promise<readonly string[]>,
): Promise<number> {
	const { world, screen } = context;
	const api = await context.api();
	return untilInterrupted(context, async (signal) => {
		if (world.terminal.stdout.isTty && screen.live && !context.out.forPrograms)
			await pictures(context, { api, filter, draw, signal });
		else await lines(context, { api, filter, signal });
	});
}

/** Figures that no event tells of, read every two seconds until Ctrl-C: a picture, or one after the other. */
export async function watchFigures<Body>(
	context: Context,
	read: (signal: AbortSignal) => Promise<Body>,
	draw: (body: Body, columns: number | undefined) => readonly string[],
): Promise<number> {
	const { world, screen, out } = context;
	const isPicture = world.terminal.stdout.isTty && screen.live && !out.forPrograms;
	return untilInterrupted(context, async (signal) => {
		while (!signal.aborted) {
			const body = await read(signal);
			if (signal.aborted) return;
			if (isPicture) screen.show(withinHeight(draw(body, screen.width()), screen.height()));
			else if (out.forPrograms) out.text(`${out.format === "yaml" ? "--- " : ""}${JSON.stringify(body)}`);
			else out.text([...draw(body, undefined), ""].join("\n"));
			await world.clock.sleep(REFRESH_MS, signal);
		}
	});
}

/** Ends with 130 after Ctrl-C, with 124 when --timeout has passed. */
async function untilInterrupted(
	{ world, globals }: Context,
	work: (signal: AbortSignal) => Promise<void>,
): Promise<number> {
	const over = new AbortController();
	let exit: number = EXIT.interrupted;
	const interrupts = world.terminal.onInterrupt(() => over.abort());
	if (globals.timeout !== undefined) {
		const { timeout } = globals;
		void (async () => {
			await world.clock.sleep(timeout, over.signal);
			if (over.signal.aborted) return;
			exit = EXIT.timeout;
			over.abort();
		})();
	}
	try {
		await work(over.signal);
	} catch (error) {
		// What was under way when the watching ended fails, and nobody asks.
		if (!over.signal.aborted) throw error;
	} finally {
		over.abort();
		interrupts[Symbol.dispose]();
	}
	return exit;
}

interface Watching {
	api: ApiClient;
	filter: WatchFilter;
	signal: AbortSignal;
}

async function pictures(
	{ world: { clock }, screen }: Context,
	{ api, filter, draw, signal }: Watching & { draw: Parameters<typeof watchTasks>[2] },
): Promise<void> {
	let wake = new AbortController();
	let failure: unknown;
	const listening = (async () => {
		for await (const _event of listen({ api, clock, node: filter.node, signal })) wake.abort();
	})().catch((error: unknown) => {
		failure = error;
		wake.abort();
	});
	while (!signal.aborted) {
		wake = new AbortController();
		const drawn = await draw(screen.width(), signal);
		if (signal.aborted) break;
		screen.show(withinHeight(drawn, screen.height()));
		await clock.sleep(SHORTEST_MS, signal);
		if (failure === undefined) await clock.sleep(REFRESH_MS, AbortSignal.any([signal, wake.signal]));
		else await clock.sleep(REFRESH_MS, signal);
	}
	await listening;
}

/** What does not fit would be drawn over and over again. */
function withinHeight(drawn: readonly string[], height: number): readonly string[] {
	if (drawn.length < height) return drawn;
	const shown = Math.max(1, height - 2);
	return [...drawn.slice(0, shown), `… ${drawn.length - shown} more lines`];
}

async function lines({ world: { clock }, out, say }: Context, watching: Watching): Promise<void> {
	const { api, filter, signal } = watching;
	const fits = chosen(watching);
	const onAway = (): void => say.warn("The agent does not answer; asking again.");
	for await (const { event, data } of listen({ api, clock, node: filter.node, signal, onAway })) {
		if (signal.aborted) return;
		if (event === "reset") say.warn("Some changes are missing: they are older than what the agent keeps.");
		if (event !== "task") continue;
		const change = JSON.parse(data) as TaskEventBody;
		if (!(await fits(change))) continue;
		if (out.format === "json") out.text(JSON.stringify(change));
		else if (out.format === "yaml") out.text(`--- ${JSON.stringify(change)}`);
		else if (out.format === "name") out.text(safeLine(change.task_id));
		else out.text(lineOf(change));
	}
}

/** Events tell no priority: where one is asked for, the task is. */
function chosen({ api, filter, signal }: Watching): (change: TaskEventBody) => Promise<boolean> {
	const priorities = new Map<string, Promise<Priority>>();
	return async ({ task_id: taskId, task_type: type, status }) => {
		if (filter.type !== undefined && filter.type !== type) return false;
		if (filter.status !== undefined && filter.status !== status) return false;
		if (filter.priority === undefined) return true;
		let priority = priorities.get(taskId);
		if (priority === undefined) {
			priority = api.call("getTask", { params: { task_id: taskId }, signal }).then((task) => task.priority);
			priorities.set(taskId, priority);
		}
		const [oldest] = priorities.keys();
		if (priorities.size > 10_000 && oldest !== undefined) priorities.delete(oldest);
		return (await priority) === filter.priority;
	};
}

function lineOf({ at, task_id: taskId, node, from, state, attempt, reason }: TaskEventBody): string {
	const why = reason === null ? "" : ` (${reason})`;
	const again = attempt > 1 ? `, attempt ${attempt}` : "";
	return safeLine(`${formatTime(at)}  ${node}  ${taskId}  ${from ?? "new"} → ${state}${why}${again}`);
}
