import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { serviceDetail } from "../render/services.ts";
import { service } from "../values.ts";

export const command = defineCommand({
	about: "Shows one service: its model, device, address, state and counters.",
	args: { service: { type: "positional", value: service, description: "Id of the service" } },
	examples: [["service status serve-tiny-k3v9x2ma", "one service"]],
	next: ["service logs SERVICE", "service stop SERVICE"],
	async run({ api, out, style }, { service: id }) {
		const body = await (await api()).call("serviceStatus", { params: { service_id: id } });
		await out.show(body, { names: () => [body.service_id], human: () => serviceDetail(body, style) });
		return EXIT.done;
	},
});
