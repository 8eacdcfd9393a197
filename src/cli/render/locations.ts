/** Where a model's copies are, as a table. */
import type { ModelLocation } from "../../schema/model.ts";
import { formatBytes } from "./format.ts";
import { safeLine } from "./safe-text.ts";
import { type Style, paintStatus } from "./style.ts";
import { renderTable } from "./table.ts";

const SHORT_REVISION = 12;

export function locationTable(
	locations: readonly ModelLocation[],
	{ style, width, wide }: { style: Style; width: number | undefined; wide: boolean },
): string {
	const isAnyAdopted = locations.some((one) => one.adopted_from !== undefined);
	const isPinned = locations.some((location) => location.pinned === true);
	const rows = locations.map((location) => {
		const revision = safeLine(location.revision ?? "-");
		const adopted = location.adopted_from === undefined ? "-" : `adopted: ${location.adopted_from}`;
		return [
			safeLine(location.simulated === true ? `${location.device} (simulated)` : location.device),
			paintStatus(style, safeLine(location.status)),
			formatBytes(location.size_bytes),
			wide ? revision : revision.slice(0, SHORT_REVISION),
			paintStatus(style, safeLine(location.node_status)),
			...(isAnyAdopted ? [safeLine(adopted)] : []),
			...(isPinned ? [location.pinned === true ? "yes" : "-"] : []),
			...(wide ? [safeLine(location.content_id ?? "-")] : []),
		];
	});
	return renderTable(
		[
			{ title: "DEVICE" },
			{ title: "STATUS" },
			{ title: "SIZE", align: "right" },
			{ title: "REVISION" },
			{ title: "NODE" },
			...(isAnyAdopted ? [{ title: "PLACE" }] : []),
			...(isPinned ? [{ title: "PINNED" }] : []),
			...(wide ? [{ title: "CONTENT" }] : []),
		],
		rows,
		{ width, style },
	);
}
