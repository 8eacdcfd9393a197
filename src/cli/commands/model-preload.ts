import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { invalid } from "../../schema/errors.ts";
import { hintSentence, planText } from "../render/preload.ts";
import { model, node } from "../values.ts";

export const command = defineCommand({
	about: `Shows which models the nodes bring into memory ahead of their use, and why: those that somebody hinted, and those that were used at this hour before. For each model: how many uses are expected within the hour, when it was used last, and what becomes of it.
Given a name, that model is brought now: the same as a hint that begins at once.`,
	args: {
		name: {
			type: "positional",
			value: model,
			required: false,
			description: "A model to bring into memory now",
		},
		explain: { type: "boolean", description: "Say why of every model, also of those that stay on disk" },
		node: { type: "string", value: node, valueHint: "NODE", description: "Of this node alone" },
	},
	examples: [
		["model preload", "what is in memory or will be, ahead of its use"],
		["model preload --explain", "and why the others are not"],
		["model preload acme/tiny", "bring it now"],
	],
	next: ["model hint NAME --in 2m"],
	async run({ api, out, say, style, width, world }, { name, explain, node: only }) {
		const nowMs = world.clock.nowMs();
		if (name !== undefined && !explain) {
			const body = await (await api()).call("hintModel", {
				params: { model_name: name },
				body: { in_s: 0, ...(only === undefined ? {} : { device: `${only}:dram` }) },
			});
			await out.show(body, { names: () => [body.model_name], human: () => hintSentence(body, nowMs) });
			return EXIT.done;
		}
		const all = await (await api()).call("getPreload", { query: only === undefined ? {} : { node: only } });
		const plans = all.plans.map((plan) => ({
			...plan,
			models: plan.models.filter(
				(one) =>
					(explain || one.hinted || one.decision !== "no") && (name === undefined || one.model_name === name),
			),
		}));
		if (name !== undefined && plans.every(({ models }) => models.length === 0))
			throw invalid(
				"usage",
				`No node has ${name} on a disk.`,
				{},
				`\`gswarm model locations ${name}\` shows where it is.`,
			);
		await out.show(
			{ plans },
			{
				names: () => plans.flatMap(({ models }) => models.map((one) => one.model_name)),
				human: (wide) => planText(plans, { style, width: wide ? undefined : width, nowMs }),
			},
		);
		if (!explain && plans.every(({ models }) => models.length === 0)) {
			say.info("Nothing is brought into memory ahead of its use now.");
			say.next(["model hint NAME --in 2m", "model preload --explain"]);
		}
		return EXIT.done;
	},
});
