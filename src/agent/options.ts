/** What `gswarm agent` was told by its flags. What is undefined comes from the configuration, else from the defaults. */

export interface AgentOptions {
	/** What the flags say it is; absent when they say nothing: what the data directory is, else both. */
	role?: { host: boolean; node: boolean };
	/** Address of the host to join, e.g. `http://10.0.0.1:8000`. */
	joinUrl?: string;
	/** The secret join string from stdin or a 0600 file; absent when the machine has joined before. */
	joinString?: string;
	nodeName?: string;
	dataDir: string;
	bind?: string;
	hostPort?: number;
	nodePort?: number;
	peerPort?: number;
	/** Disk tiers besides the one in the data directory. */
	disks: readonly { path: string; sizeBytes?: number }[];
	dramBytes?: number;
	logLevel: "debug" | "info" | "warn" | "error";
}

export const AGENT_DEFAULTS = {
	bind: "127.0.0.1",
	hostPort: 8000,
	nodePort: 8001,
	peerPort: 8002,
} as const;
