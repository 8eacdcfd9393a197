import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { agentTitle, fields } from "../render/fields.ts";
import { formatTime } from "../render/format.ts";

export const command = defineCommand({
	about:
		"Says which agent commands go to, and who you are there: the name and role of your token, and until when it is good.",
	args: {},
	examples: [["whoami", "as whom do I talk, and to whom?"]],
	next: ["context list"],
	async run(context) {
		const { out, style } = context;
		const body = await (await context.api()).call("whoami", {});
		const { url, context: from } = context.connection();
		await out.show(body, {
			names: () => [body.name],
			human: () =>
				fields(style, [
					["You are", body.name],
					["Role", body.role],
					["Token", body.token_id],
					["Expires", body.expires_at === null ? "never" : formatTime(body.expires_at)],
					["Agent", agentTitle(body.agent)],
					["Cluster", body.agent.cluster_id],
					["Address", url],
					["Context", from],
				]),
		});
		return EXIT.done;
	},
});
