/** What is brought into memory ahead of its use, for people. */
import type { HintAnswer, PreloadPlan } from "../../schema/preload.ts";
import { formatAge, formatBytes, formatDuration, formatRate } from "./format.ts";
import { safeLine } from "./safe-text.ts";
import type { Style } from "./style.ts";
import { renderTable } from "./table.ts";

export function hintSentence(
	{ model_name: name, device, decision, why, from, starts_at: startsAt }: HintAnswer,
	nowMs: number,
): string {
	const subject = `${safeLine(name)} on ${safeLine(device)}`;
	if (decision === "there") return `${subject}: it is in memory already.`;
	if (decision === "start") return `${subject}: it is brought now.`;
	if (decision === "later" && startsAt !== null)
		return `${subject}: wanted ${fromNow(from, nowMs)}, brought ${fromNow(startsAt, nowMs)}.`;
	return `${subject}: ${safeLine(why)}.`;
}

export function planText(
	plans: readonly PreloadPlan[],
	{ style, width, nowMs }: { style: Style; width: number | undefined; nowMs: number },
): string {
	return plans
		.flatMap((plan) => {
			const {
				device,
				mode,
				budget_bytes: budget,
				used_bytes: used,
				rate_bytes_per_second: rate,
				models,
			} = plan;
			if (device === null) return [];
			const head = `${safeLine(device)}: ${formatBytes(used)} of ${formatBytes(budget)} for what nobody has used yet, mode ${mode}, ${formatRate(rate)} from disk`;
			if (models.length === 0) return [style.dim(head)];
			const rows = models.map((one) => [
				safeLine(one.model_name),
				formatBytes(one.size_bytes),
				one.hinted ? "hinted" : one.expected_uses.toFixed(1),
				one.expected_at === null ? "-" : fromNow(one.expected_at, nowMs),
				one.last_used_at === null ? "never" : formatAge(one.last_used_at, nowMs),
				one.decision,
				safeLine(one.why),
			]);
			const table = renderTable(
				[
					{ title: "MODEL" },
					{ title: "SIZE", align: "right" },
					{ title: "USES/H", align: "right" },
					{ title: "EXPECTED" },
					{ title: "LAST USED" },
					{ title: "NOW" },
					{ title: "WHY", shrink: true },
				],
				rows,
				{ width, style },
			);
			return [style.dim(head), table];
		})
		.join("\n");
}

function fromNow(atS: number, nowMs: number): string {
	const seconds = atS - nowMs / 1000;
	return seconds < 1 ? "now" : `in ${formatDuration(seconds)}`;
}
