/** Copies at rest, digests that follow, bundles of small files, limits: what must not be served, lost or overrun. */
import type { Guard } from "./guard.ts";

const VERIFICATION = ["test/storage/verification.test.ts"];
const NODE_VERIFICATION = ["test/agent/verification.test.ts"];
const BUNDLE = ["test/transfer/bundle.test.ts"];
const BANDWIDTH = ["test/transfer/bandwidth.test.ts"];
const FOLLOWER = ["test/transfer/follower.test.ts"];

export const COPIES_GUARDS: readonly Guard[] = [
	{
		name: "damaged_out_of_use",
		file: "src/core/storage/storage.ts",
		find: 'if (row.state === "ready") await setState(shelf, row, "unavailable");',
		replace: "",
		tests: VERIFICATION,
	},
	{
		name: "sample_heals_nothing",
		file: "src/core/storage/storage.ts",
		find: 'else if (row.state === "unavailable" && isWhole)',
		replace: 'else if (row.state === "unavailable")',
		tests: VERIFICATION,
	},
	{
		name: "verified_copy_held",
		file: "src/core/storage/storage.ts",
		find: 'row.state === "ready" ? holdRow(row, "verification") : undefined',
		replace: "undefined",
		tests: VERIFICATION,
	},
	{
		name: "sizes_looked_at",
		file: "src/core/storage/verification.ts",
		find: "if (info.size === file.size_bytes) return undefined;",
		replace: "return undefined;",
		tests: VERIFICATION,
	},
	{
		name: "repair_of_known_content",
		file: "src/agent/host/repair-routes.ts",
		find: "if (!all.some((l) => l.node === receiver && l.tier === tier && l.content_id === contentId))",
		replace: "if (false)",
		tests: NODE_VERIFICATION,
	},
	{
		name: "repair_lets_go",
		file: "src/agent/node/verification.ts",
		find: "await d.endRepair(place, context.taskId);",
		replace: "",
		tests: NODE_VERIFICATION,
	},
	{
		name: "no_repair_in_use",
		file: "src/agent/node/verification.ts",
		find: "if (holders.length > 0)",
		replace: "if (false)",
		tests: NODE_VERIFICATION,
	},
	{
		name: "remains_tried_once",
		file: "src/core/transfer/mending-source.ts",
		find: "if (tried.has(key)) return false;",
		replace: "",
		tests: ["test/transfer/mending.test.ts"],
	},
	{
		name: "follower_begins_anew",
		file: "src/core/transfer/follower.ts",
		find: "files.delete(file.index);\n\t\t\t\treturn await",
		replace: "return await",
		tests: FOLLOWER,
	},
	{
		name: "followed_position",
		file: "src/core/transfer/follower.ts",
		find: "while (end < file.partCount && end - first < most && isThere(file, end)) end++;",
		replace: "while (end < file.partCount && end - first < most) end++;",
		tests: FOLLOWER,
	},
	{
		name: "bundle_shorter",
		file: "src/core/transfer/bundle.ts",
		find: "if (position < size)",
		replace: "if (false)",
		tests: BUNDLE,
	},
	{
		name: "bundle_digest",
		file: "src/core/transfer/bundle.ts",
		find: "file.source.parts?.xxh64[0] === xxh64 &&",
		replace: "",
		tests: BUNDLE,
	},
	{
		name: "bundle_bounds",
		file: "src/core/transfer/bundle.ts",
		find: " && bytes <= BUNDLE_BYTES",
		replace: "",
		tests: BUNDLE,
	},
	{
		name: "bundle_of_ready_copy",
		file: "src/core/transfer/bundle.ts",
		find: 'copy.content_id === contentId && copy.status === "ready"',
		replace: "copy.content_id === contentId",
		tests: BUNDLE,
	},
	{
		name: "bundle_stall",
		file: "src/core/transfer/bundle.ts",
		find: "await stalls.guard(reader.read(), connection);",
		replace: "await reader.read();",
		tests: BUNDLE,
	},
	{
		name: "bundle_grant",
		file: "src/agent/node/peer-routes.ts",
		find: "const { receiver } = check(bearer, params.content_id);\n\t\t\tconst wanted",
		replace: 'const receiver = "";\n\t\t\tconst wanted',
		tests: ["test/cluster/copy.test.ts"],
	},
	{
		name: "sync_or_one_by_one",
		file: "src/core/storage/staged-tree.ts",
		find: "files.length >= MANY_FILES && ",
		replace: "",
		tests: ["test/storage/many-files.test.ts"],
	},
	{
		name: "rate_of_all",
		file: "src/core/transfer/fair-share.ts",
		find: "all.tokens -= head.bytes;",
		replace: "",
		tests: BANDWIDTH,
	},
	{
		name: "rate_of_one",
		file: "src/core/transfer/fair-share.ts",
		find: "flow.tokens -= head.bytes;",
		replace: "",
		tests: BANDWIDTH,
	},
	{
		name: "fair_by_bytes",
		file: "src/core/transfer/fair-share.ts",
		find: "flow.served += head.bytes;",
		replace: "",
		tests: BANDWIDTH,
	},
	{
		name: "debt_of_former_rate",
		file: "src/core/transfer/fair-share.ts",
		find: "bucket.tokens = rate === undefined ? 0 : rate * BURST_S;",
		replace: "",
		tests: BANDWIDTH,
	},
	{
		name: "shares_of_cluster",
		file: "src/agent/host/cluster-bandwidth.ts",
		find: "Math.floor((limit * weight(own ?? { isBusy: false })) / Math.max(1, total))",
		replace: "limit",
		tests: ["test/cluster/bandwidth.test.ts"],
	},
	{
		name: "up_limit",
		file: "src/agent/node/paced.ts",
		find: "await lane.pass(value.byteLength, gone.signal);",
		replace: "",
		tests: ["test/cluster/bandwidth.test.ts"],
	},
	{
		name: "progress_never_back",
		file: "src/core/transfer/progress.ts",
		find: "shown = Math.max(shown, bytesDone);",
		replace: "shown = bytesDone;",
		tests: ["test/transfer/transfer.test.ts"],
	},
];
