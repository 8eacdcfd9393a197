import { GswarmError, invalid } from "../../schema/errors.ts";
import { type NamedSource, hubSourceOf, parseNamedSource } from "../../schema/source-name.ts";
import { defineCommand } from "../command.ts";
import { WAIT_ARG, resultText, settle } from "../submit.ts";
import type { ModelName } from "../../schema/names.ts";
import type { Context } from "../context.ts";
import { EXIT } from "../exit-codes.ts";
import { formatBytes } from "../render/format.ts";
import { fileTable, planSummary, sourceSummary } from "../render/source-info.ts";
import { FILE_CHOICE_ARGS, fileChoiceFields, PACE_ARGS, paceFields } from "../transfer-flags.ts";
import { isMany, listed, transferMany } from "../transfer-many.ts";
import { type ValueKind, devices, revision } from "../values.ts";

/** A URL may have a comma in it, so that several are only told apart where none is. */
const namesOrSources: ValueKind<NamedSource[]> = {
	parse(text) {
		const words = text.includes("://") ? [text] : listed(text);
		const named = words.map((word) => parseNamedSource(word)).filter((one) => one !== undefined);
		return named.length === 0 || named.length < words.length ? undefined : named;
	},
	wanted: "a model name or a source",
	live: "models",
};

export const command = defineCommand({
	about: `Downloads a model to a device, in parallel, and checks every byte against the digests of its source. A cut connection or a restarted agent resumes where it was; the model is visible as ready only when it is whole.
NAME is a registered name, ORG/NAME of Hugging Face, or a source such as hf:ORG/NAME@REVISION, ORG/NAME:Q4_K_M or https://host/model.gguf, which then names the model.`,
	args: {
		name: {
			type: "positional",
			value: namesOrSources,
			many: true,
			description: "Name of the model, or its source; several as words or with commas",
		},
		source: {
			type: "string",
			valueHint: "URI",
			description: "Where it comes from, when NAME does not say so",
		},
		to: {
			type: "string",
			value: devices,
			valueHint: "DEVICE",
			description: "Where it goes, e.g. node1:disk; several with commas (default: the agent chooses)",
		},
		revision: {
			type: "string",
			value: revision,
			valueHint: "REV",
			description: "Branch, tag or commit; several revisions of a model stand side by side",
		},
		...FILE_CHOICE_ARGS,
		type: { type: "string", valueHint: "TYPE", description: "What it is, e.g. llm" },
		...PACE_ARGS,
		verify: {
			type: "boolean",
			description: "Insist on digests of the source (or do without); left out: check when it has them",
			negativeDescription: "Do without digests of the source",
		},
		"dry-run": {
			type: "boolean",
			description: "Print what would be done, and do nothing",
		},
		wait: WAIT_ARG,
	},
	examples: [
		["model download hf:acme/tiny", "a Hugging Face repository, named acme/tiny here"],
		["model download acme/tiny:Q4_K_M --to node2:disk", "one quantisation of it, to a certain node"],
		["model download tiny --source https://example.org/tiny.gguf", "one file, under a name of your own"],
		["model download hf:acme/big --to node1:disk --dry-run", "what it would fetch, and whether it fits"],
		["model download hf:acme/big --to all:disk", "to every node; its source is read once"],
		["model download hf:acme/big hf:acme/tiny --to all:disk", "several at once, as one operation"],
		["model download acme/big --bandwidth 100MB/s --no-wait", "gently, in the background"],
	],
	next: ["model serve NAME", "model copy NAME --from DEVICE --to DEVICE"],
	async run(context, values) {
		const all = values.name.flat();
		const [named] = all;
		if (named === undefined) throw new Error("the parser wants a name");
		const targets = values.to === undefined ? [] : listed(values.to);
		if (
			isMany(
				all.map(({ modelName }) => modelName),
				targets,
			)
		) {
			if (values.revision !== undefined) throw revisionOfOne();
			return await downloadMany(context, { ...values, name: all }, targets);
		}
		const { modelName: name, sourceUrl } = named;
		const source = values.source ?? sourceUrl;
		const body = {
			...(values.to === undefined ? {} : { target_device: values.to }),
			...paceFields(values),
			...(values.type === undefined ? {} : { model_type: values.type }),
			...(values.revision === undefined ? {} : { revision: values.revision }),
			...fileChoiceFields(values),
		};
		if (values["dry-run"]) {
			if (values.revision !== undefined) throw revisionOfOne();
			const choice = {
				...fileChoiceFields(values),
				...(values.to === undefined ? {} : { target_device: values.to }),
			};
			return await showPlan(context, name, source, choice);
		}
		const api = await context.api();
		const params = { model_name: name };
		const submitted = await fromSource(name, source, (source_url) =>
			api.call("downloadModel", {
				params,
				body: { ...body, ...(source_url === undefined ? {} : { source_url }) },
			}),
		);
		return await settle(context, submitted, {
			wait: values.wait,
			telling: {
				title: `${name} → ${values.to ?? submitted.node}`,
				done: (task) => `Downloaded ${name} to ${resultText(task, "device") ?? values.to ?? task.node}`,
				next: () => [`model serve ${name}`, `model show ${name}`],
			},
		});
	},
});

