import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { safeText } from "../render/safe-text.ts";
import { count, service } from "../values.ts";

export const command = defineCommand({
	about:
		"Prints the last lines of the log of a service's engine: what to read when it does not start or answers badly.",
	args: {
		service: { type: "positional", value: service, description: "Id of the service" },
		lines: {
			type: "string",
			value: count,
			default: "100",
			valueHint: "N",
			description: "How many lines, at most 10000",
		},
	},
	examples: [
		["service logs serve-tiny-k3v9x2ma", "the last 100 lines"],
		["service logs serve-tiny-k3v9x2ma --lines 1000", "more of them"],
	],
	next: ["service status SERVICE"],
	async run({ api, out, say }, { service: id, lines }) {
		const response = await (await api()).open("serviceLogs", {
			params: { service_id: id },
			query: { lines },
		});
		const text = safeText(await response.text());
		out.text(text);
		if (text === "") say.info("The log is empty.");
		return EXIT.done;
	},
});
