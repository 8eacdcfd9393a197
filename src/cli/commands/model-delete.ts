import { confirm } from "../confirm.ts";
import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { formatBytes } from "../render/format.ts";
import { WAIT_ARG, settle } from "../submit.ts";
import { device, model, revision } from "../values.ts";

export const command = defineCommand({
	about:
		"Deletes a model with all its copies, or with --device one copy of it. Deleted means that the bytes are gone; it says how many. A copy that was adopted is only forgotten, unless --delete-files says otherwise. On a terminal it asks first.",
	args: {
		name: { type: "positional", value: model, description: "Name of the model" },
		device: {
			type: "string",
			value: device,
			valueHint: "DEVICE",
			description: "Delete only the copy on this device",
		},
		revision: {
			type: "string",
			value: revision,
			valueHint: "REV",
			description: "Only this revision of it on --device",
		},
		"delete-files": {
			type: "boolean",
			description: "Of an adopted copy the files too, which otherwise stay where they are",
		},
		force: {
			type: "boolean",
			description: "Also when it is served (the service is stopped) or the last copy on a disk",
		},
		wait: WAIT_ARG,
	},
	examples: [
		["model delete acme/tiny", "the model and every copy"],
		["model delete acme/tiny --device node1:dram", "one copy"],
		["model delete acme/tiny --device node1:disk --revision 5f0c21", "one of several revisions"],
		["model delete acme/tiny --delete-files", "an adopted model with its files"],
		["model delete acme/tiny --yes", "without a question"],
	],
	next: ["model list", "node list"],
	async run(context, { name, device: from, revision: one, "delete-files": deleteFiles, force, wait }) {
		const which = one === undefined ? name : `${name}@${one}`;
		const copies = from === undefined ? `${name} and all its copies` : `the copy of ${which} on ${from}`;
		const what = deleteFiles ? `${copies}, with files that were adopted` : copies;
		if (!(await confirm(context, `Delete ${what}?`))) {
			context.say.info("Nothing was deleted.");
			return EXIT.failed;
		}
		const submitted = await (await context.api()).call("deleteModel", {
			params: { model_name: name },
			query: {
				force: force ? "true" : "false",
				...(from === undefined ? {} : { device: from }),
				...(one === undefined ? {} : { revision: one }),
				...(deleteFiles ? { delete_files: "true" } : {}),
			},
		});
		return await settle(context, submitted, {
			wait,
			telling: {
				title: from === undefined ? name : `${name} on ${from}`,
				done: ({ result }) => {
					const freed = result?.["freed_bytes"];
					const left = result?.["adopted_files_kept"];
					if (typeof left === "string") return `Forgot ${what}; its files stay at ${left}`;
					return `Deleted ${what}${typeof freed === "number" && freed > 0 ? `; ${formatBytes(freed)} are free again` : ""}`;
				},
				next: () => ["model list"],
			},
		});
	},
});
