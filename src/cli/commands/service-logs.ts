import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { safeText } from "../render/safe-text.ts";
import { serviceIdFor } from "../service-id.ts";
import { count, service } from "../values.ts";

export const command = defineCommand({
	about:
		"Prints the last lines of the log of a service's engine: what to read when it does not start or answers badly.",
	args: {
		service: { type: "positional", value: service, description: "Id of the service, or the model it serves" },
		lines: {
			type: "string",
			value: count,
			default: "100",
			valueHint: "N",
			description: "How many lines, at most 10000",
		},
	},
	examples: [
		["service logs svc-tiny-node2-dram-910b", "the last 100 lines"],
		["service logs tiny --lines 1000", "more of them"],
	],
	next: ["service status SERVICE"],
	async run({ api, out, say }, { service: text, lines }) {
		const client = await api();
		const id = await serviceIdFor(client, text);
		const response = await client.open("serviceLogs", {
			params: { service_id: id },
			query: { lines },
		});
		const log = safeText(await response.text());
		out.text(log);
		if (log === "") say.info("The log is empty.");
		return EXIT.done;
	},
});
