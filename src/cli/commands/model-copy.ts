import { defineCommand } from "../command.ts";
import { WAIT_ARG, resultText, settle } from "../submit.ts";
import { fromAndTo } from "../from-and-to.ts";
import { PACE_ARGS, VERIFY_ARG, paceFields, placeArgs } from "../transfer-flags.ts";

export const command = defineCommand({
	about:
		"Copies a model from one device to another: to another node, or between the disk and the memory of one. The receiver pulls and checks every part; the source stays as it is.",
	args: {
		...placeArgs("copy"),
		...PACE_ARGS,
		verify: VERIFY_ARG,
		wait: WAIT_ARG,
	},
	examples: [
		["model copy acme/tiny --from node1:disk --to node2:disk", "to another node"],
		["model copy acme/tiny node1:disk node1:dram", "into the memory of the same node"],
	],
	next: ["model serve NAME --device DEVICE", "model locations NAME"],
	async run(context, values) {
		const { name } = values;
		const { from, to } = fromAndTo("gswarm model copy", values);
		const submitted = await (await context.api()).call("copyModel", {
			params: { model_name: name },
			body: {
				source_device: from,
				target_device: to,
				...paceFields(values),
			},
		});
		return await settle(context, submitted, {
			wait: values.wait,
			telling: {
				title: `${name} → ${to}`,
				done: (task) => `Copied ${name} to ${resultText(task, "device") ?? to}`,
				next: () => [`model serve ${name} --device ${to}`, `model locations ${name}`],
			},
		});
	},
});
