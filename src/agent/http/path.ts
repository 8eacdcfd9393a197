/** Request paths as the router sees them: a model name is one component, however its slashes were written. */
import { MODEL_SUB_ROUTES } from "../../schema/names.ts";

const MODELS = "/api/v1/models/";

/** The raw path of a URL, without query and fragment. Of a request whose Host is no host there is only the path. */
export function rawPath(url: string): string {
	const start = url.startsWith("/") ? 0 : url.indexOf("/", url.indexOf("://") + 3);
	if (start < 0) return "/";
	const end = url.slice(start).search(/[?#]/);
	return end < 0 ? url.slice(start) : url.slice(start, start + end);
}

/**
 * `/api/v1/models/org/name/copy` → `/api/v1/models/org%2Fname/copy`: `org/name` and `org%2Fname` are the same
 * resource. A word of a sub-route ends the name; names never have such a word as a later segment.
 */
export function canonicalPath(path: string): string {
	if (!path.startsWith(MODELS)) return path;
	const segments = path.slice(MODELS.length).split("/");
	let nameLength = segments.length;
	if (segments.length >= 3 && segments.at(-2) === "locations") nameLength -= 2;
	else if (segments.length >= 2 && MODEL_SUB_ROUTES.includes(segments.at(-1) ?? "")) nameLength -= 1;
	const rest = segments.slice(nameLength);
	return [MODELS + segments.slice(0, nameLength).join("%2F"), ...rest].join("/");
}
