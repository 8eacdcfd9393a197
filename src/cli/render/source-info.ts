/** What a source has, and what downloading it would do, for people. */
import type { DownloadPlan, SourceInfo } from "../../schema/source-info.ts";
import { detectedFields } from "./detected.ts";
import { fields } from "./fields.ts";
import { formatBytes } from "./format.ts";
import { safeLine } from "./safe-text.ts";
import type { Style } from "./style.ts";
import { renderTable } from "./table.ts";

/** Files of a list that is not wide. */
const FEW_FILES = 20;
const SHORT_DIGEST = 19;

export interface Look {
	style: Style;
	/** The terminal's, or undefined where nothing is cut. */
	width: number | undefined;
	wide: boolean;
}

export function sourceSummary(info: SourceInfo, style: Style): string {
	return fields(style, [
		["Source", info.source_url],
		["Name", info.suggested_name],
		["Revision", info.revision],
		["Type", info.model_type],
		["Format", info.archive === null ? info.format : `${info.archive} archive`],
		...detectedFields({
			...info,
			weights_bytes: info.weights_bytes ?? null,
			kv_cache_bytes_per_token: info.kv_cache_bytes_per_token ?? null,
			memory_bytes: info.memory_bytes ?? null,
		}),
		[
			"Size",
			`${formatBytes(info.total_size)} in ${info.file_count} ${info.file_count === 1 ? "file" : "files"}`,
		],
		...Object.entries(info.quantisations ?? {}).map(
			([name, bytes]) => [`Quantisation ${name}`, formatBytes(bytes)] as const,
		),
	]);
}

export function fileTable(info: SourceInfo, { style, width, wide }: Look): string {
	const shown = wide ? info.files : info.files.slice(0, FEW_FILES);
	const rows = shown.map(({ path, size_bytes, digest }) => [
		safeLine(path),
		size_bytes === null ? "?" : formatBytes(size_bytes),
		safeLine(wide ? (digest ?? "-") : (digest ?? "-").slice(0, SHORT_DIGEST)),
	]);
	const table = renderTable(
		[{ title: "FILE" }, { title: "SIZE", align: "right" }, { title: "DIGEST" }],
		rows,
		{ width: wide ? undefined : width, style },
	);
	const left = info.file_count - shown.length;
	return left === 0 ? table : `${table}\n${style.dim(`… and ${left} more`)}`;
}

export function planSummary(plan: DownloadPlan, style: Style): string {
	return fields(style, [
		["Would go to", plan.device],
		["As", plan.model_name],
		["To fetch", formatBytes(plan.bytes_to_fetch)],
		["Needs", formatBytes(plan.required)],
		["Available", formatBytes(plan.available)],
		["Already there", plan.already_there ? "yes, this revision" : null],
		["Also on", plan.other_locations.join(", ")],
		["On its way", plan.task_id],
	]);
}
