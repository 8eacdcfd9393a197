import type { EvictionPlan } from "../../schema/eviction.ts";
import { confirm } from "../confirm.ts";
import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { evictionTable } from "../render/eviction.ts";
import { formatBytes } from "../render/format.ts";
import { safeLine } from "../render/safe-text.ts";
import { WAIT_ARG, settle } from "../submit.ts";
import { device, size } from "../values.ts";

export const command = defineCommand({
	about: `Removes copies from a device until so many bytes are available there: those that were not used for the longest time and are the quickest to have again, and just enough of them. Copies that are pinned or in use, the last one of a model on a disk and one that could not be had again never go. A dram does this by itself where room is needed.
With --dry-run it shows who would go and why the others stay. On a terminal it asks first.`,
	args: {
		device: {
			type: "string",
			value: device,
			default: "dram",
			valueHint: "DEVICE",
			description: "The device that is full",
		},
		bytes: {
			type: "string",
			value: size,
			valueHint: "SIZE",
			description: "How much is to be available (default: down to the device's low watermark)",
		},
		"dry-run": { type: "boolean", description: "Only show who would go, and why the others stay" },
		wait: WAIT_ARG,
	},
	examples: [
		["model evict --device node1:dram --dry-run", "who would go from the memory of node1, and why"],
		["model evict --device node1:disk --bytes 200GB", "make room for a model of 200 GB"],
		["model evict --device node1:disk --bytes 200GB --yes --no-wait", "in the background"],
	],
	next: ["resources", "model pin NAME", "model list --location DEVICE"],
	async run(context, { device: from, bytes, "dry-run": dryRun, wait }) {
		const { out, say, style, width } = context;
		const api = await context.api();
		const asked = bytes === undefined ? {} : { bytes };
		const plan = await api.call("planEviction", {
			query: { device: from, ...(bytes === undefined ? {} : { bytes: String(bytes) }) },
		});
		const victims = plan.copies.filter((copy) => copy.verdict === "goes");
		if (dryRun) {
			await out.show(plan, {
				names: () => victims.map((copy) => `${copy.model_name}@${copy.revision}`),
				human: (wide) =>
					plan.copies.length === 0
						? ""
						: evictionTable(plan.copies, { style, width: wide ? undefined : width, wide }),
			});
			say.info(sentence(plan, victims.length));
			if (victims.length > 0) say.next([commandOf(from, bytes)]);
			return plan.suffices ? EXIT.done : EXIT.failed;
		}
		const freed = victims.length === 1 ? "this copy" : `these ${victims.length} copies`;
		if (victims.length > 0) {
			if (!out.forPrograms) for (const line of named(victims)) say.info(line);
			if (!(await confirm(context, `Remove ${freed} from ${plan.device}?`))) {
				say.info("Nothing was removed.");
				return EXIT.failed;
			}
		}
		const submitted = await api.call("evictModels", { body: { device: from, ...asked } });
		return await settle(context, submitted, {
			wait,
			telling: {
				title: `room on ${plan.device}`,
				done: ({ result }) => {
					const gone = result?.["evicted"];
					const copies = Array.isArray(gone) ? gone.length : 0;
					return copies === 0
						? `Nothing had to go: ${plan.device} has that much available`
						: `Removed ${copies} ${copies === 1 ? "copy" : "copies"} from ${plan.device}; ${formatBytes(Number(result?.["freed_bytes"] ?? 0))} are free again`;
				},
				next: () => ["resources"],
			},
		});
	},
});

const MAX_NAMED = 10;

function named(victims: EvictionPlan["copies"]): string[] {
	const lines = victims
		.slice(0, MAX_NAMED)
		.map((copy) =>
			safeLine(`${copy.model_name}@${copy.revision.slice(0, 12)}, ${formatBytes(copy.size_bytes)}`),
		);
	const more = victims.length - lines.length;
	return more > 0 ? [...lines, `and ${more} more`] : lines;
}

function sentence(plan: EvictionPlan, count: number): string {
	const { device: on, usage, wanted_available: wanted, need_bytes: need, evictable_bytes: evictable } = plan;
	const has = `${safeLine(on)} has ${formatBytes(usage.available)} of ${formatBytes(usage.total)} available`;
	if (need === 0) return `${has}; nothing has to go for ${formatBytes(wanted)}.`;
	if (!plan.suffices)
		return `${has}; ${formatBytes(wanted)} cannot be had: no more than ${formatBytes(evictable)} may go.`;
	const who = count === 1 ? "one copy" : `${count} copies`;
	return `${has}; for ${formatBytes(wanted)}, ${who} would go and free ${formatBytes(plan.freed_bytes)}.`;
}

function commandOf(from: string, bytes: number | undefined): string {
	return `model evict --device ${from}${bytes === undefined ? "" : ` --bytes ${bytes}`}`;
}
