/** Pinning and unpinning are one command with two names. */
import type { Context } from "./context.ts";
import { EXIT } from "./exit-codes.ts";
import { safeLine } from "./render/safe-text.ts";
import { device, model } from "./values.ts";

export const PIN_ARGS = {
	name: { type: "positional", value: model, description: "Name of the model" },
	device: {
		type: "string",
		value: device,
		valueHint: "DEVICE",
		description: "Only the copy on this device (default: all copies)",
	},
} as const;

export async function pinModel(
	{ api, out, say }: Context,
	{ name, device: on, pinned }: { name: string; device: string | undefined; pinned: boolean },
): Promise<number> {
	const body = await (await api()).call("pinModel", {
		params: { model_name: name },
		body: { pinned, ...(on === undefined ? {} : { device: on }) },
	});
	await out.show(body, { names: () => body.devices, human: () => "" });
	const where = safeLine(body.devices.join(", "));
	say.success(
		pinned
			? `${safeLine(name)} stays on ${where} until it is unpinned or deleted.`
			: `${safeLine(name)} on ${where} may be evicted again.`,
	);
	if (body.unreachable.length > 0) {
		say.warn(`${safeLine(body.unreachable.join(", "))} could not be asked; do it again when they are back.`);
		return EXIT.failed;
	}
	return EXIT.done;
}
