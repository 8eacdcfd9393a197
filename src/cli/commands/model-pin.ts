import { defineCommand } from "../command.ts";
import { PIN_ARGS, pinModel } from "../pinning.ts";

export const command = defineCommand({
	about:
		"Pins the copies of a model, or with --device one of them: they are never evicted, however long they are not used. Deleting still deletes them.",
	args: PIN_ARGS,
	examples: [
		["model pin acme/tiny --device node1:dram", "keep it in the memory of node1"],
		["model pin acme/tiny", "keep every copy that there is"],
	],
	next: ["model unpin NAME", "model evict --dry-run"],
	run: (context, { name, device }) => pinModel(context, { name, device, pinned: true }),
});
