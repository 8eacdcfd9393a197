/** Services as a table, and one service in full. */
import type { ServiceDocument } from "../../schema/service.ts";
import { fields } from "./fields.ts";
import { formatDuration, formatTime } from "./format.ts";
import { safeLine } from "./safe-text.ts";
import { type Style, paintStatus } from "./style.ts";
import { renderTable } from "./table.ts";

export function serviceTable(
	services: readonly ServiceDocument[],
	{ style, width, wide }: { style: Style; width: number | undefined; wide: boolean },
): string {
	const rows = services.map((service) => [
		safeLine(service.service_id),
		safeLine(nameOf(service)),
		safeLine(deviceOf(service)),
		paintStatus(style, safeLine(service.state)),
		safeLine(service.url),
		String(service.requests),
		...(wide ? [safeLine(service.framework), String(service.pid ?? "-"), String(service.restarts)] : []),
	]);
	return renderTable(
		[
			{ title: "SERVICE" },
			{ title: "MODEL", shrink: true },
			{ title: "DEVICE" },
			{ title: "STATE" },
			{ title: "URL" },
			{ title: "REQUESTS", align: "right" },
			...(wide ? [{ title: "ENGINE" }, { title: "PID" }, { title: "RESTARTS" }] : []),
		],
		rows,
		{ width: wide ? undefined : width, style },
	);
}

export function serviceDetail(service: ServiceDocument, style: Style): string {
	return fields(style, [
		["Service", service.service_id],
		["Model", service.model_name],
		["Revision", service.revision ?? null],
		["Asked for by", nameOf(service)],
		["Device", deviceOf(service)],
		["Engine", service.framework],
		["State", { painted: paintStatus(style, safeLine(service.state)) }],
		["URL", service.url],
		["Port", service.port === null ? null : String(service.port)],
		["Process", service.pid === null ? null : String(service.pid)],
		["Started", service.started_at === null ? null : formatTime(service.started_at)],
		["Ready in", service.ready_s === null ? null : formatDuration(service.ready_s)],
		["Restarts", String(service.restarts)],
		["Requests", String(service.requests)],
		["Error", service.error],
	]);
}

/** The engine of a simulated GPU computes on the processor. */
function deviceOf({ device, simulated }: ServiceDocument): string {
	return simulated === true ? `${device} (simulated)` : device;
}

/** What requests ask for. */
function nameOf({ model_name: model, revision, served_name: served = model }: ServiceDocument): string {
	return served ?? `${model}@${revision}`;
}
