/**
 * A file behind a plain http or https URL. One GET of the first byte tells size, validator and whether ranges work
 * (signed URLs often allow GET alone, so there is no HEAD). Ranges are read only from a file that can be told from
 * its next version: by a strong ETag, a date, or the digest that the person claims.
 */
import type { Clock } from "../../platform/clock.ts";
import { sha256Hex } from "../../platform/hash.ts";
import type { Outbound } from "../../platform/outbound.ts";
import { withoutSecrets } from "../../platform/outbound-guard.ts";
import { parseSafePath } from "../../platform/safe-path.ts";
import { GswarmError } from "../../schema/errors.ts";
import { parseRevision, type Revision } from "../../schema/names.ts";
import {
	checkedBody,
	contentLength,
	parseContentRange,
	rangeHeader,
	rangeToAsk,
	sourceChanged,
	statusError,
	type Validator,
	validatorOf,
} from "./answer.ts";
import type { Source, SourceDescription } from "./contract.ts";
import { describeFiles } from "./description.ts";
import { type CredentialLookUp, createCredential, setSecretCommand } from "./credential.ts";
import { archiveKind, formatSourceUri, type HttpUri, lastSegment, suggestedName } from "./source-uri.ts";

export interface HttpSourceOptions {
	/** A file without length and without digest is described too; nothing can tell whether it came whole. */
	allowUnknownLength?: boolean | undefined;
}

interface Probe {
	sizeBytes: number | undefined;
	validator: Validator;
	ranges: boolean;
}

export function createHttpSource(
	{
		outbound,
		clock,
		credentials,
	}: { outbound: Outbound; clock: Clock; credentials?: CredentialLookUp | undefined },
	uri: HttpUri,
	options: HttpSourceOptions = {},
): Source {
	const what = withoutSecrets(uri.url);
	const credential = createCredential(uri.url, { lookUp: credentials });
	let validator: Validator | undefined;

	const failed = (response: Response): GswarmError => {
		const error = statusError(response, what, clock.nowMs());
		if (response.status !== 401 && response.status !== 403) return error;
		return credential.refused(what, credential.isKnown() ? error : withHint(error, uri.url));
	};
	const get = async (headers: Record<string, string>, signal: AbortSignal): Promise<Response> => {
		const { response } = await outbound.request(uri.url, {
			headers,
			signal,
			credential: await credential.at(signal),
		});
		return response;
	};
	const probe = async (signal: AbortSignal): Promise<Probe> => {
		const response = await get({ range: "bytes=0-0" }, signal);
		await response.body?.cancel();
		const found = readProbe(response);
		if (found === undefined) throw failed(response);
		return found;
	};

	return {
		async describe(signal): Promise<SourceDescription> {
			const found = await probe(signal);
			if (found.sizeBytes === undefined && uri.sha256 === undefined && options.allowUnknownLength !== true) {
				throw unknownLength(what);
			}
			validator = found.validator;
			const name = lastSegment(uri);
			return describeFiles({
				uri: formatSourceUri(uri),
				revision: revisionOf(uri, found),
				suggestedName: suggestedName(uri),
				archive: archiveKind(name),
				files: [
					{
						path: parseSafePath(name),
						sizeBytes: found.sizeBytes,
						digest: uri.sha256 === undefined ? undefined : { algorithm: "sha256", hex: uri.sha256 },
						rangeable: found.ranges && found.sizeBytes !== undefined && isPinned(uri, found.validator),
						parts: undefined,
					},
				],
			});
		},
		async read(file, range, signal) {
			const { sizeBytes } = file;
			if (sizeBytes === 0) return new Blob([]).stream();
			const wanted = rangeToAsk(file, range);
			const headers: Record<string, string> = wanted === undefined ? {} : { range: rangeHeader(wanted) };
			const etag = strongEtag(validator);
			if (wanted !== undefined && etag !== undefined) headers["if-range"] = etag;
			const response = await get(headers, signal);
			if (response.status === 416) {
				await response.body?.cancel();
				throw sourceChanged(what, `${sizeBytes} bytes`, "a shorter file");
			}
			if (response.status !== 200 && response.status !== 206) {
				await response.body?.cancel();
				throw failed(response);
			}
			return await checkedBody(response, { what, range: wanted, sizeBytes, validator });
		},
	};
}

/** Undefined for a status that is neither 200 nor 206 nor the 416 of an empty file. */
function readProbe(response: Response): Probe | undefined {
	const validator = validatorOf(response);
	const range = response.headers.get("content-range");
	if (response.status === 206) {
		const total = parseContentRange(range)?.total;
		return { sizeBytes: total, validator, ranges: total !== undefined };
	}
	if (response.status === 416 && range?.endsWith("*/0") === true)
		return { sizeBytes: 0, validator, ranges: false };
	if (response.status !== 200) return undefined;
	return { sizeBytes: contentLength(response), validator, ranges: false };
}

/** Whether parts of two answers are surely of one file, or a wrong mixture is found at the end. */
function isPinned(uri: HttpUri, validator: Validator): boolean {
	return uri.sha256 !== undefined || validator.etag !== undefined || validator.lastModified !== undefined;
}

function strongEtag(validator: Validator | undefined): string | undefined {
	return validator?.etag?.startsWith('"') === true ? validator.etag : undefined;
}

/** The best there is: the claimed digest, a strong ETag, the date, the size. */
function revisionOf(uri: HttpUri, { validator, sizeBytes }: Probe): Revision {
	if (uri.sha256 !== undefined) return parseRevision(`sha256-${uri.sha256}`);
	const digest = (...parts: unknown[]): string => sha256Hex(JSON.stringify(parts)).slice(0, 40);
	const etag = strongEtag(validator);
	if (etag !== undefined) return parseRevision(`etag-${digest(etag, sizeBytes)}`);
	const weak = validator.lastModified ?? validator.etag;
	if (weak !== undefined) return parseRevision(`modified-${digest(weak, sizeBytes)}`);
	return parseRevision(`size-${digest(withoutSecrets(uri.url), sizeBytes ?? null)}`);
}

/** A source that wants credentials, with what a person can do about it. */
function withHint(error: GswarmError, url: string): GswarmError {
	const { code, message, details, reason, status, retryable } = error;
	return new GswarmError(code, message, {
		...(reason === undefined ? {} : { reason }),
		details,
		status,
		retryable,
		hint: `If it wants a token, store one: ${setSecretCommand("NAME", url)}`,
		cause: error,
	});
}

function unknownLength(what: string): GswarmError {
	return new GswarmError(
		"NETWORK_ERROR",
		`${what} comes without a length and without a digest: nothing tells whether it came whole.`,
		{
			reason: "unknown_length",
			hint: "Add its digest to the URL as #sha256=…",
		},
	);
}
