import { GswarmError } from "../../schema/errors.ts";
import type { Submitted, TaskDocument } from "../../schema/task.ts";
import type { Context } from "../context.ts";
import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { followTask } from "../follow.ts";
import { safeLine } from "../render/safe-text.ts";
import { WAIT_ARG } from "../submit.ts";
import { AFTER_ARG, PACE_ARGS, paceFields } from "../transfer-flags.ts";
import { type ValueKind, device, model } from "../values.ts";

const percent: ValueKind<number> = {
	parse: (text) => {
		const value = /^\d{1,3}(\.\d{1,6})?%?$/.test(text) ? Number(text.replace("%", "")) : Number.NaN;
		return value > 0 && value <= 100 ? value : undefined;
	},
	wanted: "a share such as 5%",
};

export const command = defineCommand({
	about:
		"Reads copies at rest again and compares them with their manifest. A damaged copy goes out of use at once, and is replaced from another copy of the same content where there is one; of a copy on another node only what is damaged comes over the network. Exits 1 when something was wrong, repaired or not.",
	args: {
		name: { type: "positional", value: model, description: "Name of the model" },
		device: {
			type: "string",
			value: device,
			valueHint: "DEVICE",
			description: "Only the copy on this device (default: every copy)",
		},
		sample: {
			type: "string",
			value: percent,
			valueHint: "PERCENT",
			description: "Read only so much of the parts, chosen anew by each run, e.g. 5%",
		},
		seed: {
			type: "string",
			valueHint: "TEXT",
			description: "Choose the sample by this; the same reads the same",
		},
		sha256: { type: "boolean", description: "Compare the sha256 of every file too" },
		repair: { type: "boolean", default: true, negativeDescription: "Only tell what is damaged" },
		priority: PACE_ARGS.priority,
		after: AFTER_ARG,
		wait: WAIT_ARG,
	},
	examples: [
		["model verify acme/tiny", "every copy, every part"],
		["model verify acme/tiny --device node1:disk --sample 5%", "a twentieth of one copy, for a nightly job"],
	],
	next: ["model locations NAME"],
	async run(context, { name, device: only, sample, seed, sha256, repair, priority, after, wait }) {
		const api = await context.api();
		const devices = only === undefined ? await devicesOf(context, name, after) : [only];
		const submitted: Submitted[] = [];
		for (const one of devices) {
			submitted.push(
				await api.call("verifyModel", {
					params: { model_name: name },
					body: {
						...(one === "" ? {} : { device: one }),
						repair,
						...(sample === undefined ? {} : { sample_percent: sample }),
						...(seed === undefined ? {} : { seed }),
						...(sha256 ? { sha256 } : {}),
						...paceFields({ priority, after }),
					},
				}),
			);
		}
		if (!wait) return await tellQueued(context, submitted);
		const tasks: TaskDocument[] = [];
		for (const [at, { task_id: id }] of submitted.entries()) {
			const end = await followTask(context, id, `${name} on ${devices[at]}`);
			if ("left" in end) return end.left;
			tasks.push(end.settled);
		}
		return await tellFound(context, name, tasks, { all: only === undefined });
	},
});

/** Where it is; with `after` none need be there yet, and the agent knows where one will be. */
async function devicesOf(context: Context, name: string, after: readonly string[]): Promise<string[]> {
	try {
		const { locations } = await (await context.api()).call("listLocations", { params: { model_name: name } });
		const devices = [...new Set(locations.filter((l) => l.content_id !== null).map((l) => l.device))];
		return devices.length === 0 && after.length > 0 ? [""] : devices;
	} catch (error) {
		if (after.length > 0 && error instanceof GswarmError && error.code === "MODEL_NOT_FOUND") return [""];
		throw error;
	}
}

async function tellQueued({ out, say }: Context, submitted: readonly Submitted[]): Promise<number> {
	const ids = submitted.map(({ task_id }) => task_id);
	await out.show(
		{ tasks: submitted },
		{ names: () => ids, human: () => ids.map((id) => safeLine(id)).join("\n") },
	);
	say.info(`Queued ${ids.length === 1 ? "one task" : `${ids.length} tasks`}.`);
	say.next(ids.slice(0, 1).map((id) => `queue show ${id} --wait`));
	return EXIT.done;
}

interface Found {
	files_damaged: number;
	damaged: { path: string; problem: string }[];
	repaired_from: string | null;
	not_repaired: string | null;
}

async function tellFound(
	{ out, say }: Context,
	name: string,
	tasks: readonly TaskDocument[],
	{ all }: { all: boolean },
): Promise<number> {
	const body = { model_name: name, tasks };
	await out.show(body, { names: () => tasks.map(({ task_id }) => task_id), human: () => "" });
	let isWhole = true;
	for (const task of tasks) {
		// Of all copies, one that an engine has in its own memory is none of those that can be read.
		if (all && task.error?.details?.["reason"] === "in_use") {
			say.info(task.error.message);
			continue;
		}
		const told = task.result ?? task.error?.details ?? {};
		const where = `${name} on ${String(told["device"] ?? task.request["device"])}`;
		const copies = Array.isArray(told["copies"]) ? (told["copies"] as Found[]) : [];
		const damaged = copies.filter((copy) => copy.files_damaged > 0);
		isWhole &&= task.status === "completed" && damaged.length === 0;
		for (const { damaged: files, files_damaged: count, repaired_from: from, not_repaired: why } of damaged) {
			for (const { path, problem } of files) say.warn(`${where}: of ${path}, ${problem}.`);
			if (count > files.length) say.warn(`${where}: ${count - files.length} more files are damaged.`);
			if (from !== null) say.success(`${where} was damaged and is replaced from ${from}.`);
			else say.error(`${where} is out of use; it was not repaired: ${why}.`);
		}
		if (task.status === "completed" && damaged.length === 0)
			say.success(`${where} is whole${shareRead(copies)}.`);
		else if (damaged.length === 0) say.error(task.error?.message ?? `${task.task_id} was ${task.status}.`);
	}
	if (tasks.length === 0) say.info("There is no copy of it to read.");
	if (!isWhole) say.next([`model locations ${name}`]);
	return isWhole ? EXIT.done : EXIT.failed;
}

/** Of a sample, how much it was. */
function shareRead(copies: readonly object[]): string {
	const sum = (key: string): number =>
		copies.reduce((total, copy) => total + Number((copy as Record<string, unknown>)[key] ?? 0), 0);
	const [read, all] = [sum("parts_checked"), sum("parts_total")];
	return read === all ? "" : ` as far as it was read, ${read} of ${all} parts`;
}
