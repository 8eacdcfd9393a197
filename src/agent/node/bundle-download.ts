/** The download of a bundle, as its task keeps it: whether it is fetched or sent, the bundle says what it is. */
import { shownSource } from "../../platform/outbound-guard.ts";
import type { DownloadRequest } from "./download-task.ts";

/** What a bundle says of itself. */
interface Bundle {
	revision: string;
	format: string;
	source_url: string | null;
	content_id: string;
	model_type: string;
}

export function bundleDownload(
	{ revision, format, source_url, content_id, model_type }: Bundle,
	asked: {
		model: string;
		sourceUrl: string;
		device: string;
		bandwidthLimit: number | null | undefined;
	},
): DownloadRequest {
	return {
		model_name: asked.model,
		source_url: asked.sourceUrl,
		target_device: asked.device,
		model_type,
		verify_checksum: null,
		include: [],
		exclude: [],
		all_files: false,
		bandwidth_limit: asked.bandwidthLimit ?? null,
		bundle: {
			revision,
			format,
			source_url: source_url === null ? null : shownSource(source_url),
			content_id,
		},
	};
}
