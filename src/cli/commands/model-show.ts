import { GswarmError, invalid } from "../../schema/errors.ts";
import type { ModelDetail } from "../../schema/model.ts";
import { isModelName, parseModelName } from "../../schema/names.ts";
import { type NamedSource, hubSourceOf, parseNamedSource } from "../../schema/source-name.ts";
import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { detectedFields } from "../render/detected.ts";
import { fields } from "../render/fields.ts";
import { formatBytes, formatTime } from "../render/format.ts";
import { locationTable } from "../render/locations.ts";
import { safeLine } from "../render/safe-text.ts";
import { paintStatus } from "../render/style.ts";
import { fileTable, sourceSummary } from "../render/source-info.ts";
import type { Context } from "../context.ts";
import { FILE_CHOICE_ARGS, fileChoiceFields } from "../transfer-flags.ts";
import type { ValueKind } from "../values.ts";

const nameOrSource: ValueKind<NamedSource> = {
	parse: parseNamedSource,
	wanted: "a model name or a source",
	live: "models",
};

export const command = defineCommand({
	about: `Shows what is known of a model: where it comes from, its revision, what was read from its files, where its copies are, and where it is served.
Given a source, such as hf:ORG/NAME or https://host/model.gguf, a node looks at it before anything is downloaded: files, sizes, format, architecture, parameters, precision, licence and context length, read from the headers of its files.`,
	args: {
		name: { type: "positional", value: nameOrSource, description: "Name of the model, or a source" },
		...FILE_CHOICE_ARGS,
	},
	examples: [
		["model show acme/tiny", "everything about one model"],
		["model show hf:acme/tiny", "what the hub has under this name, without downloading it"],
		["model show acme/tiny --json", "the same as JSON"],
	],
	next: ["model serve NAME", "model copy NAME --from DEVICE --to DEVICE"],
	async run(context, values) {
		const { modelName: name, sourceUrl } = values.name;
		const choice = fileChoiceFields(values);
		if (sourceUrl !== undefined) return await showSource(context, sourceUrl, choice);
		if (Object.keys(choice).length > 0) throw choiceWithoutSource(name);
		const { api, out, say, style, width } = context;
		const body = await (await api())
			.call("getModel", { params: { model_name: name } })
			.catch((error: unknown) => {
				throw hubInstead(error, name);
			});
		await out.show(body, {
			names: () => [body.model_name],
			human: (wide) =>
				[
					fields(style, [
						["Model", body.model_name],
						["Type", body.model_type],
						["Format", body.format],
						...(body.detected ? detectedFields(body.detected) : []),
						["Size", formatBytes(body.model_size)],
						["Status", { painted: paintStatus(style, safeLine(body.status)) }],
						["Source", body.source_url],
						["Revision", body.revision],
						["Registered", formatTime(body.created_at)],
						...notesOf(body),
						...Object.entries(body.services).map(([node, url]) => [`Served on ${node}`, url] as const),
					]),
					...(body.location_details.length === 0
						? []
						: ["", locationTable(body.location_details, { style, width: wide ? undefined : width, wide })]),
				].join("\n"),
		});
		if (body.location_details.length === 0) {
			say.info("There is no copy of it yet.");
			say.next([`model download ${body.model_name}`]);
		}
		return EXIT.done;
	},
});

/** What people said; what was detected stands above it. */
function notesOf({ metadata, detected }: ModelDetail): (readonly [string, string])[] {
	const found: Record<string, unknown> = detected ?? {};
	return Object.entries(metadata)
		.filter(([key, value]) => found[key] !== value)
		.map(([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)]);
}

async function showSource(
	{ api, out, say, style, width }: Context,
	source: string,
	choice: ReturnType<typeof fileChoiceFields>,
): Promise<number> {
	const info = await (await api()).call("inspectSource", { body: { source_url: source, ...choice } });
	await out.show(info, {
		names: () => [info.source_url],
		human: (wide) =>
			[
				sourceSummary(info, style),
				"",
				fileTable(info, { style, width: wide ? undefined : width, wide }),
			].join("\n"),
	});
	for (const note of info.notes) say.info(note);
	const [quantisation] = Object.keys(info.quantisations ?? {});
	const wanted = quantisation === undefined ? source : `${source}:${quantisation}`;
	say.next([`model download ${wanted} --dry-run`, `model download ${wanted}`]);
	return EXIT.done;
}

/** `acme/tiny` may be a name of the hub too; looking there is asked for, never a guess. */
function hubInstead(error: unknown, name: string): unknown {
	const source = isModelName(name) ? hubSourceOf(parseModelName(name)) : undefined;
	if (!(error instanceof GswarmError) || error.code !== "MODEL_NOT_FOUND" || source === undefined)
		return error;
	const { code, message, details } = error;
	return new GswarmError(code, message, {
		details,
		hint: `\`gswarm model list\` shows the models of the cluster; \`gswarm model show ${source}\` looks on the hub.`,
		cause: error,
	});
}

function choiceWithoutSource(name: string): GswarmError {
	return invalid(
		"bad_argument",
		"--include, --exclude and --all-files choose files of a source.",
		{},
		`\`gswarm model show hf:${name} …\` looks at a source.`,
	);
}
