import { defineCommand } from "../command.ts";
import { WAIT_ARG, settle } from "../submit.ts";
import { serviceIdFor } from "../service-id.ts";
import { service } from "../values.ts";

export const command = defineCommand({
	about:
		"Stops a service: it takes no new requests, those in flight finish, then the engine ends and its memory is free. The model's copy stays.",
	args: {
		service: { type: "positional", value: service, description: "Id of the service, or the model it serves" },
		wait: WAIT_ARG,
	},
	examples: [["service stop svc-tiny-node2-dram-910b", "stop one service"]],
	next: ["service list", "model delete NAME --device DEVICE"],
	async run(context, { service: text, wait }) {
		const api = await context.api();
		const id = await serviceIdFor(api, text);
		const submitted = await api.call("stopService", { params: { service_id: id } });
		return await settle(context, submitted, {
			wait,
			telling: { title: id, done: () => `Stopped ${id}`, next: () => ["service list"] },
		});
	},
});
