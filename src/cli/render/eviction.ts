/** Who would go from a full device, and why the others stay, as a table. */
import type { JudgedCopy, KeepReason } from "../../schema/eviction.ts";
import { formatBytes, formatDuration } from "./format.ts";
import { safeLine } from "./safe-text.ts";
import type { Style } from "./style.ts";
import { renderTable } from "./table.ts";

const SHORT_REVISION = 12;

export function evictionTable(
	copies: readonly JudgedCopy[],
	{ style, width, wide }: { style: Style; width: number | undefined; wide: boolean },
): string {
	const rows = copies.map((copy) => [
		safeLine(copy.model_name),
		safeLine(wide ? copy.revision : copy.revision.slice(0, SHORT_REVISION)),
		formatBytes(copy.size_bytes),
		`${formatDuration(copy.idle_s)}${copy.last_used_at === null ? " (never used)" : ""}`,
		copy.cost_to_bring_back_s === null ? "-" : formatDuration(copy.cost_to_bring_back_s),
		copy.verdict === "goes" ? style.bad("goes") : copy.verdict === "may_go" ? "may go" : style.good("stays"),
		safeLine(whyOf(copy)),
		...(wide ? [copy.worth.toPrecision(3), String(copy.other_durable_copies)] : []),
	]);
	return renderTable(
		[
			{ title: "MODEL" },
			{ title: "REVISION" },
			{ title: "SIZE", align: "right" },
			{ title: "NOT USED FOR" },
			{ title: "BACK IN" },
			{ title: "VERDICT" },
			{ title: "WHY", shrink: true },
			...(wide
				? [
						{ title: "WORTH", align: "right" as const },
						{ title: "OTHER DISKS", align: "right" as const },
					]
				: []),
		],
		rows,
		{ width, style },
	);
}

const WHY: Readonly<Record<KeepReason, string>> = {
	pinned: "pinned",
	in_use: "in use",
	adopted: "its files are not gswarm's",
	last_durable_copy: "the last copy on a disk",
	only_copy: "it could not be had again",
};

function whyOf({ reason, holders, purpose, last_used_at: used, verdict }: JudgedCopy): string {
	if (reason === "in_use") return `in use: ${holders.join(", ")}`;
	if (reason !== null) return WHY[reason];
	if (purpose === "preload" && used === null) return "a forecast brought it, and nobody used it";
	return verdict === "goes" ? "worth the least here" : "not needed";
}
