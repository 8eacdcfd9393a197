/**
 * The audit log: who did what on this agent, and who was refused. Entries are handed over when a request has been
 * answered and written behind it, in order; nobody waits for them. What cannot be written (a full disk, too many at
 * once) is lost, counted and logged: the work goes on.
 */
import type { Clock } from "../../platform/clock.ts";
import type { Database } from "../../platform/database.ts";
import type { Log } from "../../platform/log.ts";
import type { AuditEntry } from "../../schema/audit.ts";
import { type AuditEvent, boundedTarget, boundedText, recordingOf } from "./audit-rules.ts";
import {
	type AuditFilter,
	type AuditRetention,
	type AuditRow,
	auditModule,
	readAudit,
} from "./audit-store.ts";

export interface Audit extends AsyncDisposable {
	/** Takes note of an answered request, if it is one to be recorded. Neither waits nor throws. */
	record(event: AuditEvent): void;
	/** A page, the newest first, with everything recorded until now. @throws 400 bad_cursor */
	list(filter: AuditFilter): Promise<AuditPage>;
}

export interface AuditPage {
	entries: AuditEntry[];
	next_cursor: string | null;
	/** Entries that could not be written since the start. */
	lost: number;
}

const KEEP: AuditRetention = { rows: 100_000, refusals: 20_000 };
/** Entries that wait for the writer; some seconds of the busiest host. */
const MAX_WAITING = 10_000;
const MAX_BATCH = 500;
const WINDOW_MS = 60_000;
/** Addresses and reasons under watch; the one heard of longest ago is forgotten first. */
const MAX_WINDOWS = 10_000;

export function createAudit(
	{ db, clock, log }: { db: Database; clock: Clock; log: Log },
	{ keep = KEEP, maxWaiting = MAX_WAITING }: { keep?: AuditRetention; maxWaiting?: number } = {},
): Audit {
	const write = db.writer(auditModule);
	const waiting: AuditRow[] = [];
	const isFirst = createWindows(clock);
	let lost = 0;
	let isClosed = false;
	let writing: Promise<void> | undefined;

	const lose = (entries: number, error: unknown): void => {
		lost += entries;
		log.error("audit.lost", { entries, lost, error });
	};
	/** One batch after the other, so that rows come in the order of their answers. */
	const drain = async (): Promise<void> => {
		while (waiting.length > 0) {
			const rows = waiting.splice(0, MAX_BATCH);
			try {
				await write.append({ rows, keep });
			} catch (error) {
				lose(rows.length, error);
			}
		}
		writing = undefined;
	};

	return {
		record(event) {
			const recording = recordingOf(event);
			if (recording === "none") return;
			if (recording === "first-refusal" && !isFirst(`${event.address} ${event.reason ?? ""}`)) return;
			if (isClosed || waiting.length >= maxWaiting) {
				lose(1, isClosed ? "the agent is stopping" : "too many wait to be written");
				return;
			}
			waiting.push(rowOf(event, { atMs: clock.nowMs(), refused: recording !== "act" }));
			writing ??= drain();
		},
		async list(filter) {
			await writing;
			return { ...readAudit(db.read, filter), lost };
		},
		async [Symbol.asyncDispose]() {
			isClosed = true;
			await writing;
		},
	};
}

function rowOf(event: AuditEvent, { atMs, refused }: { atMs: number; refused: boolean }): AuditRow {
	const { caller } = event;
	return {
		at_ms: Math.floor(atMs),
		refused: refused ? 1 : 0,
		actor_id: caller?.id ?? null,
		actor_name: caller?.name ?? caller?.node ?? null,
		actor_role: caller?.role ?? null,
		action: event.action ?? "unknown",
		target: JSON.stringify(boundedTarget(event.target)),
		status: event.status,
		reason: event.reason ?? null,
		address: boundedText(event.address),
		listener: event.listener,
		request_id: event.requestId,
	};
}

/** Whether a key is met for the first time within a minute. */
function createWindows(clock: Clock): (key: string) => boolean {
	const endsMs = new Map<string, number>();
	return (key) => {
		const now = clock.monotonicMs();
		if ((endsMs.get(key) ?? Number.NEGATIVE_INFINITY) > now) return false;
		endsMs.delete(key);
		endsMs.set(key, now + WINDOW_MS);
		const [oldest] = endsMs.keys();
		if (endsMs.size > MAX_WINDOWS && oldest !== undefined) endsMs.delete(oldest);
		return true;
	};
}
