/** What `gswarm agent` was told by its flags. What is undefined comes from the configuration, else from the defaults. */

export interface AgentOptions {
	/** What the flags say it is; absent when they say nothing: what the data directory is, else both. */
	role?: { host: boolean; node: boolean };
	/** Address of the host to join, e.g. `https://10.0.0.1:8000`. */
	joinUrl?: string;
	/** The secret join string from stdin or a 0600 file; absent when the machine has joined before. */
	joinString?: string;
	nodeName?: string;
	dataDir: string;
	bind?: string;
	/** Names and addresses under which others reach this machine; the first stands in printed URLs. */
	advertise?: readonly string[];
	/** TLS on loopback too. */
	tls?: boolean;
	/** The operator's own certificate and its key, for everybody who does not ask for the cluster's. */
	tlsFiles?: { certificate: string; key: string };
	hostPort?: number;
	nodePort?: number;
	peerPort?: number;
	/** Disk tiers besides the one in the data directory. */
	disks: readonly { path: string; sizeBytes?: number }[];
	dramBytes?: number;
	/** GPUs that are not there, by the size of their memory. */
	simulatedGpus?: readonly number[];
	logLevel: "debug" | "info" | "warn" | "error";
}

export const AGENT_DEFAULTS = {
	bind: "127.0.0.1",
	hostPort: 8000,
	nodePort: 8001,
	peerPort: 8002,
} as const;
