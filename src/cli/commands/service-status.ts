import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { serviceDetail } from "../render/services.ts";
import { serviceIdFor } from "../service-id.ts";
import { service } from "../values.ts";

export const command = defineCommand({
	about: "Shows one service: its model, device, address, state and counters.",
	args: {
		service: { type: "positional", value: service, description: "Id of the service, or the model it serves" },
	},
	examples: [["service status svc-tiny-node2-dram-910b", "one service"]],
	next: ["service logs SERVICE", "service stop SERVICE"],
	async run({ api, out, style }, { service: text }) {
		const client = await api();
		const id = await serviceIdFor(client, text);
		const body = await client.call("serviceStatus", { params: { service_id: id } });
		await out.show(body, { names: () => [body.service_id], human: () => serviceDetail(body, style) });
		return EXIT.done;
	},
});
