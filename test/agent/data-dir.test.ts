import { expect, test } from "bun:test";
import {
	chmodSync,
	chownSync,
	existsSync,
	mkdirSync,
	readFileSync,
	statSync,
	symlinkSync,
	writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { networkFilesystem, openDataDir } from "../../src/agent/data-dir.ts";
import { generateTlsKey, keyPem, parseToken } from "../../src/core/identity/identity.ts";
import { systemIds } from "../../src/platform/ids.ts";
import { asGswarmError } from "../../src/schema/errors.ts";
import { tempDir } from "../support/temp-dir.ts";
import { tree } from "./start-agent.ts";

const mode = (path: string): string => (statSync(path).mode & 0o777).toString(8);

function refusalOf(path: string): string {
	try {
		openDataDir(path, systemIds)[Symbol.dispose]();
	} catch (error) {
		const { code, reason } = asGswarmError(error);
		return `${code} ${reason}`;
	}
	return "accepted";
}

test("a new directory is 0700 and every file in it 0600, whatever the umask is", () => {
	using dir = tempDir();
	const path = join(dir.path, "deep", "home");
	const umask = process.umask(0);
	try {
		using data = openDataDir(path, systemIds);
		data.ensureNode("node1");
		data.ensureCluster();
		data.nextIncarnation();
		data.keepHostEpoch(1);
		data.writeAgent({ pid: 1, role: "node", name: "node1", version: "0", started_at: 0 });
	} finally {
		process.umask(umask);
	}
	const found = Object.entries(tree(path)).map(([name, it]) => [name, it.split(" ").slice(0, 2).join(" ")]);
	expect(Object.fromEntries(found)).toEqual({
		"": "directory 700",
		"admin.token": "file 600",
		"agent.json": "file 600",
		"cluster.json": "file 600",
		"host-epoch.json": "file 600",
		"incarnation.json": "file 600",
		"lock.sqlite": "file 600",
		"node.json": "file 600",
	});
});

test("what a first start made, the next one finds: token, node, cluster; only the incarnation rises", () => {
	using dir = tempDir();
	const open = () => {
		using data = openDataDir(dir.path, systemIds);
		const { adminToken, isNew } = data;
		return {
			isNew,
			kept: [adminToken, data.ensureNode("node1"), data.ensureCluster()],
			incarnation: data.nextIncarnation(),
		};
	};
	const [first, second, third] = [open(), open(), open()];
	expect([first.isNew, second.isNew]).toEqual([true, false]);
	expect(second.kept).toEqual(first.kept);
	expect([first, second, third].map((it) => it.incarnation)).toEqual([1, 2, 3]);
	expect(parseToken(readFileSync(join(dir.path, "admin.token"), "utf8").trim())?.kind).toBe("admin");
});

test("a node keeps the name and the keys of its first start, whatever it is called later", () => {
	using dir = tempDir();
	using data = openDataDir(dir.path, systemIds);
	const first = data.ensureNode("node1");
	expect(data.ensureNode("another")).toEqual(first);
	expect(data.readNode()).toEqual(first);
});

test("a directory that others may write to is refused and stays as it is", () => {
	using dir = tempDir();
	for (const bits of [0o770, 0o707, 0o777, 0o720, 0o702]) {
		chmodSync(dir.path, bits);
		expect(refusalOf(dir.path)).toBe("INVALID_REQUEST unsafe_data_dir");
		expect(mode(dir.path)).toBe(bits.toString(8));
		expect(Object.keys(tree(dir.path))).toEqual([""]);
	}
	chmodSync(dir.path, 0o755);
	expect(refusalOf(dir.path)).toBe("accepted");
	expect(mode(dir.path)).toBe("700");
});

test.skipIf(process.getuid?.() !== 0)("a directory of another user is refused, even for root", () => {
	using dir = tempDir();
	chownSync(dir.path, 12_345, 12_345);
	expect(refusalOf(dir.path)).toBe("INVALID_REQUEST unsafe_data_dir");
	expect(Object.keys(tree(dir.path))).toEqual([""]);
});

test("a link to a directory is that directory, with its own rights", () => {
	using dir = tempDir();
	const [real, link] = [join(dir.path, "real"), join(dir.path, "link")];
	mkdirSync(real, { mode: 0o700 });
	symlinkSync(real, link);
	{
		using data = openDataDir(link, systemIds);
		expect(data.path).toBe(real);
		expect(refusalOf(real)).toBe("CONFLICT data_dir_in_use");
	}
	chmodSync(real, 0o770);
	expect(refusalOf(link)).toBe("INVALID_REQUEST unsafe_data_dir");
});

test("a file is no data directory", () => {
	using dir = tempDir();
	const path = join(dir.path, "file");
	writeFileSync(path, "mine");
	expect(refusalOf(path)).toBe("INVALID_REQUEST not_a_directory");
	expect(readFileSync(path, "utf8")).toBe("mine");
});

test("a place where nothing can be made is refused as such, not as a fault", () => {
	for (const path of ["/dev/null/home", "/proc/home"]) {
		expect([path, refusalOf(path)]).toEqual([path, "INVALID_REQUEST unusable_data_dir"]);
	}
});

test("files that were damaged are refused by name, nothing is made in their place, and the lock is free again", () => {
	for (const [name, reason] of [
		["admin.token", "bad_token_file"],
		["node.json", "bad_data_file"],
		["ca.key", "bad_data_file"],
		["host.key", "bad_data_file"],
	] as const) {
		using dir = tempDir();
		writeFileSync(join(dir.path, name), "{ broken");
		const open = () => {
			using data = openDataDir(dir.path, systemIds);
			data.readPem("ca.key");
			data.readPem("host.key");
			return data.ensureNode("node1");
		};
		expect(open).toThrow(name);
		expect(open).toThrow(expect.objectContaining({ reason }));
		expect(readFileSync(join(dir.path, name), "utf8")).toBe("{ broken");
	}
});

test("a key that came back from a backup readable by others is for this user alone again", () => {
	using dir = tempDir();
	using data = openDataDir(dir.path, systemIds);
	const path = join(dir.path, "host.key");
	data.writePem("host.key", keyPem(generateTlsKey().privateKey));
	chmodSync(path, 0o644);
	data.readPem("host.key");
	expect(mode(path)).toBe("600");
});

test("agent.json is there while the agent is ready, and only then", () => {
	using dir = tempDir();
	using data = openDataDir(dir.path, systemIds);
	const path = join(dir.path, "agent.json");
	expect(existsSync(path)).toBe(false);
	const file = { pid: 7, role: "host" as const, name: "a", version: "0", started_at: 1 };
	data.writeAgent(file);
	expect(JSON.parse(readFileSync(path, "utf8"))).toEqual(file);
	expect(() => openDataDir(dir.path, systemIds)).toThrow("(pid 7, a)");
	data.removeAgent();
	data.removeAgent();
	expect(existsSync(path)).toBe(false);
});

test.each([
	[0x6969, "NFS"],
	[0xff534d42, "CIFS"],
	// As a system with signed numbers reports it.
	[0xff534d42 - 2 ** 32, "CIFS"],
	[0xffffffffff534d42n, "CIFS"],
	[0xfe534d42, "SMB2"],
	[0x65735546, "FUSE"],
	[0x0bd00bd0, "Lustre"],
	[0x47504653, "GPFS"],
	[0x19830326, "BeeGFS"],
	[0x01021997, "9P"],
	[0x00c36400, "Ceph"],
])("%d is the network filesystem %s", (magic, name) => {
	expect(networkFilesystem(magic)).toBe(name);
});

test.each([
	["ext4", 0xef53],
	["XFS", 0x58465342],
	["Btrfs", 0x9123683e],
	["tmpfs", 0x01021994],
	["overlay", 0x794c7630],
	["ZFS", 0x2fc12fc1],
	["F2FS", 0xf2f52010],
	["bcachefs", 0xca451a4e],
	["nothing", 0],
])("%s is local", (_name, magic) => {
	expect(networkFilesystem(magic)).toBeUndefined();
});
