/**
 * What a person may type where a model is downloaded: its name, or a source that suggests one. Pure and without
 * knowledge of any protocol: whether a source can be read is decided where it is read.
 */
import { invalid } from "./errors.ts";
import { type ModelName, isModelName, parseModelName } from "./names.ts";

export interface NamedSource {
	modelName: ModelName;
	/** The source exactly as it was typed; undefined when a plain name was. */
	sourceUrl: string | undefined;
}

const HUB_PAGE = /^https?:\/\/(?:www\.)?(?:huggingface\.co|hf\.co)\/([^/?#]+\/[^/?#]+)/i;

/**
 * Splits what was typed into name and source: `tiny` and `acme/tiny` are names; `hf:acme/tiny@v1`, `acme/tiny:Q4_K_M`,
 * `https://host/tiny.gguf`, `ollama:llama3:8b` are sources that suggest `acme/tiny`, `acme/tiny`, `tiny`, `llama3-8b`.
 * @throws 400 bad_model_name
 */
export function parseNamedSource(text: string): NamedSource {
	if (isModelName(text)) return { modelName: parseModelName(text), sourceUrl: undefined };
	const name = suggestedName(text);
	if (name === undefined || !isModelName(name)) {
		throw invalid(
			"bad_model_name",
			`${JSON.stringify(text.slice(0, 120))} is neither a model name nor a source.`,
			{ field: "model_name" },
			"Examples: acme/tiny, hf:acme/tiny, acme/tiny:Q4_K_M, https://example.org/tiny.gguf",
		);
	}
	return { modelName: parseModelName(name), sourceUrl: text };
}

/** `acme/tiny` names a hub repository too; a name of one or three segments does not. */
export function hubSourceOf(name: ModelName): string | undefined {
	return name.split("/").length === 2 ? `hf:${name}` : undefined;
}

function suggestedName(text: string): string | undefined {
	const page = HUB_PAGE.exec(text)?.[1];
	if (page !== undefined) return repositoryOf(page);
	const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):/.exec(text)?.[1]?.toLowerCase();
	switch (scheme) {
		case undefined:
			return text.includes("/") ? repositoryOf(text) : undefined;
		case "hf":
			return repositoryOf(text.slice(3).replace(/^\/\//, ""));
		case "ollama":
		case "oci":
			return lastSegment(text.slice(scheme.length + 1)).replaceAll(/[:@]/g, "-");
		default:
			return /^[a-z0-9+.-]+:\/\//i.test(text) ? fileStem(text) : undefined;
	}
}

/** `org/name@revision:quantisation` without what follows the name. */
function repositoryOf(text: string): string {
	return text.split(/[@:]/, 1)[0] ?? "";
}

function lastSegment(path: string): string {
	return path.split("/").findLast((segment) => segment !== "") ?? "";
}

function fileStem(url: string): string {
	let file = lastSegment(url.replace(/[?#].*$/s, "").replace(/^[^:]+:\/\/[^/]*/, ""));
	try {
		file = decodeURIComponent(file);
	} catch {
		// An undecodable name is used as it stands.
	}
	const stem = file.replace(/\.(tar\.gz|tgz|tar|[A-Za-z][A-Za-z0-9]{1,11})$/i, "");
	const letters = stem
		.replaceAll(/[^A-Za-z0-9._-]+/g, "-")
		.replaceAll(/\.{2,}/g, ".")
		.replace(/^[^A-Za-z0-9]+/, "");
	return letters.slice(0, 96).replace(/[._-]+$/, "") || "model";
}
