import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { formatAge } from "../render/format.ts";
import { safeLine } from "../render/safe-text.ts";
import { renderTable } from "../render/table.ts";

export const command = defineCommand({
	about: "Lists the secrets for downloads: their names, and where each may be sent. Values are never shown.",
	args: {},
	examples: [["secret list", "names and origins"]],
	next: ["secret set hf", "secret remove NAME"],
	async run({ api, out, say, style, width, world }) {
		const body = await (await api()).call("listSecrets", {});
		const nowMs = world.clock.nowMs();
		await out.show(body, {
			names: () => body.secrets.map((secret) => secret.name),
			human: (wide) => {
				if (body.secrets.length === 0) return "";
				return renderTable(
					[{ title: "SECRET" }, { title: "SENT TO", shrink: true }, { title: "SET" }, { title: "BY" }],
					body.secrets.map((secret) => [
						safeLine(secret.name),
						safeLine(secret.origins.join(", ")),
						formatAge(secret.set_at, nowMs),
						safeLine(secret.set_by),
					]),
					{ width: wide ? undefined : width, style },
				);
			},
		});
		if (body.secrets.length === 0) {
			say.info("No secret is stored.");
			say.next(["secret set hf"]);
		}
		return EXIT.done;
	},
});
