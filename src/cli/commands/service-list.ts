import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { serviceTable } from "../render/services.ts";

export const command = defineCommand({
	about:
		"Lists the models that are served, where, at which address, and how many requests they have answered.",
	args: {},
	examples: [
		["service list", "everything that is served"],
		["service list -o wide", "with engines and their processes"],
	],
	next: ["service logs SERVICE", "service stop SERVICE"],
	async run({ api, out, say, style, width }) {
		const body = await (await api()).call("listServices", {});
		await out.show(body, {
			names: () => body.services.map((service) => service.service_id),
			human: (wide) =>
				body.services.length === 0 ? "" : serviceTable(body.services, { style, width, wide }),
		});
		if (body.services.length === 0) {
			say.info("Nothing is served.");
			say.next(["model list", "model serve NAME"]);
		}
		return EXIT.done;
	},
});
