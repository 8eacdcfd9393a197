/** What can be adopted at a path, as a table. */
import type { Adoptable } from "../../schema/adoption.ts";
import { formatBytes } from "./format.ts";
import { safeLine } from "./safe-text.ts";
import type { Style } from "./style.ts";
import { renderTable } from "./table.ts";

const SHORT_REVISION = 12;

export function adoptableTable(
	found: readonly Adoptable[],
	{ style, width, wide }: { style: Style; width: number | undefined; wide: boolean },
): string {
	const rows = found.map((one) => {
		const revision = safeLine(one.revision ?? "-");
		const state =
			one.problem ?? (one.adopted_as === null ? "can be adopted" : `adopted as ${one.adopted_as}`);
		return [
			safeLine(one.model_name ?? "-"),
			safeLine(one.kind),
			wide ? revision : revision.slice(0, SHORT_REVISION),
			safeLine(one.refs.join(",") || "-"),
			String(one.file_count),
			formatBytes(one.size_bytes),
			safeLine(state),
			...(wide ? [safeLine(one.path)] : []),
		];
	});
	return renderTable(
		[
			{ title: "MODEL" },
			{ title: "KIND" },
			{ title: "REVISION" },
			{ title: "REFS" },
			{ title: "FILES", align: "right" },
			{ title: "SIZE", align: "right" },
			{ title: "STATE" },
			...(wide ? [{ title: "PATH" }] : []),
		],
		rows,
		{ width, style },
	);
}
