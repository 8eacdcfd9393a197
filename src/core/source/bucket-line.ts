/**
 * Requests to a service that speaks S3's protocol (https://docs.aws.amazon.com/AmazonS3/latest/API/), signed by us
 * (Signature Version 4) and sent through the outbound client, so that its guard stands before buckets too; Bun's own
 * client would resolve names and connect by itself.
 */
import { AwsV4Signer } from "aws4fetch";
import type { Clock } from "../../platform/clock.ts";
import { sha256Hex } from "../../platform/hash.ts";
import type { Outbound } from "../../platform/outbound.ts";
import { GswarmError } from "../../schema/errors.ts";
import { sourceChanged, statusError } from "./answer.ts";
import type { BucketUri } from "./bucket-uri.ts";
import type { CredentialLookUp } from "./credential.ts";

export interface BucketCredentials {
	accessKeyId: string;
	secretAccessKey: string;
	sessionToken?: string | undefined;
}

/** Where the buckets of one scheme are, and as whom they are read. */
export interface BucketService {
	/** Origin, e.g. `https://s3.eu-central-1.amazonaws.com`. */
	endpoint: string;
	region: string;
	/** The bucket stands in the path; otherwise before the host's name. */
	pathStyle: boolean;
	/** Undefined: what the cluster keeps for the endpoint's origin, as `id:secret`. */
	credentials: BucketCredentials | "anonymous" | undefined;
}

export interface BucketRequest {
	method?: "GET" | "HEAD" | "PUT" | "POST" | "DELETE";
	/** Empty: of the bucket itself. */
	key: string;
	query?: Readonly<Record<string, string>>;
	/** Names in lower case. */
	headers?: Readonly<Record<string, string>>;
	body?: Uint8Array | undefined;
	/** Of the body, hex, where it is known. */
	sha256?: string | undefined;
	signal: AbortSignal;
	/** Until the headers of the answer are there, which come after the body has gone; default 30 s. */
	timeoutMs?: number;
}

export interface BucketLine {
	/** The answer whatever its status is. @throws as outbound; NETWORK_ERROR wrong_region */
	send(request: BucketRequest): Promise<Response>;
	/** What an answer that is no success means; its body is dropped. */
	failed(response: Response, what: string): Promise<GswarmError>;
}

const MAX_ERROR_BYTES = 16 * 1024;

export function createBucketLine(
	{
		outbound,
		clock,
		credentials: lookUp,
	}: { outbound: Outbound; clock: Clock; credentials?: CredentialLookUp | undefined },
	uri: Pick<BucketUri, "scheme" | "bucket">,
	service: BucketService,
): BucketLine {
	const { origin } = new URL(service.endpoint);
	let known: Promise<BucketCredentials | undefined> | undefined;
	const identity = async (signal: AbortSignal): Promise<BucketCredentials | undefined> => {
		if (service.credentials === "anonymous") return undefined;
		if (service.credentials !== undefined) return service.credentials;
		known ??= lookUp === undefined ? Promise.resolve(undefined) : storedCredentials(lookUp, origin, signal);
		return await known.catch((error: unknown) => {
			known = undefined;
			throw error;
		});
	};
	return {
		async send({ method = "GET", key, query = {}, headers = {}, body, sha256, signal, timeoutMs }) {
			const url = urlOf(service, uri.bucket, key, query);
			const signed = await sign(await identity(signal), {
				method,
				url,
				headers,
				sha256: sha256 ?? sha256Hex(body ?? ""),
			});
			try {
				const { response } = await outbound.request(url.href, {
					method,
					headers: signed.headers,
					credential:
						signed.authorization === undefined
							? undefined
							: { origin: url.origin, header: signed.authorization },
					body,
					maxRedirects: 0,
					signal,
					...(timeoutMs === undefined ? {} : { connectTimeoutMs: timeoutMs }),
				});
				return response;
			} catch (error) {
				if (error instanceof GswarmError && error.reason === "redirect_blocked")
					throw wrongRegion(uri, service, error);
				throw error;
			}
		},
		async failed(response, what) {
			const code = /<Code>([A-Za-z0-9.]{1,80})<\/Code>/.exec(await shortText(response))?.[1];
			return bucketError(response, { what, code, uri, service, nowMs: clock.nowMs() });
		},
	};

	async function sign(
		credentials: BucketCredentials | undefined,
		{
			method,
			url,
			headers,
			sha256,
		}: { method: string; url: URL; headers: Readonly<Record<string, string>>; sha256: string },
	): Promise<{ headers: Record<string, string>; authorization: string | undefined }> {
		if (credentials === undefined) return { headers: { ...headers }, authorization: undefined };
		const { accessKeyId, secretAccessKey, sessionToken } = credentials;
		const signer = new AwsV4Signer({
			method,
			url: url.href,
			headers: { ...headers, "x-amz-content-sha256": sha256 },
			accessKeyId,
			secretAccessKey,
			...(sessionToken === undefined ? {} : { sessionToken }),
			service: "s3",
			region: service.region,
			datetime: new Date(clock.nowMs()).toISOString().replaceAll(/[:-]|\.\d{3}/g, ""),
		});
		const { headers: made } = await signer.sign();
		const authorization = made.get("authorization") ?? undefined;
		made.delete("authorization");
		return { headers: Object.fromEntries(made), authorization };
	}
}

