import { defineCommand } from "../command.ts";
import { WAIT_ARG, resultText, settle } from "../submit.ts";
import { PACE_ARGS, paceFields } from "../transfer-flags.ts";
import { type ValueKind, device, model } from "../values.ts";

const bucket: ValueKind<string> = {
	parse: (text) => (/^(s3|gs):\/\/[^/]/i.test(text) ? text : undefined),
	wanted: "a place such as s3://bucket/prefix",
};

export const command = defineCommand({
	about: `Uploads a copy of a model to a bucket, in parts, with its manifest beside it, so that a download from there is checked by sha256. An upload that was cut off goes on with what the bucket has already; objects of others below the prefix are never overwritten.
The node that has the copy needs credentials for the bucket.`,
	args: {
		name: { type: "positional", value: model, description: "Name of the model" },
		target: {
			type: "positional",
			value: bucket,
			description: "Where it goes: s3://BUCKET/PREFIX or gs://BUCKET/PREFIX",
		},
		from: {
			type: "string",
			value: device,
			valueHint: "DEVICE",
			description: "The copy to upload (default: one that is reachable)",
		},
		overwrite: { type: "boolean", description: "Replace objects with the names of the model's files" },
		...PACE_ARGS,
		wait: WAIT_ARG,
	},
	examples: [
		["model upload acme/tiny s3://models/acme/tiny", "to a bucket, under this prefix"],
		[
			"model upload acme/big gs://backup/big --from node1:disk --bandwidth 50MB/s --no-wait",
			"gently, in the background",
		],
	],
	next: ["model download s3://BUCKET/PREFIX"],
	async run(context, values) {
		const { name, target, from, overwrite } = values;
		const api = await context.api();
		const submitted = await api.call("uploadModel", {
			params: { model_name: name },
			body: {
				target_url: target,
				...(from === undefined ? {} : { source_device: from }),
				...(overwrite ? { overwrite } : {}),
				...paceFields(values),
			},
		});
		return await settle(context, submitted, {
			wait: values.wait,
			telling: {
				title: `${name} → ${target}`,
				done: (task) => `Uploaded ${name} to ${resultText(task, "target_url") ?? target}`,
				next: () => [`model show ${target}`],
			},
		});
	},
});
