import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { fields } from "../render/fields.ts";
import { formatBytes, formatTime } from "../render/format.ts";
import { locationTable } from "../render/locations.ts";
import { safeLine } from "../render/safe-text.ts";
import { paintStatus } from "../render/style.ts";
import { model } from "../values.ts";

export const command = defineCommand({
	about:
		"Shows what is known of a model: where it comes from, its revision, what was read from its files, where its copies are, and where it is served.",
	args: { name: { type: "positional", value: model, description: "Name of the model" } },
	examples: [
		["model show acme/tiny", "everything about one model"],
		["model show acme/tiny --json", "the same as JSON"],
	],
	next: ["model serve NAME", "model copy NAME --from DEVICE --to DEVICE"],
	async run({ api, out, say, style, width }, { name }) {
		const body = await (await api()).call("getModel", { params: { model_name: name } });
		await out.show(body, {
			names: () => [body.model_name],
			human: (wide) =>
				[
					fields(style, [
						["Model", body.model_name],
						["Type", body.model_type],
						["Format", body.format],
						["Size", formatBytes(body.model_size)],
						["Status", { painted: paintStatus(style, safeLine(body.status)) }],
						["Source", body.source_url],
						["Revision", body.revision],
						["Registered", formatTime(body.created_at)],
						...Object.entries(body.metadata).map(
							([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)] as const,
						),
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
