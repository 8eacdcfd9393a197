import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { invalid } from "../../schema/errors.ts";
import { hintSentence } from "../render/preload.ts";
import { safeLine } from "../render/safe-text.ts";
import { device, duration, model } from "../values.ts";

export const command = defineCommand({
	about: `Says that a model will be used soon. A node that has it on a disk brings it into memory shortly before, where there is room; what is used least makes room, and nothing that is pinned or in use.
Anybody else who wants the memory goes first: a hint is no reservation.`,
	args: {
		name: { type: "positional", value: model, description: "Name of the model" },
		in: {
			type: "string",
			value: duration,
			valueHint: "DURATION",
			description: "When, from now, e.g. 2m (default: now)",
		},
		for: {
			type: "string",
			value: duration,
			valueHint: "DURATION",
			description: "How long it will be wanted from then on (default: 10m)",
		},
		device: {
			type: "string",
			value: device,
			valueHint: "DEVICE",
			description:
				"The memory that it is wanted in, e.g. node1:dram (default: of a node that has it on a disk)",
		},
		cancel: { type: "boolean", description: "Take back what was said of it" },
	},
	examples: [
		["model hint acme/tiny --in 2m", "it will be used in two minutes"],
		["model hint acme/tiny --in 8h --for 1h --device node1:dram", "for the batch of tonight"],
		["model hint acme/tiny --cancel", "it will not, after all"],
	],
	next: ["model preload --explain", "model serve NAME"],
	async run({ api, out, say, world }, { name, in: inMs, for: forMs, device: at, cancel }) {
		const params = { model_name: name };
		if (cancel) {
			if (inMs !== undefined || forMs !== undefined || at !== undefined)
				throw invalid("usage", "--cancel takes back a hint; it has no time and no device.");
			const body = await (await api()).call("dropHint", { params });
			await out.show(body, { names: () => [body.model_name], human: () => safeLine(body.model_name) });
			if (body.dropped) say.success(`${body.model_name} is no longer hinted.`);
			else say.info(`${body.model_name} was not hinted.`);
			return EXIT.done;
		}
		const body = await (await api()).call("hintModel", {
			params,
			body: {
				...(inMs === undefined ? {} : { in_s: inMs / 1000 }),
				...(forMs === undefined ? {} : { for_s: forMs / 1000 }),
				...(at === undefined ? {} : { device: at }),
			},
		});
		await out.show(body, {
			names: () => [body.model_name],
			human: () => hintSentence(body, world.clock.nowMs()),
		});
		return EXIT.done;
	},
});
