import { defineCommand } from "../command.ts";
import { WAIT_ARG, settle } from "../submit.ts";
import { device, model, revision } from "../values.ts";

export const command = defineCommand({
	about:
		"Lets a served name mean another revision of its model, without a gap: the revision is served beside the one that has the name, gets the name as soon as it answers, and the other finishes what it has begun and stops. When the new one does not come up, the old one goes on. For a while both need memory.",
	args: {
		name: { type: "positional", value: model, description: "The served name" },
		to: {
			type: "string",
			required: true,
			value: revision,
			valueHint: "REV",
			description: "The revision, or the beginning of it; it has to be on the device already",
		},
		device: {
			type: "string",
			value: device,
			valueHint: "DEVICE",
			description: "Only on this device (default: wherever the name is served)",
		},
		wait: WAIT_ARG,
	},
	examples: [
		["service switch acme/tiny --to 5f0c21", "everywhere"],
		["service switch acme/tiny --to 5f0c21 --device node1:disk", "on one device"],
	],
	next: ["service list", "model show NAME"],
	async run(context, { name, to, device: on, wait }) {
		const submitted = await (await context.api()).call("startService", {
			body: {
				model_name: name,
				revision: to,
				replace: true,
				...(on === undefined ? {} : { device: on }),
				config: {},
			},
		});
		return await settle(context, submitted, {
			wait,
			telling: {
				title: `${name} → ${to}`,
				done: () => `${name} is served from the revision ${to}`,
				next: () => ["service list", `model show ${name}`],
			},
		});
	},
});
