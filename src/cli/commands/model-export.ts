import { createWriteStream } from "node:fs";
import { open, rename, rm, stat } from "node:fs/promises";
import { once } from "node:events";
import { GswarmError, invalid } from "../../schema/errors.ts";
import type { Context } from "../context.ts";
import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { formatBytes } from "../render/format.ts";
import { device, model, path } from "../values.ts";

export const command = defineCommand({
	about: `Writes a copy of a model and its manifest as one tar file, for machines that no network reaches. Its parts are checked on their way; a file that is not whole is not left behind.
With - as FILE it goes to the standard output.`,
	args: {
		name: { type: "positional", value: model, description: "Name of the model" },
		file: { type: "positional", value: path, description: "The file to write, or -" },
		from: { type: "string", value: device, valueHint: "DEVICE", description: "The copy to export" },
		overwrite: { type: "boolean", description: "Replace a file that is there" },
	},
	examples: [
		["model export acme/tiny /media/usb/tiny.tar", "to a file that travels"],
		[
			"model export acme/tiny - | ssh far 'cat > /srv/models/tiny.tar'",
			"to an import folder of another site",
		],
	],
	next: ["model import FILE"],
	async run(context, { name, file, from, overwrite }) {
		if (file === "-" && context.world.terminal.stdout.isTty)
			throw invalid(
				"bad_argument",
				"A model is not written to a terminal.",
				{},
				"Name a file, or pipe it on.",
			);
		if (file !== "-" && !file.endsWith(".tar"))
			throw invalid(
				"bad_argument",
				`${file} is a tar file by another name.`,
				{},
				`Call it ${file}.tar, so that it can be imported.`,
			);
		if (file !== "-" && !overwrite && (await isThere(file))) throw fileExists(file);
		const response = await (await context.api()).open("exportModel", {
			params: { model_name: name },
			query: from === undefined ? {} : { device: from },
			hasLongBody: true,
		});
		const sizeBytes = file === "-" ? await toStandardOutput(response) : await toFile(response, file);
		context.say.success(
			`Exported ${name}: ${formatBytes(sizeBytes)} ${file === "-" ? "written" : `in ${file}`}.`,
		);
		if (file !== "-")
			await context.out.show(
				{ model_name: name, file, size_bytes: sizeBytes },
				{ names: () => [file], human: () => "" },
			);
		tellNext(context, file);
		return EXIT.done;
	},
});

function tellNext({ say }: Context, file: string): void {
	if (file !== "-") say.next([`model import ${file}`]);
}

/** Under another name until it is whole. */
async function toFile(response: Response, file: string): Promise<number> {
	const staging = `${file}.part`;
	const handle = await open(staging, "w", 0o600).catch((error: unknown) => {
		throw notWritten(file, error);
	});
	let sizeBytes = 0;
	try {
		for await (const block of bodyOf(response)) {
			for (let at = 0; at < block.length; ) {
				const { bytesWritten } = await handle.write(block, at, block.length - at);
				at += bytesWritten;
			}
			sizeBytes += block.length;
		}
		await handle.sync();
		await handle.close();
		await rename(staging, file);
		return sizeBytes;
	} catch (error) {
		await handle.close().catch(() => undefined);
		await rm(staging, { force: true });
		throw error instanceof GswarmError ? error : notWritten(file, error);
	}
}

async function toStandardOutput(response: Response): Promise<number> {
	const out = createWriteStream("", { fd: 1, autoClose: false });
	let sizeBytes = 0;
	for await (const block of bodyOf(response)) {
		sizeBytes += block.length;
		if (!out.write(block)) await once(out, "drain");
	}
	out.end();
	await once(out, "finish");
	return sizeBytes;
}

/** A stream that breaks off has no end marker: it is no whole bundle. */
async function* bodyOf(response: Response): AsyncGenerator<Uint8Array> {
	try {
		for await (const block of response.body ?? []) yield block;
	} catch (cause) {
		throw new GswarmError("NETWORK_ERROR", "The export broke off before it was whole; nothing was kept.", {
			reason: "export_broken",
			hint: "The agent's log says why; `gswarm model verify` finds a damaged copy.",
			retryable: true,
			cause,
		});
	}
}

async function isThere(file: string): Promise<boolean> {
	return (await stat(file).catch(() => undefined)) !== undefined;
}

function fileExists(file: string): GswarmError {
	return new GswarmError("CONFLICT", `${file} is there already.`, {
		reason: "file_exists",
		hint: "--overwrite replaces it.",
	});
}

function notWritten(file: string, cause: unknown): GswarmError {
	const code = (cause as NodeJS.ErrnoException).code ?? "unknown cause";
	return new GswarmError(
		"RESOURCE_UNAVAILABLE",
		`${file} could not be written (${code}); nothing was kept.`,
		{
			reason: "not_written",
			cause,
		},
	);
}
