/** What people type for an artifact of a registry: `ollama:llama3:8b`, `oci://registry/org/name:tag`. */

export interface RegistryUri {
	kind: "registry";
	scheme: "ollama" | "oci";
	/** Host and perhaps port; undefined: Ollama's registry, as the configuration has it. */
	host: string | undefined;
	/** `library/llama3`, `org/name`. */
	repository: string;
	/** A tag, or `sha256:…`; undefined: `latest`. */
	reference: string | undefined;
}

const SEGMENT = String.raw`[A-Za-z0-9][\w.-]{0,95}`;
const REFERENCE = String.raw`(?::(?<tag>\w[\w.-]{0,127}))?(?:@(?<digest>sha256:[0-9a-f]{64}))?`;
const OLLAMA = new RegExp(`^(?<repository>(?:${SEGMENT}/)?${SEGMENT})${REFERENCE}$`);
const OCI = new RegExp(
	String.raw`^(?<host>[A-Za-z0-9.-]{1,253}(?::\d{1,5})?|\[[0-9A-Fa-f:.]+\](?::\d{1,5})?)/(?<repository>${SEGMENT}(?:/${SEGMENT}){0,7})${REFERENCE}$`,
);
/** Of models without a namespace. */
const OLLAMA_LIBRARY = "library/";

/** Undefined when the text (what follows `ollama:` or `oci:`) is no name of an artifact. */
export function parseRegistryName(scheme: "ollama" | "oci", text: string): RegistryUri | undefined {
	const found = (scheme === "ollama" ? OLLAMA : OCI).exec(text.replace(/^\/\//, ""))?.groups;
	const { host, repository, tag, digest } = found ?? {};
	if (repository === undefined || repository.includes("..") || (tag ?? "").includes("..")) return undefined;
	return {
		kind: "registry",
		scheme,
		host: host?.toLowerCase(),
		repository: scheme === "ollama" && !repository.includes("/") ? OLLAMA_LIBRARY + repository : repository,
		// A digest says more than the tag beside it.
		reference: digest ?? tag,
	};
}

/** `digest` pins it. */
export function formatRegistryUri(uri: RegistryUri, digest?: string): string {
	const { scheme, host, repository } = uri;
	const reference = digest ?? uri.reference;
	const end = reference === undefined ? "" : `${reference.includes(":") ? "@" : ":"}${reference}`;
	if (scheme === "oci") return `oci://${host}/${repository}${end}`;
	return `ollama:${repository.startsWith(OLLAMA_LIBRARY) ? repository.slice(OLLAMA_LIBRARY.length) : repository}${end}`;
}

/** `llama3:8b` is `llama3-8b`. */
export function nameOfArtifact({ repository, reference }: RegistryUri): string {
	return `${baseName(repository)}${reference === undefined ? "" : `-${reference.replaceAll(":", "-")}`}`;
}

/** The last word of the repository; it does not change with the tag. */
export function baseName(repository: string): string {
	return repository.split("/").at(-1) ?? repository;
}
