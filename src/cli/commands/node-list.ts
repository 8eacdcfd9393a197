import type { NodeDocument } from "../../schema/node.ts";
import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { formatBytes, formatDuration } from "../render/format.ts";
import { safeLine } from "../render/safe-text.ts";
import { paintStatus } from "../render/style.ts";
import { renderTable } from "../render/table.ts";

export const command = defineCommand({
	about:
		"Lists the machines of the cluster and those that wait to join it: whether they are alive, what is free on each of their devices, and what they do. A device is named NODE:DEVICE, e.g. node1:disk, node1:dram or node1:gpu0. Why a GPU cannot be used stands below the table.",
	args: {},
	examples: [
		["node list", "machines, devices, free space"],
		["node list -o wide", "with addresses and versions"],
	],
	next: ["model download hf:ORG/NAME --to NODE:disk", "token create --join"],
	async run({ api, out, say, style, width }) {
		const body = await (await api()).call("listNodes", {});
		await out.show(body, {
			names: () => body.nodes.map((node) => node.name),
			human: (wide) => {
				if (body.nodes.length === 0) return "";
				const rows = body.nodes.map((node) => [
					safeLine(node.name),
					paintStatus(style, safeLine(node.status)),
					freeOf(node),
					String(node.models),
					String(node.services),
					`${node.tasks.running} running, ${node.tasks.pending} waiting`,
					node.last_seen_s === null
						? node.status === "waiting"
							? "asks to join"
							: node.status === "alive"
								? "not yet"
								: "never"
						: `${formatDuration(node.last_seen_s)} ago`,
					...(wide
						? [
								safeLine([addressOf(node), ...(node.approved_addresses ?? [])].join(", ")),
								safeLine(node.asked_addresses?.join(", ") ?? "") || "-",
								safeLine(node.key_fingerprint ?? "") || "-",
								safeLine(node.version),
								String(node.protocol_version),
								String(node.cpus),
							]
						: []),
				]);
				return renderTable(
					[
						{ title: "NODE" },
						{ title: "STATUS" },
						{ title: "DEVICES (FREE)" },
						{ title: "MODELS", align: "right" },
						{ title: "SERVICES", align: "right" },
						{ title: "TASKS", shrink: true },
						{ title: "SEEN", shrink: true },
						...(wide
							? [
									{ title: "ADDRESS" },
									{ title: "ASKS FOR" },
									{ title: "KEY" },
									{ title: "VERSION" },
									{ title: "PROTOCOL" },
									{ title: "CPUS" },
								]
							: []),
					],
					rows,
					{ width: wide ? undefined : width, style },
				);
			},
		});
		if (body.nodes.length === 0) {
			say.info("No node has joined yet.");
			say.next(["token create --join"]);
		}
		for (const { name, gpus = [] } of body.nodes) {
			for (const { device, product, problem } of gpus)
				if (problem !== null)
					say.info(safeLine(`${name}:${device} (${product}) cannot be used: ${problem}.`));
		}
		const waiting = body.nodes.filter((node) => node.status === "waiting");
		if (waiting.length > 0)
			say.next(waiting.slice(0, 3).map((node) => `node approve ${safeLine(node.name)}`));
		return EXIT.done;
	},
});

/** One that waits has no port yet. */
function addressOf({ address, api_port }: NodeDocument): string {
	return api_port === 0 ? address : `${address.includes(":") ? `[${address}]` : address}:${api_port}`;
}

/** `disk 120 GB, dram 8 GB`. */
function freeOf({ tiers }: NodeDocument): string {
	const parts = Object.entries(tiers).map(
		([tier, { available, simulated }]) =>
			`${tier} ${formatBytes(available)}${simulated === true ? " (simulated)" : ""}`,
	);
	return safeLine(parts.join(", ")) || "-";
}
