import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { formatRate } from "../render/format.ts";
import { safeLine } from "../render/safe-text.ts";
import { node, rateOrNone } from "../values.ts";

export const command = defineCommand({
	about:
		"Shows or changes how fast a node may receive (--down) and send (--up) parts of models, also while it does; `all` stands for all nodes together, each of which has a share of that. It holds after a restart, too, until it is changed again or the agent's config.yaml says something else than it did.",
	args: {
		node: { type: "positional", value: node, description: "Name of the node, or all" },
		down: {
			type: "string",
			value: rateOrNone,
			valueHint: "RATE",
			description: "Receive at most this, or none",
		},
		up: { type: "string", value: rateOrNone, valueHint: "RATE", description: "Send at most this, or none" },
	},
	examples: [
		["node limit node1 --down 200MB/s", "leave room for what else the machine does"],
		["node limit all --down 1GB/s", "for all nodes together"],
		["node limit node1 --down none", "no limit of its own any more"],
	],
	next: ["node list"],
	async run({ api, out, say }, { node: name, down, up }) {
		const params = { node: name };
		const isChange = down !== undefined || up !== undefined;
		const body = isChange
			? await (await api()).call("setNodeBandwidth", {
					params,
					body: { ...(down === undefined ? {} : { down }), ...(up === undefined ? {} : { up }) },
				})
			: await (await api()).call("getNodeBandwidth", { params });
		await out.show(body, { names: () => [body.node], human: () => "" });
		const told = (rate: number | null, share: number | null): string =>
			(rate === null ? "as fast as it goes" : `at most ${formatRate(rate)}`) +
			(share === null ? "" : ` (its share of the cluster's limit: ${formatRate(share)})`);
		say.success(`${safeLine(body.node)} receives ${told(body.down, body.share_down)}.`);
		say.success(`${safeLine(body.node)} sends ${told(body.up, body.share_up)}.`);
		return EXIT.done;
	},
});
