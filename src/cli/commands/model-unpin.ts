import { defineCommand } from "../command.ts";
import { PIN_ARGS, pinModel } from "../pinning.ts";

export const command = defineCommand({
	about:
		"Unpins the copies of a model, or with --device one of them, so that they may be evicted where room is needed.",
	args: PIN_ARGS,
	examples: [["model unpin acme/tiny --device node1:dram", "it may go again"]],
	next: ["model pin NAME", "model evict --dry-run"],
	run: (context, { name, device }) => pinModel(context, { name, device, pinned: false }),
});
