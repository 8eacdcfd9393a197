import type { ModelSummary } from "../../schema/model.ts";
import type { ApiClient } from "../../api/client.ts";
import { MODEL_STATUS_NAMES } from "../words.ts";
import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { DETECTED_COLUMNS, detectedCells } from "../render/detected.ts";
import { formatBytes } from "../render/format.ts";
import { safeLine } from "../render/safe-text.ts";
import { paintStatus } from "../render/style.ts";
import { renderTable } from "../render/table.ts";
import { count, device } from "../values.ts";

const PER_PAGE = 200;

export const command = defineCommand({
	about:
		"Lists the models that the cluster knows, with their size, where their copies are and where they are served. All of them, unless --page asks for one page.",
	args: {
		type: { type: "string", valueHint: "TYPE", description: "Only models of this type, e.g. llm" },
		location: {
			type: "string",
			value: device,
			valueHint: "DEVICE",
			description: "Only models with a copy on this device",
		},
		status: {
			type: "enum",
			options: MODEL_STATUS_NAMES,
			valueHint: "STATUS",
			description: `Only models in this status: ${MODEL_STATUS_NAMES.join(", ")}`,
		},
		page: { type: "string", value: count, valueHint: "N", description: "One page instead of all" },
		"per-page": {
			type: "string",
			value: count,
			valueHint: "N",
			description: "Models on a page, at most 200 (default: 20)",
		},
	},
	examples: [
		["model list", "every model, its size, its devices, its services"],
		["model list --location node1:dram", "what is in the memory of node1"],
		["model list -o wide", "what they are, too: parameters, precision, context, memory that they take"],
		["model list -o name", "the names alone, for a script"],
	],
	next: ["model show NAME", "model download hf:ORG/NAME"],
	async run({ api, out, say, style, width }, { type, location, status, page, "per-page": perPage }) {
		const filter = {
			...(type === undefined ? {} : { type }),
			...(location === undefined ? {} : { location }),
			...(status === undefined ? {} : { status }),
		};
		const body =
			page === undefined && perPage === undefined
				? await allPages(await api(), filter)
				: await (await api()).call("listModels", {
						query: { ...filter, page: page ?? 1, per_page: perPage ?? 20 },
					});
		await out.show(body, {
			names: () => body.models.map((model) => model.model_name),
			human: (wide) => {
				if (body.models.length === 0) return "";
				const rows = body.models.map((model) => [
					safeLine(model.model_name),
					safeLine(model.model_type),
					...(wide ? detectedCells(model.detected) : []),
					formatBytes(model.model_size),
					paintStatus(style, safeLine(model.status)),
					safeLine(model.locations.map((one) => marked(one, model)).join(", ")) || "-",
					safeLine(
						Object.entries(model.services)
							.map(([node, url]) => (wide ? `${node} ${url}` : node))
							.join(", "),
					) || "-",
				]);
				return renderTable(
					[
						{ title: "MODEL" },
						{ title: "TYPE" },
						...(wide ? DETECTED_COLUMNS : []),
						{ title: "SIZE", align: "right" },
						{ title: "STATUS" },
						{ title: "LOCATIONS", shrink: true },
						{ title: "SERVED ON", shrink: true },
					],
					rows,
					{ width: wide ? undefined : width, style },
				);
			},
		});
		if (body.models.length === 0) {
			const isFiltered = Object.keys(filter).length > 0 || (page ?? 1) > 1;
			say.info(isFiltered ? "No model fits." : "There are no models yet.");
			say.next(
				isFiltered ? ["model list"] : ["model download hf:ORG/NAME", "model register NAME --source URI"],
			);
		} else if (body.total > body.models.length) {
			say.info(`${body.models.length} of ${body.total} models.`);
		}
		return EXIT.done;
	},
});

/** Every page as one: a script that reads the answer must not miss what is on the second. */
async function allPages(
	api: ApiClient,
	filter: { type?: string; location?: string; status?: (typeof MODEL_STATUS_NAMES)[number] },
) {
	const first = await api.call("listModels", { query: { ...filter, page: 1, per_page: PER_PAGE } });
	const models = [...first.models];
	for (let page = 2; models.length < first.total; page++) {
		const more = await api.call("listModels", { query: { ...filter, page, per_page: PER_PAGE } });
		if (more.models.length === 0) break;
		models.push(...more.models);
	}
	return { ...first, models };
}

/** `node1:gpu0 (simulated)`, `node1:disk (adopted, pinned)`, `node2:disk (unavailable)` */
function marked(
	at: string,
	{
		simulated_locations: simulated = [],
		adopted_locations: adopted = [],
		pinned_locations: pinned = [],
		unavailable_locations: unavailable = [],
	}: ModelSummary,
): string {
	const marks = [
		...(simulated.includes(at) ? ["simulated"] : []),
		...(adopted.includes(at) ? ["adopted"] : []),
		...(pinned.includes(at) ? ["pinned"] : []),
		...(unavailable.includes(at) ? ["unavailable"] : []),
	];
	return marks.length === 0 ? at : `${at} (${marks.join(", ")})`;
}
