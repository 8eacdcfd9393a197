/** The devices of an operation that has several, one row each. Pure. */
import type { TransferItem, TransferPlan } from "../../schema/transfer-item.ts";
import { formatBytes, formatBytesOf } from "./format.ts";
import { safeLine } from "./safe-text.ts";
import type { Style } from "./style.ts";
import { renderTable } from "./table.ts";

interface Look {
	style: Style;
	width?: number | undefined;
}

export function itemTable(items: readonly TransferItem[], look: Look): string {
	const columns = [
		{ title: "MODEL" },
		{ title: "DEVICE" },
		{ title: "STATUS" },
		{ title: "BYTES", align: "right" as const },
		{ title: "", shrink: true },
	];
	const rows = items.map((item) => [
		safeLine(item.model_name),
		safeLine(item.target_device),
		item.status === "running" ? item.phase : item.status,
		formatBytesOf(item.progress.bytes_done, item.progress.bytes_total),
		safeLine(item.error?.message ?? item.waiting_for ?? ""),
	]);
	return renderTable(columns, rows, look);
}

export function planTable({ items, total_bytes: total }: TransferPlan, look: Look): string {
	const columns = [
		{ title: "MODEL" },
		{ title: "TO" },
		{ title: "FROM", shrink: true },
		{ title: "SIZE", align: "right" as const },
	];
	const rows = items.map((item) => [
		safeLine(item.model_name),
		safeLine(item.target_device),
		item.is_there ? "is there" : safeLine(item.source_devices.join(", ")) || "its source",
		item.size_bytes === null ? "" : formatBytes(item.size_bytes),
	]);
	const sum = total === null ? [] : [`${formatBytes(total)} to move in all.`];
	return [renderTable(columns, rows, look), ...sum].join("\n");
}
