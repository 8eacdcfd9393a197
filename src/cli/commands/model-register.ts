import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { keysAndValues } from "../key-value.ts";
import { safeLine } from "../render/safe-text.ts";
import { model, size } from "../values.ts";

export const command = defineCommand({
	about:
		"Registers a model: from then on its name stands for its source. Nothing is downloaded. `gswarm model download NAME` then needs no --source.",
	args: {
		name: { type: "positional", value: model, description: "Name to give it" },
		source: {
			type: "string",
			valueHint: "URI",
			description: "Where it comes from: hf:org/name, https://host/model.gguf",
		},
		type: {
			type: "string",
			valueHint: "TYPE",
			description: "What it is, e.g. llm or embedding; left out: what its files say",
		},
		size: {
			type: "string",
			value: size,
			valueHint: "SIZE",
			description: "Its size, when it is known before the download",
		},
		meta: {
			type: "string",
			many: true,
			valueHint: "KEY=VALUE",
			description: "Something to remember about it",
		},
	},
	examples: [
		["model register tiny --source hf:acme/tiny", "a short name for a Hugging Face repository"],
		[
			"model register tiny --source https://example.org/tiny.gguf --type llm --meta team=search",
			"a file, with notes",
		],
	],
	next: ["model download NAME", "model describe NAME --type TYPE"],
	async run({ api, out, say }, { name, source, type, size: sizeBytes, meta }) {
		const body = await (await api()).call("registerModel", {
			body: {
				model_name: name,
				...(source === undefined ? {} : { source_url: source }),
				...(type === undefined ? {} : { model_type: type }),
				...(sizeBytes === undefined ? {} : { model_size: sizeBytes }),
				...(meta.length === 0 ? {} : { metadata: keysAndValues(meta) }),
			},
		});
		await out.show(body, { names: () => [body.model_name], human: () => safeLine(body.model_name) });
		say.success(`Registered ${body.model_name}.`);
		say.next([body.source_url === null ? `model download ${name} --source URI` : `model download ${name}`]);
		return EXIT.done;
	},
});
