/** Several models or devices in one command: one operation, followed as one, told device by device. */
import type { Contract } from "../api/contract.ts";
import type { InputOf } from "../api/route.ts";
import type { TransferItem } from "../schema/transfer-item.ts";
import type { Context } from "./context.ts";
import { EXIT } from "./exit-codes.ts";
import { itemTable, planTable } from "./render/transfer-items.ts";
import { settle } from "./submit.ts";

type Body = InputOf<Contract["transferModels"]>["body"];

/** Whether what was named is more than one model on one device. */
export function isMany(models: readonly string[], devices: readonly string[]): boolean {
	return models.length > 1 || devices.length > 1 || devices.some((text) => text.startsWith("all:"));
}

/** The words of a list with commas. */
export function listed(text: string): string[] {
	return text.split(",").filter((word) => word !== "");
}

/** Submits the operation and waits for it, or does not. */
export async function transferMany(
	context: Context,
	body: Body,
	{ wait, done, dryRun }: { wait: boolean; done: string; dryRun: boolean },
): Promise<number> {
	const { out, say, style, width } = context;
	const api = await context.api();
	if (dryRun) {
		const plan = await api.call("planTransfer", { body });
		await out.show(plan, {
			names: () => plan.items.map((item) => item.target_device),
			human: (wide) => planTable(plan, { style, width: wide ? undefined : width }),
		});
		say.info("Nothing was moved: this was a dry run.");
		return EXIT.done;
	}
	const submitted = await api.call("transferModels", { body });
	const { plan } = submitted;
	const moving = plan.items.filter((item) => !item.is_there);
	for (const item of plan.items) {
		if (item.is_there) say.info(`${item.model_name} is on ${item.target_device} already.`);
	}
	const models = new Set(moving.map((item) => item.model_name)).size;
	const devices = new Set(moving.map((item) => item.target_device)).size;
	const [first] = body.models;
	const what = models === 1 ? (first?.model_name ?? "") : `${models} models`;
	const where = devices === 1 ? (moving[0]?.target_device ?? "") : `${devices} devices`;
	const code = await settle(context, submitted, {
		wait,
		telling: {
			title: `${what} → ${where}`,
			done: () => (moving.length === 0 ? "Nothing was missing" : `${done} ${what} to ${where}`),
			next: () => [`queue show ${submitted.task_id}`],
		},
	});
	if (wait && code !== EXIT.done) await tellItems(context, submitted.task_id);
	return code;
}

/** The items of an operation, where it has some. */
export async function itemsOf(context: Context, taskId: string): Promise<TransferItem[]> {
	const { items } = await (await context.api()).call("getTransfer", { params: { task_id: taskId } });
	return items;
}

/** Which devices have it and which do not, for people. */
async function tellItems(context: Context, taskId: string): Promise<void> {
	const items = await itemsOf(context, taskId);
	if (items.length > 1) context.say.info(itemTable(items, { style: context.style }));
}