/** A key in a URL, as S3 wants it: everything but unreserved characters and slashes in percent signs. */
function urlOf(
	{ endpoint, pathStyle }: BucketService,
	bucket: string,
	key: string,
	query: Readonly<Record<string, string>>,
): URL {
	const url = new URL(endpoint);
	// A certificate for *.endpoint is none for a bucket with dots.
	const inPath = pathStyle || bucket.includes(".");
	if (!inPath) url.hostname = `${bucket}.${url.hostname}`;
	url.pathname = `/${inPath ? `${bucket}/` : ""}${key.split("/").map(encoded).join("/")}`;
	url.search = Object.entries(query)
		.map(([name, value]) => `${encoded(name)}=${encoded(value)}`)
		.join("&");
	return url;
}

function encoded(text: string): string {
	return encodeURIComponent(text).replaceAll(
		/[!'()*]/g,
		(character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
	);
}

/** A secret of the cluster, bound to the endpoint's origin. */
async function storedCredentials(
	lookUp: CredentialLookUp,
	origin: string,
	signal: AbortSignal,
): Promise<BucketCredentials | undefined> {
	const text = await lookUp(origin, signal);
	const [, accessKeyId, secretAccessKey] = /^([^:]+):(.+)$/.exec(text ?? "") ?? [];
	if (accessKeyId === undefined || secretAccessKey === undefined) return undefined;
	return { accessKeyId, secretAccessKey };
}

async function shortText(response: Response): Promise<string> {
	const blocks: Uint8Array[] = [];
	let size = 0;
	try {
		for await (const block of response.body ?? []) {
			blocks.push(block);
			size += block.byteLength;
			if (size >= MAX_ERROR_BYTES) break;
		}
	} catch {
		// The status says enough.
	}
	return new TextDecoder().decode(Buffer.concat(blocks).subarray(0, MAX_ERROR_BYTES));
}

interface ErrorInput {
	what: string;
	/** The service's own word. */
	code: string | undefined;
	uri: Pick<BucketUri, "scheme" | "bucket">;
	service: BucketService;
	nowMs: number;
}

function bucketError(response: Response, { what, code, uri, service, nowMs }: ErrorInput): GswarmError {
	const { status } = response;
	const region = response.headers.get("x-amz-bucket-region");
	if (status === 412) return sourceChanged(what, "what was described", "another object");
	if (status === 301 || code === "PermanentRedirect" || code === "AuthorizationHeaderMalformed")
		return wrongRegion(uri, service, undefined, region);
	const error = statusError(response, what, nowMs);
	const { message, reason, retryable, retryAfterS } = error;
	const told = { reason: reasonOf(code) ?? reason, hint: hintOf(code ?? String(status), uri, service) };
	return new GswarmError(error.code, message, {
		...(told.reason === undefined ? {} : { reason: told.reason }),
		...(told.hint === undefined ? {} : { hint: told.hint }),
		details: { status, ...(code === undefined ? {} : { service_code: code }) },
		retryable: retryable || code === "SlowDown" || code === "InternalError",
		...(retryAfterS === undefined ? {} : { retryAfterS }),
		cause: error,
	});
}

function reasonOf(code: string | undefined): string | undefined {
	if (code === "RequestTimeTooSkewed") return "clock_skew";
	return code === "NoSuchBucket" || code === "NoSuchKey" || code === "NoSuchUpload" ? "not_found" : undefined;
}

function hintOf(
	code: string,
	{ scheme, bucket }: Pick<BucketUri, "scheme" | "bucket">,
	{ endpoint, credentials }: BucketService,
): string | undefined {
	switch (code) {
		case "NoSuchBucket":
			return `${endpoint} has no bucket ${bucket}; check its name and sources.${scheme}.endpoint.`;
		case "RequestTimeTooSkewed":
			return "Signatures hold for minutes: check this machine's date.";
		case "InvalidAccessKeyId":
		case "SignatureDoesNotMatch":
			return `The key that the agent uses for ${scheme}: is not one of ${endpoint}; check its profile or variables.`;
		case "AccessDenied":
		case "401":
		case "403":
			return credentials === "anonymous"
				? `The bucket is not public; name credentials (sources.${scheme}.profile) instead of anonymous.`
				: `The agent's key for ${scheme}: may not do that, or there is none; see sources.${scheme} in the configuration.`;
		default:
			return undefined;
	}
}

function wrongRegion(
	{ scheme, bucket }: Pick<BucketUri, "scheme" | "bucket">,
	{ endpoint, region }: BucketService,
	cause?: unknown,
	actual: string | null = null,
): GswarmError {
	const there = /^[a-z0-9-]{1,40}$/.exec(actual ?? "")?.[0];
	return new GswarmError(
		"NETWORK_ERROR",
		`The bucket ${bucket} is not at ${endpoint} in the region ${region}.`,
		{
			reason: "wrong_region",
			details: { bucket, region, ...(there === undefined ? {} : { bucket_region: there }) },
			hint: `Set sources.${scheme}.region${there === undefined ? "" : ` to ${there}`} (or AWS_REGION of the agent).`,
			cause,
		},
	);
}
