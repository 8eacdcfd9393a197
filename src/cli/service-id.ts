/** People name a service by its id or by the model it serves; the API knows only ids. */
import type { ApiClient } from "../api/client.ts";
import { GswarmError, notFound } from "../schema/errors.ts";

/**
 * The id that a person means.
 * @throws 404 service_not_found, 409 ambiguous_service when the model is served more than once
 */
export async function serviceIdFor(api: ApiClient, text: string): Promise<string> {
	if (text.startsWith("svc-")) return text;
	const { services } = await api.call("listServices", {});
	const ids = services
		.filter((s) => (s.served_name === undefined ? s.model_name : s.served_name) === text)
		.map((s) => s.service_id);
	const [only] = ids;
	if (only === undefined) throw notFound("service", text, "`gswarm service list` shows the services.");
	if (ids.length === 1) return only;
	throw new GswarmError("CONFLICT", `${JSON.stringify(text)} is served by ${ids.join(" and ")}.`, {
		reason: "ambiguous_service",
		hint: "Name one of them.",
	});
}
