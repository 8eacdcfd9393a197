import { parseSecretName, parseSecretOrigin } from "../../schema/secret-name.ts";
import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { safeLine } from "../render/safe-text.ts";
import { readSecret } from "../secret-input.ts";
import type { ValueKind } from "../values.ts";

const name: ValueKind<string> = { parse: parseSecretName, wanted: "a name such as hf" };
const origin: ValueKind<string> = {
	parse: parseSecretOrigin,
	wanted: "an origin such as https://hub.example",
};

export const command = defineCommand({
	about:
		"Stores a secret that downloads need, such as a hub's token. It is asked for, or read from standard input, never taken from the command line. The host keeps it in a file of its own; a node asks for it when a download needs it, and it is sent to the origins it is bound to and nowhere else.",
	args: {
		name: {
			type: "positional",
			value: name,
			description: "Name of the secret; hf is for the configured hub",
		},
		origin: {
			type: "string",
			value: origin,
			many: true,
			valueHint: "URL",
			description: "Where it may be sent; repeatable (default for hf: the hub)",
		},
	},
	examples: [
		["secret set hf", "asks for the hub's token"],
		["secret set hf < token.txt", "from a file"],
		["secret set lab --origin https://models.lab.example", "for a web server of one's own"],
	],
	stray: () =>
		"The value is asked for or piped in, never from the command line: that is seen by others, and kept by shells. If it was real, make a new one.",
	next: ["secret list", "model download hf:ORG/NAME"],
	async run(context, { name: secretName, origin: origins }) {
		const { api, out, say } = context;
		const client = await api();
		const value = await readSecret(context, `Value of ${secretName}`);
		const body = await client.call("setSecret", {
			params: { secret_name: secretName },
			body: { value, ...(origins.length === 0 ? {} : { origins }) },
		});
		await out.show(body, { names: () => [body.name], human: () => "" });
		say.success(`Stored ${safeLine(body.name)}; it is sent to ${safeLine(body.origins.join(", "))} alone.`);
		return EXIT.done;
	},
});
