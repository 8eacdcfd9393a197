/** Why a task waits, as sentences. Pure. */
import type { ObstacleBody } from "../../schema/queue.ts";
import { formatBytes, formatDuration, formatTime } from "./format.ts";

type Holder = Extract<ObstacleBody, { kind: "reservation" }>["held_by"][number];

export function waitSentence(obstacle: ObstacleBody, nowMs: number): string {
	switch (obstacle.kind) {
		case "dependency":
			return `${obstacle.task_id} to complete; it is ${obstacle.status}`;
		case "reservation": {
			const { key, mode, held_by, promised_to } = obstacle;
			const who = [
				...held_by.map((holder) => holderOf(holder, nowMs)),
				...promised_to.map(({ task_id }) => `${task_id} has waited longer and gets it first`),
			];
			return [`${resourceOf(key)}${mode === "exclusive" ? ", for itself alone" : ""}`, ...who].join("; ");
		}
		case "space": {
			const { key, needed, capacity, reserved, held_by } = obstacle;
			const others = held_by.length === 0 ? "others" : held_by.join(", ");
			const room = `${formatBytes(needed)} on ${key.replace(/^bytes:/, "")}`;
			return `${room}; of ${formatBytes(capacity)} that tasks may use ${formatBytes(reserved)} are for ${others}`;
		}
		case "retry": {
			const inS = Math.max(0, obstacle.until - nowMs / 1000);
			const why = obstacle.error === null ? "" : `, after: ${obstacle.error.message}`;
			return `${WHAT_COMES[obstacle.why]} at ${formatTime(obstacle.until)}, in ${formatDuration(inS)}${why}`;
		}
		case "slots":
			return `a free slot; ${obstacle.running} run, and ${obstacle.limit} may`;
		case "line":
			return `its turn; ${obstacle.ahead} ${obstacle.ahead === 1 ? "task comes" : "tasks come"} first`;
	}
}

const WHAT_COMES = {
	error: "its next attempt",
	space: "room; it looks again",
	host: "the host; it asks again",
} as const;

/** `model:acme/tiny@disk` as people say it. */
function resourceOf(key: string): string {
	const [kind = "", ...rest] = key.split(":");
	const name = rest.join(":");
	const at = name.lastIndexOf("@");
	if (kind === "model" && at > 0) return `${name.slice(0, at)} on ${name.slice(at + 1)}`;
	return kind === "device" ? `the device ${name}` : key;
}

function holderOf({ task_id, mode, since, eta_s: eta }: Holder, nowMs: number): string {
	const held = since === null ? "" : ` for ${formatDuration(Math.max(0, nowMs / 1000 - since))}`;
	const left = eta === null || eta === undefined ? "" : ` and needs about ${formatDuration(eta)} more`;
	return `${task_id} has had it${mode === "exclusive" ? " alone" : ""}${held}${left}`;
}
