import { parseSecretName } from "../../schema/secret-name.ts";
import { confirm } from "../confirm.ts";
import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { safeLine } from "../render/safe-text.ts";
import type { ValueKind } from "../values.ts";

const name: ValueKind<string> = { parse: parseSecretName, wanted: "a name such as hf" };

export const command = defineCommand({
	about:
		"Forgets a secret. Downloads that run keep what they have; others go without it from now on. It stays valid where it came from: revoke it there if others may know it.",
	args: { name: { type: "positional", value: name, description: "Name of the secret" } },
	examples: [["secret remove hf", "forget the hub's token"]],
	next: ["secret list"],
	async run(context, { name: secretName }) {
		const { api, out, say } = context;
		if (!(await confirm(context, `Remove the secret ${secretName}?`))) {
			say.info("Nothing was removed.");
			return EXIT.failed;
		}
		const body = await (await api()).call("removeSecret", { params: { secret_name: secretName } });
		await out.show(body, { names: () => [body.name], human: () => "" });
		say.success(`Removed ${safeLine(body.name)}.`);
		return EXIT.done;
	},
});
