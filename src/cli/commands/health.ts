import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { agentTitle, fields } from "../render/fields.ts";
import { formatDuration } from "../render/format.ts";
import { safeLine } from "../render/safe-text.ts";
import { paintStatus } from "../render/style.ts";

export const command = defineCommand({
	about:
		"Asks the agent how it is: ok, or degraded with the reasons. Exits 0 only when all is well, 6 when no agent answers.",
	args: {},
	examples: [
		["health", "is everything well?"],
		["health --json", "the same for a monitor"],
	],
	next: ["node list", "agent status"],
	async run({ api, out, style }) {
		const body = await (await api()).call("health", {});
		const { details } = body;
		await out.show(body, {
			names: () => [body.status],
			human: () =>
				fields(style, [
					["Status", { painted: paintStatus(style, safeLine(body.status)) }],
					["Agent", details === undefined ? null : agentTitle(details)],
					["Version", details?.version],
					["Up for", details === undefined ? null : formatDuration(details.uptime_s)],
					["Cluster", details?.cluster_id],
					...Object.entries(details?.nodes ?? {}).map(
						([name, status]) => [`Node ${name}`, { painted: paintStatus(style, safeLine(status)) }] as const,
					),
					...(details?.problems ?? []).map((problem) => ["Problem", problem] as const),
				]),
		});
		return body.status === "ok" ? EXIT.done : EXIT.failed;
	},
});
