/** What goes wrong with a device, in the API's words; `device` is its whole name, `node1:gpu0`. */
import { GswarmError } from "../../schema/errors.ts";
import { HolderTrouble } from "./holder/holder-process.ts";

/** 507: what is asked for is more than what is free. `reason` is `gpu_full` where a task may wait for room. */
export function noRoom(
	device: string,
	required: number,
	available: number,
	reason: "insufficient_space" | "gpu_full",
): GswarmError {
	return new GswarmError(
		"RESOURCE_UNAVAILABLE",
		`Insufficient GPU memory on device ${device}: ${required} bytes are needed, ${available} are available.`,
		{
			reason,
			status: 507,
			details: { required, available, device },
			hint: "`gswarm model list` shows what is there; `gswarm model delete NAME --device DEVICE` makes room.",
		},
	);
}

/** 503: the GPU is there, and nothing can be loaded to it. */
export function notUsable(device: string, problem: string): GswarmError {
	return new GswarmError("RESOURCE_UNAVAILABLE", `${device} cannot be used: ${problem}.`, {
		reason: "gpu_not_usable",
		details: { device, problem },
		hint: "`gswarm node list` shows the devices that can be used, and why others cannot.",
	});
}

export function inUse(
	copy: { model_name: string; revision: string },
	device: string,
	uses: readonly string[],
): GswarmError {
	return new GswarmError(
		"CONFLICT",
		`${copy.model_name}@${copy.revision} on ${device} is in use: ${uses.join(", ")}.`,
		{
			reason: "in_use",
			details: { device, holders: uses },
			hint: "Stop what uses it first (`gswarm service list`), then delete it again.",
		},
	);
}

/** What is on the device after copying is not what the manifest says. */
export function notTheSame(
	{ model, device, file, part }: { model: string; device: string; file: string; part: number },
	bad: number,
): GswarmError {
	return new GswarmError(
		"TASK_FAILED",
		`${model} on ${device} is not what it should be: part ${part} of ${file} has another digest${bad > 1 ? `, and ${bad - 1} more` : ""}.`,
		{
			reason: "verification_failed",
			details: { device, file, part, bad_parts: bad },
			hint: `\`gswarm model verify ${model}\` says whether the copy it came from is damaged; if that is whole, suspect the GPU's memory.`,
		},
	);
}

export function fromHolder(error: unknown, device: string, required: number): unknown {
	if (!(error instanceof HolderTrouble)) return error;
	const { failure, message, code, availableBytes } = error;
	const details = { device, ...(code === undefined ? {} : { code }) };
	switch (failure) {
		case "memory":
			return noRoom(device, required, availableBytes ?? 0, "gpu_full");
		case "unable":
			return notUsable(device, message);
		case "gone":
			return new GswarmError(
				"TASK_FAILED",
				`The process that holds models on ${device} is gone: ${message}.`,
				{
					reason: "holder_gone",
					details,
					retryable: true,
					cause: error,
				},
			);
		case "file":
			return new GswarmError("TASK_FAILED", `Loading to ${device}: ${message}.`, {
				reason: "file_unreadable",
				details,
				cause: error,
				hint: "`gswarm model verify NAME` reads the copy on the disk again, and replaces what is damaged.",
			});
		case "device":
		case "cancelled":
			return new GswarmError("TASK_FAILED", `The driver of ${device} failed: ${message}.`, {
				reason: "device_failed",
				details,
				retryable: true,
				cause: error,
			});
	}
}
