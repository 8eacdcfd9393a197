import { confirm } from "../confirm.ts";
import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { safeLine } from "../render/safe-text.ts";
import { token } from "../values.ts";

export const command = defineCommand({
	about:
		"Ends a token or a join string: the next request with it is refused, on the host at once and on the nodes when this command returns. A node that could not be told is named; it lets the token read and use models for ten minutes at most. On a terminal it asks first.",
	args: { token: { type: "positional", value: token, description: "Id or name of the token" } },
	examples: [
		["token revoke ann-laptop", "a machine was lost"],
		["token revoke k3v9x2ma --yes", "by its id, without a question"],
	],
	next: ["token list", "audit"],
	async run(context, { token: idOrName }) {
		if (!(await confirm(context, `Revoke the token ${idOrName}?`))) {
			context.say.info("Nothing was revoked.");
			return EXIT.failed;
		}
		const body = await (await context.api()).call("revokeToken", { params: { token_id: idOrName } });
		await context.out.show(body, { names: () => [body.token_id], human: () => safeLine(body.token_id) });
		context.say.success(`Revoked ${safeLine(body.name ?? body.token_id)}.`);
		const { nodes_not_reached: away } = body;
		if (away.length > 0) {
			context.say.warn(
				`Could not tell ${away.map(safeLine).join(", ")}: there it ends within 10 minutes, and after one only reads and uses models.`,
			);
		}
		return EXIT.done;
	},
});
