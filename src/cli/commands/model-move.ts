import type { TaskDocument } from "../../schema/task.ts";
import { defineCommand } from "../command.ts";
import { fromAndTo } from "../from-and-to.ts";
import { WAIT_ARG, resultText, settle } from "../submit.ts";
import { COMPRESSION_ARG, PACE_ARGS, VERIFY_ARG, paceFields, placeArgs } from "../transfer-flags.ts";

export const command = defineCommand({
	about:
		"Moves a model from one device to another: copies it, checks the copy, and only then removes the source. The source stays when it is in use, or when it is the last copy that would outlive a restart (a copy in memory or on a GPU does not).\nTo a GPU (node1:gpu0) a model is loaded from the files on its node, read back and checked; from a GPU it is released once its files are on the target.",
	args: {
		...placeArgs("move"),
		"keep-source": { type: "boolean", description: "Leave the source where it is" },
		...PACE_ARGS,
		compression: COMPRESSION_ARG,
		verify: VERIFY_ARG,
		wait: WAIT_ARG,
	},
	examples: [
		["model move acme/tiny --from node1:disk --to node2:disk", "to another node"],
		["model move acme/tiny node2:disk node2:dram", "into memory; the last copy on a disk stays"],
		["model move acme/tiny node1:disk node1:gpu0 --keep-source", "loaded to a GPU"],
	],
	next: ["model serve NAME --device DEVICE", "model locations NAME"],
	async run(context, values) {
		const { name } = values;
		const { from, to } = fromAndTo("gswarm model move", values);
		const submitted = await (await context.api()).call("moveModel", {
			params: { model_name: name },
			body: {
				source_device: from,
				target_device: to,
				keep_source: values["keep-source"],
				...paceFields(values),
			},
		});
		return await settle(context, submitted, {
			wait: values.wait,
			telling: {
				title: `${name} → ${to}`,
				done: (task) => `Moved ${name} to ${resultText(task, "device") ?? to}${whySourceStayed(task, from)}`,
				next: () => [`model serve ${name} --device ${to}`, `model locations ${name}`],
			},
		});
	},
});

function whySourceStayed(task: TaskDocument, from: string): string {
	switch (resultText(task, "source_kept")) {
		case undefined:
			return "";
		case "last_durable_copy":
			return `; the copy on ${from} stays, it is the last one on a disk`;
		case "in_use":
			return `; the copy on ${from} stays, it is in use`;
		case "last_file_copy":
			return `; the copy on ${from} stays, a GPU cannot give it back`;
		default:
			return `; the copy on ${from} stays`;
	}
}
