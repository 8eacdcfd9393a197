import { invalid } from "../../schema/errors.ts";
import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { keysAndValues } from "../key-value.ts";
import { safeLine } from "../render/safe-text.ts";
import { model } from "../values.ts";

export const command = defineCommand({
	about: `Says what a model is, where the guess made from its files is wrong, or where there is more to remember.
What a person says counts more than what was detected, also after the model is downloaded again; --type auto goes back to the guess.`,
	args: {
		name: { type: "positional", value: model, description: "Name of the model" },
		type: {
			type: "string",
			valueHint: "TYPE",
			description: "What it is, e.g. llm, embedding or vision; auto: what its files say",
		},
		meta: {
			type: "string",
			many: true,
			valueHint: "KEY=VALUE",
			description: "Something to remember about it; all notes that are not given are forgotten",
		},
	},
	examples: [
		["model describe tiny --type embedding", "it is no language model, whatever it looks like"],
		["model describe tiny --type auto", "what its files say"],
		["model describe tiny --meta team=search --meta precision=fp16", "notes, shown by model show"],
	],
	next: ["model show NAME"],
	async run({ api, out, say }, { name, type, meta }) {
		if (type === undefined && meta.length === 0) {
			throw invalid("usage", "There is nothing to say.", {}, "Give --type, --meta or both.");
		}
		const body = await (await api()).call("describeModel", {
			params: { model_name: name },
			body: {
				...(type === undefined ? {} : { model_type: type === "auto" ? null : type }),
				...(meta.length === 0 ? {} : { metadata: keysAndValues(meta) }),
			},
		});
		await out.show(body, { names: () => [body.model_name], human: () => safeLine(body.model_name) });
		say.success(`${body.model_name} is of type ${safeLine(body.model_type)}.`);
		return EXIT.done;
	},
});
