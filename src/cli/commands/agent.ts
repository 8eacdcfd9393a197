import { agentOptions, strayOnAgent } from "../agent-options.ts";
import { defineCommand } from "../command.ts";
import { node, path, port, size } from "../values.ts";

export const command = defineCommand({
	about: `Runs the agent of this machine in the foreground, until Ctrl-C. Without flags it is a whole cluster on this one machine: host and node. With --host it is the host of a cluster; with --join it is a node of the host at URL. The first start makes the data directory and the token in it, which the other commands find by themselves.
The join string comes from the host's \`gswarm token create --join\`, on standard input, in a file with mode 0600, or typed when a terminal is asked for it; a machine that has joined before needs none.`,
	args: {
		host: { type: "boolean", description: "Be the host; with --node also a node" },
		join: { type: "string", valueHint: "URL", description: "Be a node of the host at this address" },
		"join-file": {
			type: "string",
			value: path,
			valueHint: "FILE",
			description: "File (mode 0600) that holds the join string",
		},
		node: {
			type: "string",
			value: node,
			valueHint: "NAME",
			description: "Name of this node (default: the host name; kept from then on)",
		},
		port: {
			type: "string",
			value: port,
			valueHint: "N",
			description: `Port of the host's API (default: 8000)`,
		},
		"node-port": {
			type: "string",
			value: port,
			valueHint: "N",
			description: `Port of the node's API (default: 8001)`,
		},
		"peer-port": {
			type: "string",
			value: port,
			valueHint: "N",
			description: `Port for parts between nodes (default: 8002)`,
		},
		bind: {
			type: "string",
			valueHint: "ADDRESS",
			description: `Address to listen on: 0.0.0.0 for all of them; a node of another machine faces its host (default: 127.0.0.1)`,
		},
		advertise: {
			type: "string",
			many: true,
			valueHint: "NAME",
			description: "Name or address by which others reach this machine; the first is printed",
		},
		tls: { type: "boolean", description: "TLS on loopback too; beyond loopback it is always on" },
		"tls-cert": {
			type: "string",
			value: path,
			valueHint: "FILE",
			description: "Your own certificate (PEM) for people and programs; agents go on with the cluster's",
		},
		"tls-key": {
			type: "string",
			value: path,
			valueHint: "FILE",
			description: "Its key (PEM, mode 0600)",
		},
		disk: {
			type: "string",
			value: path,
			many: true,
			valueHint: "PATH[=SIZE]",
			description: "A further disk for models, with the most it may hold",
		},
		dram: {
			type: "string",
			value: size,
			valueHint: "SIZE",
			description: "The most memory that models may take",
		},
		"sim-gpu": {
			type: "string",
			value: size,
			many: true,
			valueHint: "SIZE",
			description: "A simulated GPU with so much memory, taken from this machine's; for trying things out",
		},
		detach: { type: "boolean", description: "Run in the background; returns when the agent is ready" },
		"log-level": {
			type: "enum",
			options: ["debug", "info", "warn", "error"],
			default: "info",
			valueHint: "LEVEL",
			description: "debug, info, warn or error",
		},
	},
	examples: [
		["agent", "host and node on this machine"],
		["agent --host --detach", "a host alone, in the background"],
		["agent --bind 0.0.0.0 --advertise gpu1.lan", "open to other machines, over TLS"],
		["agent --join https://gpu1.lan:8000 --join-file join.txt", "a node of that host"],
		["agent --disk /mnt/nvme1=2TB --dram 64GB", "with a second disk and a limit on memory"],
		["agent --sim-gpu 8GB", "with a GPU that is not there, to try out what needs one"],
	],
	next: ["node list", "model download hf:ORG/NAME", "token create --join"],
	stray: strayOnAgent,
	async run(context, flags) {
		if (flags.detach) {
			const { startDetached } = await import("../detach.ts");
			return await startDetached(context, await agentOptions(context, flags));
		}
		const options = await agentOptions(context, flags);
		const { runAgent } = await import("../../agent/agent.ts");
		return await runAgent(options);
	},
});
