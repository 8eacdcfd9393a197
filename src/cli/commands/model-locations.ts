import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { locationTable } from "../render/locations.ts";
import { model } from "../values.ts";

export const command = defineCommand({
	about:
		"Shows every copy of a model: the device, its status, its revision, and what the host believes of the node.",
	args: { name: { type: "positional", value: model, description: "Name of the model" } },
	examples: [
		["model locations acme/tiny", "where the copies are"],
		["model locations acme/tiny -o name", "the devices alone, for a script"],
	],
	next: ["model copy NAME --from DEVICE --to DEVICE", "model delete NAME --device DEVICE"],
	async run({ api, out, say, style, width }, { name }) {
		const body = await (await api()).call("listLocations", { params: { model_name: name } });
		await out.show(body, {
			names: () => body.locations.map(({ device }) => device),
			human: (wide) =>
				body.locations.length === 0
					? ""
					: locationTable(body.locations, { style, width: wide ? undefined : width, wide }),
		});
		if (body.locations.length === 0) {
			say.info("There is no copy of it yet.");
			say.next([`model download ${body.model_name}`]);
		}
		return EXIT.done;
	},
});
