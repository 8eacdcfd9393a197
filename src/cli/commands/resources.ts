import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { resourceTable } from "../render/resources.ts";
import { safeLine } from "../render/safe-text.ts";
import { WATCH_ARG, given } from "../task-filters.ts";
import { node } from "../values.ts";
import { watchFigures } from "../watch.ts";

export const command = defineCommand({
	about:
		"Shows what each machine has and how much of it is in use: disks, memory and GPUs with what models take of them, what transfers have reserved and what is available, processors and network as they are now. -o wide adds what could be evicted, what has been, and the budgets.",
	args: {
		node: { type: "string", value: node, valueHint: "NODE", description: "Only this node" },
		watch: WATCH_ARG,
	},
	examples: [
		["resources", "every machine, every device"],
		["resources --node node1 --watch", "keep an eye on one of them"],
		["resources --json", "the same for a program"],
	],
	next: ["node list", "model evict --dry-run"],
	async run(context, { node: only, watch }) {
		const { api, out, say, style, width } = context;
		const client = await api();
		const query = given({ node: only });
		const read = (signal?: AbortSignal) =>
			client.call("getResources", { query, ...(signal === undefined ? {} : { signal }) });
		if (watch) {
			return await watchFigures(context, read, (body, columns) =>
				resourceTable(body, { style, width: columns, wide: false }).split("\n"),
			);
		}
		const body = await read();
		await out.show(body, {
			names: () => Object.keys(body.nodes ?? { [body.node ?? ""]: body }),
			human: (wide) => resourceTable(body, { style, width: wide ? undefined : width, wide }),
		});
		const { missing_nodes: missing = [] } = body;
		if (missing.length > 0) say.warn(`Without ${safeLine(missing.join(", "))}: no answer.`);
		return EXIT.done;
	},
});
