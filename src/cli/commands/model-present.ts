import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { fields } from "../render/fields.ts";
import { safeLine } from "../render/safe-text.ts";
import { shellWord } from "../render/shell-word.ts";
import { device, modelAt, path } from "../values.ts";

export const command = defineCommand({
	about: `Shows a copy in the layout of Hugging Face's cache, so that a program on its node (vLLM, transformers, …) finds it there with HF_HUB_OFFLINE=1 instead of downloading it. It is made of links and takes no room; it goes with the copy, or with --remove.
It prints the variables for that program, which runs on the node as the agent's user: eval "$(gswarm model present NAME)" sets them in a shell.`,
	args: {
		name: { type: "positional", value: modelAt, description: "Name of the model, or NAME@REVISION" },
		device: {
			type: "string",
			value: device,
			valueHint: "DEVICE",
			description: "The copy on this device (default: one that is there)",
		},
		"cache-dir": {
			type: "string",
			value: path,
			valueHint: "DIR",
			description:
				"Show it there: a directory of the agent's user alone in an import folder of the node (default: hf-cache in its data directory)",
		},
		repository: {
			type: "string",
			valueHint: "ORG/NAME",
			description: "What programs ask for (default: where it came from, or its name)",
		},
		ref: { type: "string", valueHint: "REF", description: "The branch that leads to it (default: main)" },
		remove: { type: "boolean", description: "Show it no longer" },
	},
	examples: [
		["model present acme/tiny", "as the repository that it came from"],

		["model present acme/tiny@5f0c21 --ref v2", "another revision beside it"],
		["model present acme/tiny --remove", "no longer"],
	],
	next: ["model show NAME"],
	async run(
		{ api, out, say, style },
		{ name: of, device: on, "cache-dir": cacheDir, repository, ref, remove },
	) {
		const client = await api();
		const params = { model_name: of.name };
		const where = {
			...(on === undefined ? {} : { device: on }),
			...(of.revision === undefined ? {} : { revision: of.revision }),
		};
		if (remove) {
			const body = await client.call("withdrawModel", { params, query: where });
			await out.show(body, { names: () => [of.name], human: () => "" });
			if (body.withdrawn === 0) say.info(`${of.name} on ${safeLine(body.device)} was shown nowhere.`);
			else say.success(`${of.name} on ${safeLine(body.device)} is shown no longer.`);
			return EXIT.done;
		}
		const body = await client.call("presentModel", {
			params,
			body: {
				...where,
				...(cacheDir === undefined ? {} : { cache_dir: cacheDir }),
				...(repository === undefined ? {} : { repository }),
				...(ref === undefined ? {} : { ref }),
			},
		});
		await out.show(body, {
			names: () => [body.snapshot],
			human: () =>
				Object.entries(body.environment)
					.map(([key, value]) => `export ${key}=${shellWord(value)}`)
					.join("\n"),
		});
		say.success(`${of.name} is shown on ${safeLine(body.node)} as ${safeLine(body.repository)}.`);
		say.info(
			fields(style, [
				["Revision", body.revision],
				["Branch", body.ref],
				["Files", body.snapshot],
			]),
		);
		say.next([`model present ${of.name} --remove`]);
		return EXIT.done;
	},
});
