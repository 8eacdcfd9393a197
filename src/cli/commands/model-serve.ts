import { defineCommand } from "../command.ts";
import type { Context } from "../context.ts";
import { WAIT_ARG, resultText, settle } from "../submit.ts";
import { AFTER_ARG, paceFields } from "../transfer-flags.ts";
import { count, device, modelAt, port } from "../values.ts";
import { PRIORITY_NAMES } from "../words.ts";

export const command = defineCommand({
	about:
		"Starts a model server on a copy of a model and waits until it answers. It prints the address to ask, which any OpenAI client understands: /v1/chat/completions, /v1/completions, /v1/embeddings. It answers for every served model, by its name. NAME@REVISION serves one of several revisions, which answers to NAME@REVISION; `gswarm service switch` gives it the name.",
	args: {
		name: {
			type: "positional",
			value: modelAt,
			description: "Name of the model; NAME@REVISION for one of several revisions",
		},
		replace: {
			type: "boolean",
			description: "Give it the model's name as soon as it answers, and stop what had the name",
		},
		device: {
			type: "string",
			value: device,
			valueHint: "DEVICE",
			description: "Serve the copy on this device, e.g. node1:dram (default: the agent chooses)",
		},
		port: {
			type: "string",
			value: port,
			valueHint: "N",
			description: "An own port for it (default: the node's own address)",
		},
		ctx: { type: "string", value: count, valueHint: "N", description: "Longest context in tokens" },
		parallel: { type: "string", value: count, valueHint: "N", description: "Requests at the same time" },
		priority: {
			type: "enum",
			options: PRIORITY_NAMES,
			valueHint: "PRIORITY",
			description: "critical, high, normal or low",
		},
		after: AFTER_ARG,
		wait: WAIT_ARG,
	},
	examples: [
		["model serve acme/tiny", "serve it where the agent finds best"],
		["model serve acme/tiny@5f0c21", "another revision beside it, asked for by acme/tiny@5f0c21…"],
		["model serve acme/tiny --device node2:dram --ctx 4096 --parallel 4", "from the memory of node2"],
		["model serve acme/tiny --device node2:dram --after copy-acme-tiny-k3v9x2ma", "once that copy is there"],
	],
	next: ["service list", "service logs SERVICE", "service stop SERVICE"],
	async run(context, { name: of, replace, device: on, port: ownPort, ctx, parallel, priority, after, wait }) {
		const { name: modelName, revision } = of;
		// What requests ask for.
		const name = revision === undefined || replace ? modelName : `${modelName}@${revision}`;
		const api = await context.api();
		const submitted = await api.call("startService", {
			body: {
				model_name: modelName,
				...(revision === undefined ? {} : { revision }),
				...(replace ? { replace } : {}),
				...(on === undefined ? {} : { device: on }),
				...(ownPort === undefined ? {} : { port: ownPort }),
				...paceFields({ priority, after }),
				config: {
					...(ctx === undefined ? {} : { max_sequence_length: ctx }),
					...(parallel === undefined ? {} : { max_batch_size: parallel }),
				},
			},
		});
		return await settle(context, submitted, {
			wait,
			telling: {
				title: `${name} on ${on ?? submitted.node}`,
				done: (task) => `${name} is served on ${on ?? task.node}`,
				// A node's own address wants that node's token; the agent we talk to knows ours, and where the model is.
				data: (task) => (ownPort === undefined ? api.baseUrl : (resultText(task, "url") ?? api.baseUrl)),
				more: () => howToAsk(context, name),
				next: () => [`service status ${submitted.service_id}`, `service stop ${submitted.service_id}`],
			},
		});
	},
});

/** Lines for the shell that get an answer from it; the token is on no command line. */
function howToAsk({ say }: Context, name: string): string {
	const body = JSON.stringify({ model: name, messages: [{ role: "user", content: "Hello" }] });
	return [
		"Ask it, or point any OpenAI client at it with these variables:",
		`  eval "$(gswarm env${say.place})"`,
		`  echo "Authorization: Bearer $OPENAI_API_KEY" | curl $OPENAI_BASE_URL/chat/completions -H @- \\`,
		`    -H 'Content-Type: application/json' -d '${body}'`,
	].join("\n");
}