function revisionOfOne(): GswarmError {
	return invalid(
		"usage",
		"--revision is for one model on one device, and not for a dry run.",
		{},
		"Write the source with its revision, e.g. hf:ORG/NAME@REVISION.",
	);
}

/** One operation of the host; its nodes give each other what they have. */
async function downloadMany(
	context: Context,
	values: Parameters<typeof paceFields>[0] &
		Parameters<typeof fileChoiceFields>[0] & {
			name: readonly NamedSource[];
			source?: string | undefined;
			type?: string | undefined;
			"dry-run": boolean;
			wait: boolean;
		},
	targets: readonly string[],
): Promise<number> {
	if (targets.length === 0) {
		throw invalid(
			"usage",
			"Several models need a device to go to.",
			{},
			"For example --to node1:disk, or --to all:disk for the disk of every node.",
		);
	}
	if (values.source !== undefined && values.name.length > 1)
		throw invalid("usage", "--source is of one model.", {}, "Name the sources themselves.");
	const body = {
		kind: "download" as const,
		models: values.name.map(({ modelName, sourceUrl }) => {
			const source_url = values.source ?? sourceUrl;
			return { model_name: modelName, ...(source_url === undefined ? {} : { source_url }) };
		}),
		target_devices: [...targets],
		...paceFields(values),
		...(values.type === undefined ? {} : { model_type: values.type }),
		...fileChoiceFields(values),
	};
	return await transferMany(context, body, {
		wait: values.wait,
		done: "Downloaded",
		dryRun: values["dry-run"],
	});
}

/** What the download would do: the answer of a dry run. */
async function showPlan(
	{ api, out, say, style, width }: Context,
	name: ModelName,
	source: string | undefined,
	choice: object,
): Promise<number> {
	const client = await api();
	const info = await fromSource(name, source, (source_url) =>
		client.call("inspectSource", {
			body: { model_name: name, ...choice, ...(source_url === undefined ? {} : { source_url }) },
		}),
	);
	const { plan } = info;
	await out.show(info, {
		names: () => info.files.map(({ path }) => path),
		human: (wide) =>
			[
				sourceSummary(info, style),
				"",
				fileTable(info, { style, width, wide }),
				...(plan === null ? [] : ["", planSummary(plan, style)]),
			].join("\n"),
	});
	for (const note of info.notes) say.info(note);
	if (plan?.fits === false) {
		say.error(
			`It does not fit: ${plan.device} has ${formatBytes(plan.available)} available, ${formatBytes(plan.required)} are needed.`,
		);
		say.hint("Delete or move models there, or choose another device with --to.");
		return EXIT.unavailable;
	}
	say.info("Nothing was downloaded: this was a dry run.");
	return EXIT.done;
}

/** `acme/tiny` is a registered name first, and a hub repository when it is not one. */
async function fromSource<T>(
	name: ModelName,
	source: string | undefined,
	send: (source: string | undefined) => Promise<T>,
): Promise<T> {
	const hubSource = hubSourceOf(name);
	try {
		return await send(source);
	} catch (error) {
		if (!(error instanceof GswarmError) || error.code !== "MODEL_NOT_FOUND" || source !== undefined)
			throw error;
		if (hubSource !== undefined) return await send(hubSource);
		throw new GswarmError(
			"MODEL_NOT_FOUND",
			`There is no registered model ${JSON.stringify(name)}, and the name alone does not say where it comes from.`,
			{
				details: error.details,
				hint: `Examples: \`gswarm model download hf:ORG/${name}\`, \`gswarm model download ${name} --source https://host/${name}.gguf\``,
				cause: error,
			},
		);
	}
}
