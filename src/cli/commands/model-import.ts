import { stat } from "node:fs/promises";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { invalid } from "../../schema/errors.ts";
import { openBundleFile } from "../bundle-file.ts";
import { defineCommand } from "../command.ts";
import type { Context } from "../context.ts";
import { EXIT } from "../exit-codes.ts";
import { sendBundle } from "../send-bundle.ts";
import { WAIT_ARG, resultText, settle, type Telling } from "../submit.ts";
import { PACE_ARGS, paceFields } from "../transfer-flags.ts";
import { device, model, path } from "../values.ts";

export const command = defineCommand({
	about: `Takes in a model from a file that \`gswarm model export\` wrote. Name, revision and manifest are those in the file, and every file of it is checked against them.
A FILE of this machine is sent to the node, part by part: the same command goes on where an earlier one stopped, as long as its task is there. A web address, or with --on-node a file in an import folder of the node, the node reads itself.`,
	args: {
		file: { type: "positional", value: path, description: "The file, or its web address" },
		to: {
			type: "string",
			value: device,
			valueHint: "DEVICE",
			description: "Where it goes, e.g. node1:disk (default: the agent chooses)",
		},
		name: {
			type: "string",
			value: model,
			valueHint: "NAME",
			description: "Another name than the one in the file",
		},
		"on-node": { type: "boolean", description: "FILE is on the node, in one of its import folders" },
		...PACE_ARGS,
		wait: WAIT_ARG,
	},
	examples: [
		["model import /media/usb/tiny.tar --to node1:disk", "from this machine to node1"],
		["model import /srv/models/tiny.tar --to node1:disk --on-node", "from an import folder of node1"],
		["model import https://files.example/tiny.tar", "from a web server"],
	],
	next: ["model serve NAME"],
	async run(context, values) {
		const { file, to, name, wait } = values;
		const isUrl = /^[a-z][a-z0-9+.-]*:\/\//i.test(file);
		const common = { ...(to === undefined ? {} : { target_device: to }), ...paceFields(values) };
		if (!isUrl && !values["on-node"] && (await isFile(file)))
			return await send(context, { file, name, wait, common });
		if (!isUrl && !values["on-node"]) {
			throw invalid(
				"no_such_file",
				`There is no file ${resolve(file)} on this machine.`,
				{},
				"With --on-node the node reads it from one of its import folders.",
			);
		}
		const submitted = await (await context.api()).call("importModel", {
			body: {
				source_url: isUrl ? file : pathToFileURL(resolve(file)).href,
				...(name === undefined ? {} : { model_name: name }),
				...common,
			},
		});
		const telling = tellingOf(submitted.model_name, to ?? submitted.node);
		return await settle(context, submitted, { wait, telling });
	},
});

/** From this machine; whoever stops waiting stops sending, and the task waits a while for the same command. */
async function send(
	context: Context,
	{
		file,
		name,
		wait,
		common,
	}: {
		file: string;
		name: string | undefined;
		wait: boolean;
		common: { target_device?: string } & ReturnType<typeof paceFields>;
	},
): Promise<number> {
	if (!wait) {
		throw invalid(
			"usage",
			"This command sends the file itself, so it has to stay until the end.",
			{},
			"Without --no-wait, or with a file that the node can read: --on-node.",
		);
	}
	await using bundle = await openBundleFile(file);
	const api = await context.api();
	const { announced } = bundle;
	const { verify_checksum: _always, compression: _none, ...pace } = common;
	const body = { ...announced, ...pace, ...(name === undefined ? {} : { model_name: name }) };
	const submitted = await api.call("offerBundle", { body });
	const stop = new AbortController();
	const sending = sendBundle({ api, clock: context.world.clock }, submitted.task_id, bundle, stop.signal);
	// What went wrong with the file ends the task; the failure is told below.
	const failure = sending.then(
		() => undefined,
		async (error: unknown) => {
			await api.call("cancelTask", { params: { task_id: submitted.task_id } }).catch(() => {});
			return { error };
		},
	);
	try {
		const telling = tellingOf(body.model_name, common.target_device ?? submitted.node);
		const code = await settle(context, submitted, { wait: true, telling });
		stop.abort();
		const failed = await failure;
		if (failed !== undefined) throw failed.error;
		if (code === EXIT.interrupted || code === EXIT.timeout)
			context.say.info("Nothing more is sent now; the same command sends what is missing.");
		return code;
	} finally {
		stop.abort();
	}
}

function tellingOf(name: string, to: string): Telling {
	return {
		title: `${name} → ${to}`,
		done: (task) => `Imported ${name} to ${resultText(task, "device") ?? to}`,
		next: () => [`model serve ${name}`, `model show ${name}`],
	};
}

async function isFile(file: string): Promise<boolean> {
	const found = await stat(file).catch(() => undefined);
	return found?.isFile() === true;
}
