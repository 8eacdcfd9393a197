import { defineCommand } from "../command.ts";
import { WAIT_ARG, resultText, settle } from "../submit.ts";
import { fromAndTo } from "../from-and-to.ts";
import { device, model, rate } from "../values.ts";
import { PRIORITY_NAMES } from "../words.ts";

export const command = defineCommand({
	about:
		"Copies a model from one device to another: to another node, or between the disk and the memory of one. The receiver pulls and checks every part; the source stays as it is.",
	args: {
		name: { type: "positional", value: model, description: "Name of the model" },
		source: {
			type: "positional",
			required: false,
			value: device,
			description: "Device to copy from (or --from)",
		},
		target: {
			type: "positional",
			required: false,
			value: device,
			description: "Device to copy to (or --to)",
		},
		from: { type: "string", value: device, valueHint: "DEVICE", description: "Device to copy from" },
		to: { type: "string", value: device, valueHint: "DEVICE", description: "Device to copy to" },
		priority: {
			type: "enum",
			options: PRIORITY_NAMES,
			valueHint: "PRIORITY",
			description: "critical, high, normal or low",
		},
		bandwidth: {
			type: "string",
			value: rate,
			valueHint: "RATE",
			description: "No faster than this, e.g. 100MB/s",
		},
		verify: {
			type: "boolean",
			description: "Check the sha256 of every file too",
			negativeDescription: "Check the parts' digests only",
		},
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
				...(values.priority === undefined ? {} : { priority: values.priority }),
				...(values.verify === undefined ? {} : { verify_checksum: values.verify }),
				...(values.bandwidth === undefined ? {} : { bandwidth_limit: values.bandwidth }),
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
