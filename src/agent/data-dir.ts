/** The data directory: who may use it, and the small files in it. Everything is 0700 / 0600. */
import { createPrivateKey } from "node:crypto";
import {
	chmodSync,
	closeSync,
	existsSync,
	fsyncSync,
	openSync,
	readFileSync,
	realpathSync,
	renameSync,
	rmSync,
	statfsSync,
	writeFileSync,
} from "node:fs";
import { dirname, join, resolve } from "node:path";
import {
	formatToken,
	generateKeyPair,
	generateTlsKey,
	makeToken,
	parseToken,
} from "../core/identity/identity.ts";
import { lockDirectory } from "../platform/directory-lock.ts";
import type { Ids } from "../platform/ids.ts";
import { ensurePrivateDirectory } from "../platform/private-directory.ts";
import { GswarmError } from "../schema/errors.ts";

/** `agent.json`: written when the agent is ready, removed when it stops; the CLI finds the agent by it. */
export interface AgentFile {
	pid: number;
	role: "host" | "node" | "host+node";
	name: string;
	version: string;
	started_at: number;
	host_url?: string;
	node_url?: string;
	peer_url?: string;
	/** Where the operator's own certificate is shown: the name or address that it should vouch for. */
	advertised_url?: string;
	/** What these URLs' certificates are of, when they are https: the file of the CA, and the name to ask for. */
	ca_file?: string;
	server_name?: string;
}

/** `starting.json`: how the CLI finds an agent that waits. */
export interface StartingFile {
	pid: number;
	name: string;
	/** What has to happen, and who does it. */
	waits_for: string;
}

/** `node.json`: the node's identity, kept for ever. */
export interface NodeFile {
	name: string;
	node_id: string;
	/** ECDSA P-256: SPKI and PKCS #8, DER, base64. It is the key of its certificates too. */
	public_key: string;
	private_key: string;
	/** Set once an agent was ready with it: the name stays from then on, a start that failed does not fix it. */
	in_use?: true;
	/** Set once it has joined. */
	joined?: {
		host_url: string;
		cluster_id: string;
		node_token: string;
		host_public_key: string;
		/** PEM; missing where a version without certificates joined. */
		ca_certificate?: string;
		certificate?: string;
		/** Id of the join string that let it in. */
		join_token?: string;
	};
}

/** `cluster.json`: the host's identity, kept for ever. */
export interface ClusterFile {
	cluster_id: string;
	public_key: string;
	private_key: string;
}

/** The cluster's CA, on its host; on a node the certificate alone. And the host's own key and certificate. */
export type PemFile = "ca.key" | "ca.pem" | "host.key" | "host.pem";

export interface DataDir extends Disposable {
	path: string;
	/** True when this start made it. */
	isNew: boolean;
	adminToken: string;
	readNode(): NodeFile | undefined;
	writeNode(file: NodeFile): void;
	/** The node's file, made with this name when there is none. */
	ensureNode(name: string): NodeFile;
	ensureCluster(): ClusterFile;
	/** @throws INVALID_REQUEST bad_data_file of a key that is none */
	readPem(name: PemFile): string | undefined;
	writePem(name: PemFile, text: string): void;
	writeAgent(file: AgentFile): void;
	removeAgent(): void;
	/** `starting.json`: an agent that is not ready yet, because somebody has to let it in. */
	writeStarting(file: StartingFile): void;
	removeStarting(): void;
	/** Rises at every start. */
	nextIncarnation(): number;
	/** The highest epoch of a host that began here; 0 before the first. */
	hostEpoch(): number;
	keepHostEpoch(epoch: number): void;
}

/** Magic numbers of statfs(2): filesystems on which SQLite's locks and WAL break. */
const NETWORK_FILESYSTEMS: Record<number, string> = {
	0x6969: "NFS",
	0xff534d42: "CIFS",
	0xfe534d42: "SMB2",
	0x517b: "SMB",
	0x65735546: "FUSE",
	0x00c36400: "Ceph",
	0x0bd00bd0: "Lustre",
	0x47504653: "GPFS",
	0x5346414f: "AFS",
	0x6b414653: "AFS",
	0x01021997: "9P",
	0x19830326: "BeeGFS",
	0xaad7aaea: "PanFS",
	0x01161970: "GFS2",
	0x7461636f: "OCFS2",
	0x73757245: "Coda",
	0x564c: "NCP",
	0x786f4256: "VirtualBox shared folders",
};

/** The network filesystem that a magic number of statfs(2) means; undefined for a local one. A number may come with its sign. */
export function networkFilesystem(magic: number | bigint): string | undefined {
	return NETWORK_FILESYSTEMS[Number(BigInt.asUintN(32, BigInt(magic)))];
}

/**
 * Makes or checks the directory and takes its lock.
 * @throws CONFLICT data_dir_in_use (touching nothing), INVALID_REQUEST network_filesystem, unsafe_data_dir,
 * not_a_directory, unusable_data_dir, bad_token_file
 */
export function openDataDir(givenPath: string, ids: Ids): DataDir {
	const given = resolve(givenPath);
	const path = existsSync(given) ? realpathSync(given) : given;
	const isNew = !existsSync(join(path, "admin.token"));
	refuseNetworkFilesystem(path);
	ensurePrivateDirectory(path);
	const lock = lockDirectory(join(path, "lock.sqlite"), () => holder(path));
	try {
		chmodSync(path, 0o700);
		chmodSync(join(path, "lock.sqlite"), 0o600);
		return lockedDataDir({ path, isNew, ids, lock });
	} catch (error) {
		lock[Symbol.dispose]();
		throw error;
	}
}

