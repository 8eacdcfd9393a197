/** What a task is doing, as one line: a bar for a terminal, a sentence elsewhere. Pure. */
import type { TaskDocument } from "../../schema/task.ts";
import { formatBytes, formatBytesOf, formatDuration, formatRate } from "./format.ts";
import { safeLine } from "./safe-text.ts";
import type { Style } from "./style.ts";
import { cut } from "./table.ts";

const WIDEST_BAR = 30;
const NARROWEST_BAR = 8;

/** `downloading acme/tiny  ██████░░░░  58%  37/64 MB  110 MB/s  ETA 0.2 s`, within `width` columns. */
export function progressBar(
	task: TaskDocument,
	{ title, width, elapsedS, style }: { title: string; width: number; elapsedS: number; style: Style },
): string {
	const { bytes_done: done, bytes_total: total, rate_bytes_per_s: rate, eta_s: eta } = task.progress;
	const phase = phaseOf(task);
	if (total === 0 || task.waiting_for !== null) {
		const bytes = done > 0 ? `  ${formatBytes(done)}` : "";
		return cut(`${phase} ${safeLine(title)}${bytes}${waitingOf(task)}  ${formatDuration(elapsedS)}`, width);
	}
	const numbers = [
		`${percentOf(task)}%`.padStart(4),
		formatBytesOf(done, total),
		...(rate > 0 ? [formatRate(rate)] : []),
		...(eta === null || rate === 0 ? [] : [`ETA ${formatDuration(eta)}`]),
	].join("  ");
	// Where both ends do not fit, the first is said: what is moved, not where to.
	for (const named of [title, title.split(" → ", 1)[0] ?? ""]) {
		const head = `${phase} ${safeLine(named)}`;
		const room = width - Bun.stringWidth(head) - Bun.stringWidth(numbers) - 4;
		if (room < NARROWEST_BAR) continue;
		const cells = Math.min(WIDEST_BAR, room);
		const full = Math.floor((cells * Math.min(done, total)) / total);
		return `${head}  ${style.accent("█".repeat(full))}${style.dim("░".repeat(cells - full))}  ${numbers}`;
	}
	return cut(`${numbers.trimStart()}  ${phase} ${safeLine(title)}`, width);
}

/** `downloading: 58%, 37 MB of 64 MB, 110 MB/s, ETA 0.2 s`. */
export function progressSentence(task: TaskDocument): string {
	const { bytes_done: done, bytes_total: total, rate_bytes_per_s: rate, eta_s: eta } = task.progress;
	const numbers = [
		...(total > 0 ? [`${percentOf(task)}%`, `${formatBytes(done)} of ${formatBytes(total)}`] : []),
		...(total === 0 && done > 0 ? [formatBytes(done)] : []),
		...(rate > 0 ? [formatRate(rate)] : []),
		...(eta === null || rate === 0 || total === 0 ? [] : [`ETA ${formatDuration(eta)}`]),
	].join(", ");
	return `${phaseOf(task)}${numbers === "" ? "" : `: ${numbers}`}${waitingOf(task)}`;
}

/** Whole percent, rounded down: 100 only when all bytes are there. */
export function percentOf({ progress }: TaskDocument): number {
	if (progress.bytes_total === 0) return 0;
	return Math.min(100, Math.floor((100 * progress.bytes_done) / progress.bytes_total));
}

function phaseOf(task: TaskDocument): string {
	const attempt = task.attempt > 1 ? ` (attempt ${task.attempt} of ${task.max_attempts})` : "";
	return `${task.phase}${attempt}`;
}

function waitingOf(task: TaskDocument): string {
	return task.waiting_for === null ? "" : `, waiting for ${safeLine(task.waiting_for)}`;
}
