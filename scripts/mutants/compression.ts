/** Parts that come compressed, from several nodes or from a person's machine: what is inflated, and who is believed. */
import type { Guard } from "./guard.ts";

const BLOCKS = ["test/platform/zstd-blocks.test.ts"];
const SEVERAL = ["test/transfer/several-sources.test.ts"];
const OFFER = ["test/source/offer.test.ts"];
const COMPRESSION = ["test/transfer/compression.test.ts"];

export const COMPRESSION_GUARDS: readonly Guard[] = [
	{
		name: "inflation_capped",
		file: "src/platform/zstd-blocks.ts",
		find: "zstdDecompressSync(coded, { maxOutputLength: rawBytes })",
		replace: "zstdDecompressSync(coded)",
		tests: BLOCKS,
	},
	{
		name: "inflated_block_whole",
		file: "src/platform/zstd-blocks.ts",
		find: "if (raw.byteLength === rawBytes) return raw;",
		replace: "return raw;",
		tests: BLOCKS,
	},
	{
		name: "block_bounded",
		file: "src/platform/zstd-blocks.ts",
		find: "rawBytes > BLOCK_BYTES || ",
		replace: "",
		tests: BLOCKS,
	},
	{
		name: "inflated_body_bounded",
		file: "src/platform/zstd-blocks.ts",
		find: "if (given > limitBytes)",
		replace: "if (false)",
		tests: BLOCKS,
	},
	{
		name: "busy_machine_compresses_little",
		file: "src/core/transfer/compressed-part.ts",
		find: "isBusy && rate !== undefined ? WORTH_WHEN_BUSY : WORTH",
		replace: "WORTH",
		tests: COMPRESSION,
	},
	{
		name: "broken_compression_left",
		file: "src/core/source/line-coding.ts",
		find: 'if (error instanceof GswarmError && error.reason === "bad_compression") isBroken = true;',
		replace: "",
		tests: COMPRESSION,
	},
	{
		name: "compression_only_when_asked",
		file: "src/core/source/line-coding.ts",
		find: ' || mode === "none"',
		replace: "",
		tests: COMPRESSION,
	},
	{
		name: "liar_asked_no_more",
		file: "src/core/transfer/several-sources.ts",
		find: "wrong.place.coolUntilMs = Infinity;",
		replace: "",
		tests: SEVERAL,
	},
	{
		name: "other_sources_tried",
		file: "src/core/transfer/several-sources.ts",
		find: "left.delete(place);",
		replace: "left.clear();",
		tests: SEVERAL,
	},
	{
		name: "further_sources_without_receiver",
		file: "src/agent/host/further-sources.ts",
		find: " || holder.node === receiver",
		replace: "",
		tests: ["test/cluster/further-sources.test.ts"],
	},
	{
		name: "offer_as_announced",
		file: "src/core/source/offer.ts",
		find: "if (found.content_id !== contentId || found.manifest.total_bytes !== sizeBytes)",
		replace: "if (false)",
		tests: OFFER,
	},
	{
		name: "piece_as_long_as_wanted",
		file: "src/core/source/offer.ts",
		find: "if (bytes.byteLength !== length) {",
		replace: "if (false) {",
		tests: OFFER,
	},
	{
		name: "piece_to_one_sender",
		file: "src/core/source/offer.ts",
		find: "free.leasedUntilMs = nowMs + LEASE_MS;",
		replace: "",
		tests: OFFER,
	},
	{
		name: "offer_fits",
		file: "src/agent/node/offer-routes.ts",
		find: "await fits(tier, body.size_bytes);",
		replace: "{}",
		tests: ["test/agent/bundle-offers.test.ts"],
	},
];
