/** Who goes from a full device, and who never does; pages that are kept no longer than they are true. */
import type { Guard } from "./guard.ts";

const CHOICE = ["test/storage/eviction.test.ts"];
const NODE = ["test/agent/eviction.test.ts"];
const CLUSTER = ["test/cluster/eviction.test.ts"];
const CHOICE_FILE = "src/core/storage/eviction.ts";
const NODE_FILE = "src/agent/node/eviction.ts";
const SWEEP_FILE = "src/agent/node/watermark-sweep.ts";

export const EVICTION_GUARDS: readonly Guard[] = [
	{
		name: "pinned_stays",
		file: CHOICE_FILE,
		find: 'if (c.pinned) return "pinned";',
		replace: "",
		tests: CHOICE,
	},
	{
		name: "used_stays",
		file: CHOICE_FILE,
		find: 'if (c.holders.length > 0) return "in_use";',
		replace: "",
		tests: CHOICE,
	},
	{
		name: "adopted_stays",
		file: CHOICE_FILE,
		find: 'if (c.place === "adopted") return "adopted";',
		replace: "",
		tests: CHOICE,
	},
	{
		name: "last_durable_stays",
		file: CHOICE_FILE,
		find: 'if (c.durable && c.otherDurableCopies === 0) return "last_durable_copy";',
		replace: "",
		tests: CHOICE,
	},
	{
		name: "only_copy_stays",
		file: CHOICE_FILE,
		find: 'return c.costToBringBackS === null ? "only_copy" : undefined;',
		replace: "return undefined;",
		tests: CHOICE,
	},
	{
		name: "just_enough_goes",
		file: CHOICE_FILE,
		find: "if (bytes - sizeBytes >= needBytes) bytes -= sizeBytes;",
		replace: "if (false) bytes -= sizeBytes;",
		tests: CHOICE,
	},
	{
		name: "none_goes_in_vain",
		file: CHOICE_FILE,
		find: "if (needBytes <= 0 || evictableBytes < needBytes)",
		replace: "if (needBytes <= 0)",
		tests: CHOICE,
	},
	{
		name: "source_before_victims",
		file: NODE_FILE,
		find: "await request.checkSource(signal);",
		replace: "",
		tests: NODE,
	},
	{
		name: "failed_load_remembered",
		file: NODE_FILE,
		find: "if (before !== undefined) throw failedBefore(await refusal(tier, bytes), before);",
		replace: "",
		tests: NODE,
	},
	{
		name: "freed_for_who_asked",
		file: "src/core/storage/capacity.ts",
		find: "take(tier, filesystem, { bytes, toWrite: Math.max(0, bytes - writtenBytes), transferId })",
		replace: "take(tier, filesystem, { bytes: 0, toWrite: 0, transferId })",
		tests: NODE,
	},
	{
		name: "sweep_keeps_the_newest",
		file: SWEEP_FILE,
		find: ".slice(1);",
		replace: ".slice(0);",
		tests: NODE,
	},
	{
		name: "room_of_others_told",
		file: SWEEP_FILE,
		find: "if (hasMoreRoom()) d.onRoom?.();",
		replace: "",
		tests: NODE,
	},
	{
		name: "disk_evicts_when_told",
		file: NODE_FILE,
		find: "if (!watermarksOf(tier).automatic) return 0;",
		replace: "",
		tests: NODE,
	},
	{
		name: "damaged_source_evicts_none",
		file: "src/core/storage/staged-tree.ts",
		find: "&& info.mtimeMs <= readyAt * 1000",
		replace: "",
		tests: CLUSTER,
	},
	{
		name: "names_follow_the_registry",
		file: "src/core/registry/model-names.ts",
		find: "if (version !== keptVersion) kept = new Map();",
		replace: "",
		tests: ["test/registry/registry.test.ts"],
	},
	{
		name: "names_follow_the_shelf",
		file: "src/core/storage/copy-index.ts",
		find: "if (before?.state !== row.state || before.modelType !== row.modelType) this.#chosen.clear();",
		replace: "",
		tests: ["test/storage/copy-index.test.ts"],
	},
];
