/** What a failed engine is reported as: its own words, its last log lines, and no path of this machine. Pure. */
import type { ExitStatus } from "../../platform/process.ts";
import { GswarmError } from "../../schema/errors.ts";
import type { Engine } from "./engine.ts";

/** How an engine process came to its end without being asked. */
export type Ending = { kind: "exited"; exit: ExitStatus } | { kind: "silent" };

/** Log lines in `details.log`, and in the text of the error. */
export const DETAIL_LINES = 20;
const MESSAGE_LINES = 3;
const MAX_LINE_LENGTH = 400;

export function describeFailure(
	engine: Engine,
	service: { service_id: string; model_name: string; tier: string; model_path: string },
	ending: Ending,
	logLines: readonly string[],
): GswarmError {
	const scrub = (text: string): string =>
		text
			.replaceAll(`${service.model_path}/`, "")
			.replaceAll(service.model_path, service.model_name)
			.slice(0, MAX_LINE_LENGTH);
	const code = ending.kind === "exited" ? ending.exit.code : null;
	const meaning = engine.readExit(code);
	const own = engine.readFailure(logLines);
	const lines = logLines.map(scrub);
	const said = own === undefined ? lastWords(lines) : scrub(own.message);
	return new GswarmError(
		"TASK_FAILED",
		`${what(ending, meaning.reason, service)}${said === "" ? "." : `: ${said}`}`,
		{
			reason: meaning.reason,
			details: {
				service_id: service.service_id,
				model: service.model_name,
				device: service.tier,
				exit_code: code,
				...(own === undefined ? {} : { engine_reason: own.reason }),
				log: lines,
			},
			hint: `\`gswarm service logs ${service.service_id}\` shows what the engine wrote.`,
		},
	);
}

function what(ending: Ending, reason: string, service: { model_name: string; tier: string }): string {
	const where = `${service.model_name} on ${service.tier}`;
	if (reason === "model_load_failed") return `The engine could not load ${where}`;
	if (ending.kind === "silent") return `The engine of ${where} stopped answering its health checks`;
	const { code, signal } = ending.exit;
	if (signal !== null) return `The engine of ${where} was ended by ${signal}`;
	return `The engine of ${where} ended${code === null ? "" : ` with exit code ${code}`}`;
}

function lastWords(lines: readonly string[]): string {
	return lines
		.filter((line) => line.trim() !== "")
		.slice(-MESSAGE_LINES)
		.join(" | ");
}
