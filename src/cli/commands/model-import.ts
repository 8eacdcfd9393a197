import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { defineCommand } from "../command.ts";
import { WAIT_ARG, resultText, settle } from "../submit.ts";
import { PACE_ARGS, paceFields } from "../transfer-flags.ts";
import { device, model, path } from "../values.ts";

export const command = defineCommand({
	about: `Takes in a model from a file that \`gswarm model export\` wrote. Name, revision and manifest are those in the file, and every file of it is checked against them; one that was cut off goes on where it was.
The node reads FILE itself: it has to lie in one of its import folders, or be a web address.`,
	args: {
		file: { type: "positional", value: path, description: "The file, or its web address" },
		to: {
			type: "string",
			value: device,
			valueHint: "DEVICE",
			description: "Where it goes, e.g. node1:disk (default: the agent chooses)",
		},
		name: {
			type: "string",
			value: model,
			valueHint: "NAME",
			description: "Another name than the one in the file",
		},
		...PACE_ARGS,
		wait: WAIT_ARG,
	},
	examples: [
		["model import /srv/models/tiny.tar --to node1:disk", "from an import folder of node1"],
		["model import https://files.example/tiny.tar", "from a web server"],
	],
	next: ["model serve NAME"],
	async run(context, values) {
		const { file, to, name } = values;
		const url = /^[a-z][a-z0-9+.-]*:\/\//i.test(file) ? file : pathToFileURL(resolve(file)).href;
		const submitted = await (await context.api()).call("importModel", {
			body: {
				source_url: url,
				...(to === undefined ? {} : { target_device: to }),
				...(name === undefined ? {} : { model_name: name }),
				...paceFields(values),
			},
		});
		const { model_name: imported } = submitted;
		return await settle(context, submitted, {
			wait: values.wait,
			telling: {
				title: `${imported} → ${to ?? submitted.node}`,
				done: (task) => `Imported ${imported} to ${resultText(task, "device") ?? to ?? task.node}`,
				next: () => [`model serve ${imported}`, `model show ${imported}`],
			},
		});
	},
});
