/** The request of a copy or move, as its task keeps it. */
import type { Compression } from "../../schema/compression.ts";

export interface CopyRequest {
	model_name: string;
	source_device: string;
	target_device: string;
	keep_source: boolean;
	verify_checksum: boolean | null;
	bandwidth_limit: number | null;
	/** Of what comes from another node. */
	compression?: Compression;
	/** Left out: somebody asked for it. */
	purpose?: "preload";
	/** The device of this node by which a model of another node comes to a GPU. */
	via?: string;
	/** Set when the source is another node: what the host said of it. */
	pull?: {
		operation_id: string;
		revision: string;
		content_id: string;
		model_type: string;
		source_url: string | null;
		format: string;
	};
}
