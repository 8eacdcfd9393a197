import { defineCommand } from "../command.ts";
import { WAIT_ARG, resultText, settle } from "../submit.ts";
import { fromAndTo } from "../from-and-to.ts";
import { isMany, listed, transferMany } from "../transfer-many.ts";
import { COMPRESSION_ARG, PACE_ARGS, VERIFY_ARG, paceFields, placeArgs } from "../transfer-flags.ts";
import { devices, models } from "../values.ts";

export const command = defineCommand({
	about:
		"Copies a model from one device to another: to another node, or between the disk, the memory and the GPUs of one. The receiver pulls and checks every part; the source stays as it is.\nSeveral devices (--to node1:disk,node2:disk, or --to all:disk for the disk of every node) get it in about the time of one: they give each other what they have.",
	args: {
		...placeArgs("copy"),
		name: { type: "positional", value: models, description: "Name of the model, or several with commas" },
		source: {
			type: "positional",
			required: false,
			value: devices,
			description: "Device to copy from (or --from)",
		},
		target: {
			type: "positional",
			required: false,
			value: devices,
			description: "Device or devices to copy to (or --to)",
		},
		to: {
			type: "string",
			value: devices,
			valueHint: "DEVICE",
			description: "Device to copy to, or several with commas",
		},
		...PACE_ARGS,
		compression: COMPRESSION_ARG,
		verify: VERIFY_ARG,
		"dry-run": { type: "boolean", description: "Print what would be done, and do nothing" },
		wait: WAIT_ARG,
	},
	examples: [
		["model copy acme/tiny --from node1:disk --to node2:disk", "to another node"],
		["model copy acme/tiny node1:disk node1:dram", "into the memory of the same node"],
		["model copy acme/tiny node1:disk node2:gpu0", "to a GPU of another node, by way of its disk"],
		["model copy acme/big --to all:disk", "to every node, from wherever it is"],
		[
			"model copy acme/tiny node1:disk node2:disk --after download-acme-tiny-k3v9x2ma --no-wait",
			"once that download has brought it",
		],
	],
	next: ["model serve NAME --device DEVICE", "model locations NAME"],
	async run(context, values) {
		const { name } = values;
		const words = [values.source, values.target].filter((word) => word !== undefined);
		const isAnywhere = values.from === undefined && values.to !== undefined && words.length === 0;
		const ends = isAnywhere ? { ...values, from: "" } : values;
		const { from, to } = fromAndTo("gswarm model copy", ends);
		const [names, targets] = [listed(name), listed(to)];
		if (isMany(names, targets) || isAnywhere || values["dry-run"]) {
			const body = {
				kind: "copy" as const,
				models: names.map((one) => ({
					model_name: one,
					...(from === "" ? {} : { source_device: from }),
				})),
				target_devices: targets,
				...paceFields(values),
			};
			return await transferMany(context, body, {
				wait: values.wait,
				done: "Copied",
				dryRun: values["dry-run"],
			});
		}
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