function lockedDataDir(d: { path: string; isNew: boolean; ids: Ids; lock: Disposable }): DataDir {
	const { path, isNew, ids, lock } = d;
	const file = (name: string): string => join(path, name);

	const ensure = <T>(name: string, make: () => T): T => {
		const known = readJson(file(name)) as T | undefined;
		if (known !== undefined) return known;
		const made = make();
		writePrivate(file(name), `${JSON.stringify(made, null, "\t")}\n`);
		return made;
	};
	return {
		path,
		isNew,
		adminToken: ensureAdminToken(file("admin.token"), ids),
		readNode: () => readJson(file("node.json")) as NodeFile | undefined,
		writeNode: (node) => writePrivate(file("node.json"), `${JSON.stringify(node, null, "\t")}\n`),
		ensureNode: (name) =>
			ensure<NodeFile>("node.json", () => {
				const { publicKey, privateKey } = generateTlsKey();
				return { name, node_id: ids.short(12), public_key: publicKey, private_key: privateKey };
			}),
		ensureCluster: () =>
			ensure<ClusterFile>("cluster.json", () => {
				const { publicKey, privateKey } = generateKeyPair();
				return { cluster_id: ids.short(12), public_key: publicKey, private_key: privateKey };
			}),
		readPem: (name) => readPem(file(name)),
		writePem: (name, text) => writePrivate(file(name), text),
		writeAgent: (agent) => writePrivate(file("agent.json"), `${JSON.stringify(agent)}\n`),
		removeAgent: () => rmSync(file("agent.json"), { force: true }),
		writeStarting: (starting) => writePrivate(file("starting.json"), `${JSON.stringify(starting)}\n`),
		removeStarting: () => rmSync(file("starting.json"), { force: true }),
		hostEpoch() {
			const epoch = (readJson(file("host-epoch.json")) as { epoch?: unknown } | undefined)?.epoch ?? 0;
			if (typeof epoch === "number" && Number.isSafeInteger(epoch + 1) && epoch >= 0) return epoch;
			throw new GswarmError("INVALID_REQUEST", `${file("host-epoch.json")} does not hold an epoch.`, {
				reason: "bad_data_file",
				hint: "Restore it from a backup; without the file the next start goes by the database alone.",
			});
		},
		keepHostEpoch: (epoch) => writePrivate(file("host-epoch.json"), `${JSON.stringify({ epoch })}\n`),
		nextIncarnation() {
			const next = ((readJson(file("incarnation.json")) as { n: number } | undefined)?.n ?? 0) + 1;
			writePrivate(file("incarnation.json"), `${JSON.stringify({ n: next })}\n`);
			return next;
		},
		[Symbol.dispose]: () => lock[Symbol.dispose](),
	};
}

function ensureAdminToken(path: string, ids: Ids): string {
	if (existsSync(path)) {
		const text = readFileSync(path, "utf8").trim();
		if (parseToken(text)?.kind === "admin") return text;
		throw new GswarmError("INVALID_REQUEST", `${path} does not hold an admin token.`, {
			reason: "bad_token_file",
			hint: "Remove the file; the agent makes a new token at its next start.",
		});
	}
	const text = formatToken(makeToken(ids, "admin"));
	writePrivate(path, `${text}\n`);
	return text;
}

/** Whole or not at all, also after a power cut, and readable by nobody else at any moment. */
function writePrivate(path: string, text: string): void {
	const temporary = `${path}.new`;
	rmSync(temporary, { force: true });
	writeFileSync(temporary, text, { mode: 0o600, flag: "wx", flush: true });
	renameSync(temporary, path);
	const directory = openSync(dirname(path), "r");
	fsyncSync(directory);
	closeSync(directory);
}

/** What we wrote there earlier; undefined where there is no such file. */
function readJson(path: string): unknown {
	if (!existsSync(path)) return undefined;
	try {
		return JSON.parse(readFileSync(path, "utf8")) as unknown;
	} catch (cause) {
		throw new GswarmError("INVALID_REQUEST", `${path} is not readable as JSON.`, {
			reason: "bad_data_file",
			cause,
		});
	}
}

/** A certificate that is damaged is made again, a key is not: it would be another cluster. */
function readPem(path: string): string | undefined {
	if (!existsSync(path)) return undefined;
	try {
		// As restored from a backup, perhaps; the directory keeps others out meanwhile.
		if (path.endsWith(".key")) chmodSync(path, 0o600);
		const text = readFileSync(path, "utf8");
		if (path.endsWith(".key")) createPrivateKey(text);
		return text;
	} catch (cause) {
		throw new GswarmError("INVALID_REQUEST", `${path} does not hold a private key in PEM.`, {
			reason: "bad_data_file",
			hint: "Restore it from a backup. Without `host.key` the next start makes another; without `ca.key` every machine and person has to be let in anew.",
			cause,
		});
	}
}

function refuseNetworkFilesystem(path: string): void {
	let existing = path;
	while (!existsSync(existing)) existing = dirname(existing);
	const kind = networkFilesystem(statfsSync(existing).type);
	if (kind === undefined) return;
	throw new GswarmError(
		"INVALID_REQUEST",
		`${path} is on a network filesystem (${kind}); a data directory must be on a local disk.`,
		{
			reason: "network_filesystem",
			details: { filesystem: kind },
			hint: "Name a local directory with `--data-dir DIR`; homes shared between machines are a common cause.",
		},
	);
}

function holder(path: string): string {
	const agent = readJson(join(path, "agent.json")) as AgentFile | undefined;
	return agent === undefined ? "" : ` (pid ${agent.pid}, ${agent.name})`;
}
