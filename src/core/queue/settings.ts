/** What people may change of a queue while it works: how much runs at once, which priorities there are, device tracking. */
import type { Database as Sqlite } from "bun:sqlite";
import { invalid } from "../../schema/errors.ts";
import { PRIORITIES, type Priority } from "../../schema/task.ts";
import { forgetDevices } from "./reservations.ts";
import type { QueueName } from "./task-row.ts";

const MAX_CONCURRENT_TASKS = 1024;

/** `queue_config` of the API design, as it stands on the wire. */
export interface QueueConfig {
	/** Tasks that run at once; the slot kept for critical work is extra. */
	max_concurrent_tasks: number;
	/** Priorities that a submit may name, the most urgent first. Tasks that are in line keep theirs. */
	priority_levels: Priority[];
	/** False: tasks do not wait for devices that others hold. Models and bytes are always respected. */
	resource_tracking: boolean;
}

/** The settings as they would be with the change. @throws 400 bad_queue_config */
export function changed(config: QueueConfig, change: Partial<QueueConfig>): QueueConfig {
	const next = { ...config, ...change };
	const { max_concurrent_tasks: slots, priority_levels: levels } = next;
	if (!Number.isInteger(slots) || slots < 1 || slots > MAX_CONCURRENT_TASKS) {
		throw refused(
			"max_concurrent_tasks",
			slots,
			`a whole number from 1 to ${MAX_CONCURRENT_TASKS} is wanted`,
		);
	}
	const inOrder = PRIORITIES.filter((level) => levels.includes(level));
	if (levels.length === 0 || levels.join() !== inOrder.join())
		throw refused("priority_levels", levels, `some of ${PRIORITIES.join(", ")} are wanted, in this order`);
	return { max_concurrent_tasks: slots, priority_levels: inOrder, resource_tracking: next.resource_tracking };
}

/** 400 unknown_priority: the queue is set to other levels. */
export function checkPriority(priority: Priority, { priority_levels: levels }: QueueConfig): void {
	if (levels.includes(priority)) return;
	throw invalid(
		"unknown_priority",
		`${JSON.stringify(priority.slice(0, 50))} is not a priority of this queue; it has ${levels.join(", ")}.`,
		{ field: "priority", allowed: levels },
	);
}

/** What was changed at run time; undefined when nothing ever was. */
export function readSettings(db: Sqlite, queue: QueueName): QueueConfig | undefined {
	const [row] = db
		.query<{ max_concurrent_tasks: number; priority_levels: string; resource_tracking: number }, [string]>(
			"SELECT max_concurrent_tasks, priority_levels, resource_tracking FROM queue_setting WHERE queue = ?1",
		)
		.all(queue);
	if (row === undefined) return undefined;
	return {
		max_concurrent_tasks: row.max_concurrent_tasks,
		priority_levels: JSON.parse(row.priority_levels) as Priority[],
		resource_tracking: row.resource_tracking === 1,
	};
}

/** The transaction of a change. */
export function configure(db: Sqlite, { queue, config }: { queue: QueueName; config: QueueConfig }): void {
	db.query(
		"INSERT OR REPLACE INTO queue_setting (queue, max_concurrent_tasks, priority_levels, resource_tracking) VALUES (?1, ?2, ?3, ?4)",
	).run(
		queue,
		config.max_concurrent_tasks,
		JSON.stringify(config.priority_levels),
		config.resource_tracking ? 1 : 0,
	);
	// Who waits for a device has nothing to wait for any more.
	if (!config.resource_tracking) forgetDevices(db, queue);
}

function refused(field: keyof QueueConfig, got: unknown, wanted: string): Error {
	return invalid("bad_queue_config", `${field} cannot be ${JSON.stringify(got)}: ${wanted}.`, {
		field,
		got,
	});
}
