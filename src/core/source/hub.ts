/**
 * Repositories of the Hugging Face hub, or of what speaks its protocol (https://huggingface.co/docs/hub/api):
 * `/api/models/{id}/revision/{rev}` pins the commit, `/api/models/{id}/tree/{commit}` lists files page by page with
 * their hashes, `/{id}/resolve/{commit}/{path}` redirects to signed, expiring URLs of a CDN. A signed URL is kept and
 * used for all ranges of its file, because resolves are rationed; when it is refused the hub is asked again.
 */
import type { Clock } from "../../platform/clock.ts";
import { withDeadline } from "../../platform/deadline.ts";
import { sha256Hex } from "../../platform/hash.ts";
import type { Outbound } from "../../platform/outbound.ts";
import { parseSafePath, pathProblem } from "../../platform/safe-path.ts";
import { invalid } from "../../schema/errors.ts";
import { parseRevision, type Revision } from "../../schema/names.ts";
import { rangeToAsk, readJson } from "./answer.ts";
import { type CredentialLookUp, createCredential, setSecretCommand } from "./credential.ts";
import type { Source, SourceFile } from "./contract.ts";
import { describeFiles } from "./description.ts";
import { type Hub, type ListedFile, listFiles, pinCommit } from "./hub-api.ts";
import { hubError } from "./hub-errors.ts";
import { chooseFiles, type FileChoice } from "./hub-files.ts";
import { createHubReader, type HubReader } from "./hub-reader.ts";
import { formatSourceUri, type HubUri, suggestedName } from "./source-uri.ts";

export interface HubEndpoint {
	/** Default https://huggingface.co; its origin must be one that the outbound client allows. */
	endpoint?: string | undefined;
	/** Of the agent's own environment; sent to the endpoint's origin only. */
	token?: string | undefined;
}

const DEFAULT_ENDPOINT = "https://huggingface.co";
/** A page of the list is a few MB at most. */
const API_TIMEOUT_MS = 60_000;

export function createHubSource(
	{
		outbound,
		clock,
		credentials,
	}: { outbound: Outbound; clock: Clock; credentials?: CredentialLookUp | undefined },
	uri: HubUri,
	{ endpoint = DEFAULT_ENDPOINT, token }: HubEndpoint = {},
	choice: Pick<FileChoice, "include" | "exclude" | "allFiles"> = {},
): Source {
	const base = endpoint.replace(/\/+$/, "");
	const host = new URL(base).host;
	const credential = createCredential(base, { own: token, lookUp: credentials });
	const setSecret = base === DEFAULT_ENDPOINT ? "`gswarm secret set hf`" : setSecretCommand("hf", base);
	const hub: Hub = {
		uri,
		base,
		async failed(response) {
			const context = { hasToken: credential.isKnown(), setSecret, nowMs: clock.nowMs() };
			const error = await hubError(response, uri, context);
			const wantsMore = response.status === 401 || response.status === 403;
			return wantsMore ? credential.refused(uri.repository, error) : error;
		},
		getJson: (url, limitBytes, signal) =>
			withDeadline({ clock }, { limitMs: API_TIMEOUT_MS, host, signal }, async (limited) => {
				const { response } = await hub.get(url, { accept: "application/json" }, limited);
				if (response.status !== 200) throw await hub.failed(response);
				return { response, json: await readJson(response, uri.repository, limitBytes) };
			}),
		get: async (url, headers, signal) =>
			await outbound.request(url, { headers, signal, credential: await credential.at(signal) }),
	};
	let reader: HubReader | undefined;

	return {
		async describe(signal) {
			const commit = await pinCommit(hub, signal);
			const listed = await listFiles(hub, commit, signal);
			const { quantisation, path } = uri;
			const chosen = chooseFiles(listed, { ...choice, quantisation, path });
			reader = createHubReader(hub, commit);
			return describeFiles({
				uri: formatSourceUri(uri, commit),
				revision: revisionOf(commit, listed, chosen, quantisation),
				suggestedName: suggestedName(uri),
				files: chosen.map(toSourceFile),
			});
		},
		async read(file, range, signal) {
			if (reader === undefined) throw new Error("a source is described before it is read");
			if (file.sizeBytes === 0) return new Blob([]).stream();
			return await reader(file, rangeToAsk(file, range) ?? { start: 0, end: 0 }, signal);
		},
	};
}

function toSourceFile({ path, sizeBytes, digest }: ListedFile): SourceFile {
	if (pathProblem(path) !== undefined) {
		throw invalid(
			"unsafe_filename",
			`The repository's file ${JSON.stringify(path.slice(0, 200))} cannot be stored: ${pathProblem(path)}.`,
			{ path: path.slice(0, 200) },
			"Leave it out with exclude.",
		);
	}
	return { path: parseSafePath(path), sizeBytes, digest, rangeable: true, parts: undefined };
}

/**
 * The commit; a choice of files that is not the repository's default gets a suffix, so that two choices of one
 * commit can stand side by side.
 */
function revisionOf(
	commit: string,
	listed: readonly ListedFile[],
	chosen: readonly ListedFile[],
	quantisation: string | undefined,
): Revision {
	const paths = (files: readonly ListedFile[]): string =>
		JSON.stringify(files.map(({ path }) => path).sort());
	if (paths(chosen) === paths(defaultChoice(listed))) return parseRevision(commit);
	const ofQuantisation =
		quantisation !== undefined && paths(chosen) === paths(chooseFiles(listed, { quantisation }));
	const suffix = ofQuantisation
		? quantisation.toUpperCase().slice(0, 60)
		: sha256Hex(paths(chosen)).slice(0, 12);
	return parseRevision(`${commit}.${suffix}`);
}

/** Empty for a repository where one has to choose. */
function defaultChoice(listed: readonly ListedFile[]): readonly ListedFile[] {
	try {
		return chooseFiles(listed, {});
	} catch {
		return [];
	}
}
