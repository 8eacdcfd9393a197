import { expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { createMemoryReader } from "../../src/platform/memory.ts";
import { tempDir } from "../support/temp-dir.ts";

const MEMINFO = "MemTotal:       1000 kB\nMemFree: 1 kB\nMemAvailable:    600 kB\n";

function machine(files: Record<string, string>) {
	const dir = tempDir();
	for (const [path, text] of Object.entries({ "proc/meminfo": MEMINFO, ...files })) {
		mkdirSync(dirname(join(dir.path, path)), { recursive: true });
		writeFileSync(join(dir.path, path), text);
	}
	return dir;
}

test("without control groups it is the machine's", () => {
	using dir = machine({});
	expect(createMemoryReader(dir.path).read()).toEqual({
		totalBytes: 1_024_000,
		availableBytes: 614_400,
		limitBytes: undefined,
	});
});

test("a group of version 2 limits it, what of its use is cache is still available", () => {
	const at = "sys/fs/cgroup/system.slice/gswarm.service";
	using dir = machine({
		"proc/self/cgroup": "0::/system.slice/gswarm.service\n",
		[`${at}/memory.max`]: "500000\n",
		[`${at}/memory.current`]: "400000\n",
		[`${at}/memory.stat`]: "anon 300000\ninactive_file 50000\n",
	});
	expect(createMemoryReader(dir.path).read()).toEqual({
		totalBytes: 500_000,
		availableBytes: 150_000,
		limitBytes: 500_000,
	});
});

test("a group above it counts too, and one without a limit does not", () => {
	using dir = machine({
		"proc/self/cgroup": "0::/pod/box\n",
		"sys/fs/cgroup/pod/box/memory.max": "max\n",
		"sys/fs/cgroup/pod/memory.max": "300000\n",
		"sys/fs/cgroup/pod/memory.current": "100000\n",
	});
	expect(createMemoryReader(dir.path).read()).toMatchObject({ totalBytes: 300_000, availableBytes: 200_000 });
});

test("a group of version 1 limits it; its word for no limit is none", () => {
	const v1 = (limit: string) => ({
		"proc/self/cgroup": "5:cpu:/x\n4:memory:/docker/abc\n0::/\n",
		// As it is mounted in a container: the path is the machine's, the group is at the root.
		"sys/fs/cgroup/memory/memory.limit_in_bytes": limit,
		"sys/fs/cgroup/memory/memory.usage_in_bytes": "150000\n",
		"sys/fs/cgroup/memory/memory.stat": "total_inactive_file 50000\n",
	});
	using limited = machine(v1("200000\n"));
	expect(createMemoryReader(limited.path).read()).toMatchObject({
		totalBytes: 200_000,
		availableBytes: 100_000,
	});
	using unlimited = machine(v1("9223372036854771712\n"));
	expect(createMemoryReader(unlimited.path).read()?.limitBytes).toBeUndefined();
});

test("where the system does not tell, nothing is told", () => {
	using dir = tempDir();
	expect(createMemoryReader(dir.path).read()).toBeUndefined();
});
