/** Guards of the GPU tier: what counts as loaded, what is freed, who may use what, and a driver that hangs. */
import type { Guard } from "./guard.ts";

const HOLDER = "src/core/accelerator/holder";
const ROOM = "src/core/accelerator/room.ts";
const SIMULATED = "test/accelerator/simulated.test.ts";
const CUDA = "test/accelerator/cuda.test.ts";
const PROBE = "test/accelerator/probe.test.ts";
const CLUSTER = "test/cluster/gpu.test.ts";

export const GPU_GUARDS: readonly Guard[] = [
	{
		name: "gpu_read_back",
		file: `${HOLDER}/main.ts`,
		find: "if (bad.length > 0) {",
		replace: "if (bad.length < 0) {",
		tests: [SIMULATED, CUDA],
	},
	{
		name: "gpu_buffer_is_copied_before_it_is_filled",
		file: `${HOLDER}/copier.ts`,
		find: "lane.wait();\n\t\t\t\tconst bytes",
		replace: "const bytes",
		tests: [CUDA],
	},
	{
		name: "gpu_buffer_is_there_before_it_is_hashed",
		file: `${HOLDER}/copier.ts`,
		find: "lane.wait();\n\t\t\t\thash",
		replace: "hash",
		tests: [CUDA],
	},
	{
		name: "gpu_failed_load_is_freed",
		file: `${HOLDER}/main.ts`,
		find: 'release(id);\n\t\t\ttell({ kind: "failed"',
		replace: 'tell({ kind: "failed"',
		tests: [CUDA],
	},
	{
		name: "gpu_short_file",
		file: `${HOLDER}/copier.ts`,
		find: "if (count === 0)",
		replace: "if (count < 0)",
		tests: [SIMULATED],
	},
	{
		name: "gpu_hanging_driver_is_ended",
		file: `${HOLDER}/holder-process.ts`,
		find: "if (isDeaf || (isBusy && nowMs - child.heardMs >= limits.silentMs)) {",
		replace: "if (isBusy && nowMs < 0) {",
		tests: [CUDA],
	},
	{
		name: "gpu_idle_holder_ends",
		file: `${HOLDER}/holder-process.ts`,
		find: "nowMs - child.idleSinceMs >= limits.idleMs",
		replace: "nowMs < 0",
		tests: [CUDA],
	},
	{
		name: "gpu_room",
		file: ROOM,
		find: "if (bytes > available) throw noRoom(",
		replace: "if (bytes < 0) throw noRoom(",
		tests: [SIMULATED],
	},
	{
		name: "gpu_in_use",
		file: ROOM,
		find: "if (uses.length > 0) throw inUse(",
		replace: "if (uses.length < 0) throw inUse(",
		tests: [SIMULATED],
	},
	{
		name: "gpu_dead_holder_holds_nothing",
		file: ROOM,
		find: "if (ids.includes(id)) state.slots.delete(key);",
		replace: "if (ids.includes(-id)) state.slots.delete(key);",
		tests: [SIMULATED, CLUSTER],
	},
	{
		name: "gpu_other_contents",
		file: ROOM,
		find: "if (slot === undefined || slot.copy.content_id === input.from.content_id) return slot?.copy;",
		replace: 'if (slot !== undefined || input.from.content_id !== "") return slot?.copy;',
		tests: [SIMULATED],
	},
	{
		name: "gpu_hung_look_is_told",
		file: ROOM,
		find: 'setProblem(state, "its driver does not answer");',
		replace: "void state;",
		tests: [PROBE],
	},
	{
		name: "gpu_visible_devices_end_at_a_wrong_one",
		file: "src/core/accelerator/visible.ts",
		find: "if (gpu === undefined) break;",
		replace: "if (gpu === undefined) continue;",
		tests: [PROBE],
	},
	{
		name: "gpu_never_twice",
		file: "src/agent/node/device-work.ts",
		find: "given.set(key, await d.accelerator.handOver(model, rev, tier));",
		replace: "given.set(key, d.accelerator.occupy(tier, bytes));",
		tests: [CLUSTER],
	},
	{
		name: "gpu_last_file_copy",
		file: "src/agent/node/device-work.ts",
		find: 'others.length === 0) return "last_file_copy";',
		replace: 'others.length < 0) return "last_file_copy";',
		tests: [CLUSTER],
	},
	{
		name: "gpu_engine_on_the_cpu",
		file: "src/agent/node/device-work.ts",
		find: "if (!device.simulated) throw engineWithoutGpu(",
		replace: 'if (device.name === "") throw engineWithoutGpu(',
		tests: [CLUSTER],
	},
	{
		name: "gpu_is_no_place_for_files",
		file: "src/agent/node/node-requests.ts",
		find: "if (!isGpu(tier)) return tier;",
		replace: 'if (tier !== "") return tier;',
		tests: [CLUSTER],
	},
	{
		name: "gpu_named_and_lacking",
		file: "src/agent/node/node.ts",
		find: "if (missing === undefined) return;",
		replace: 'if (missing !== "") return;',
		tests: [CLUSTER],
	},
];
