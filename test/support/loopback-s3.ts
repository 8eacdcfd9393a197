// A stand-in of a service that speaks S3's protocol, on this machine: lists, ranged and conditional reads, multipart
// uploads, and signatures that are checked by a reading of the specification of its own. It shows that a client speaks
// this protocol, never that a real service still does. Bun's own S3 client is tried against it, so that the stand-in
// and our client cannot agree on something that nobody else would understand.
import { createHash, createHmac } from "node:crypto";

export interface S3Faults {
	/** Every object is answered whole. */
	ignoreRange?: boolean | undefined;
	contentRange?: string | undefined;
	/** Every answer has another ETag than the list said, and If-Match is not looked at. */
	changeEtag?: boolean | undefined;
	/** So many requests of objects fail first. */
	failFirst?: { times: number; status: number; code: string } | undefined;
	/** Parts of uploads are answered with this status, so many times. */
	failParts?: { times: number; status: number } | undefined;
	/** Over what the list says. */
	listXml?: string | undefined;
	/** Every request is sent to this address. */
	redirectTo?: string | undefined;
	/** Body of the answer to the completion of an upload, with status 200 as the real one does it. */
	completeXml?: string | undefined;
}

export interface S3Request {
	method: string;
	path: string;
	query: Record<string, string>;
	headers: Record<string, string>;
	bytes: number;
	status: number;
}

export interface LoopbackS3 {
	url: string;
	/** Bucket and key → bytes. */
	objects: Map<string, { bytes: Uint8Array; etag: string }>;
	put(bucket: string, key: string, bytes: Uint8Array | string): void;
	text(bucket: string, key: string): string | undefined;
	/** Uploads that were begun and neither completed nor aborted. */
	openUploads(): string[];
	requests: S3Request[];
	set(faults: S3Faults): void;
	stop(): void;
}

export interface S3Options {
	/** Undefined: anonymous reading. */
	keys?: { accessKeyId: string; secretAccessKey: string };
	region?: string;
	/** Empty ones; a bucket with objects is there anyway. */
	buckets?: readonly string[];
	pageSize?: number;
	minPartBytes?: number;
}

interface Upload {
	path: string;
	parts: Map<number, { bytes: Uint8Array; etag: string }>;
}

const md5 = (bytes: Uint8Array): Buffer => createHash("md5").update(bytes).digest();
const sha256 = (data: Uint8Array | string): string => createHash("sha256").update(data).digest("hex");
const escaped = (text: string): string =>
	text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");

export function startS3({
	keys,
	region = "us-east-1",
	buckets = [],
	pageSize = 1000,
	minPartBytes = 0,
}: S3Options = {}): LoopbackS3 {
	const faults: S3Faults = {};
	const objects: LoopbackS3["objects"] = new Map();
	const uploads = new Map<string, Upload>();
	const requests: S3Request[] = [];
	let nextUpload = 1;

	const store = (path: string, bytes: Uint8Array, etag = `"${md5(bytes).toString("hex")}"`): string => {
		objects.set(path, { bytes, etag });
		return etag;
	};
	const list = (bucket: string, query: Record<string, string>): Response => {
		if (faults.listXml !== undefined) return xml(faults.listXml);
		const prefix = `${bucket}/${query["prefix"] ?? ""}`;
		const all = [...objects.keys()].filter((path) => path.startsWith(prefix)).sort();
		if ("uploads" in query) {
			const entries = [...uploads]
				.filter(([, { path }]) => path.startsWith(prefix))
				.map(
					([id, { path }]) =>
						`<Upload><Key>${escaped(path.slice(bucket.length + 1))}</Key><UploadId>${id}</UploadId></Upload>`,
				);
			return xml(`<ListMultipartUploadsResult>${entries.join("")}</ListMultipartUploadsResult>`);
		}
		if (!buckets.includes(bucket) && ![...objects.keys()].some((path) => path.startsWith(`${bucket}/`)))
			return failure(404, "NoSuchBucket");
		const start = Number(query["continuation-token"]?.slice(1) ?? 0);
		const end = start + Math.min(pageSize, Number(query["max-keys"] ?? 1000));
		const name = (key: string): string =>
			query["encoding-type"] === "url" ? encodeURIComponent(key).replaceAll("%20", "+") : escaped(key);
		const entries = all.slice(start, end).map((path) => {
			const { bytes, etag } = objects.get(path) as { bytes: Uint8Array; etag: string };
			return `<Contents><Key>${name(path.slice(bucket.length + 1))}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>${escaped(etag)}</ETag><Size>${bytes.length}</Size><StorageClass>STANDARD</StorageClass></Contents>`;
		});
		const more = end < all.length;
		const next = more ? `<NextContinuationToken>t${end}</NextContinuationToken>` : "";
		const encoding = query["encoding-type"] === "url" ? "<EncodingType>url</EncodingType>" : "";
		return xml(
			`<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>${bucket}</Name>${encoding}<IsTruncated>${more}</IsTruncated>${entries.join("")}${next}</ListBucketResult>`,
		);
	};
	const get = (path: string, request: Request): Response => {
		const found = objects.get(path);
		if (found === undefined) return failure(404, "NoSuchKey");
		if (faults.failFirst !== undefined && faults.failFirst.times > 0) {
			faults.failFirst.times -= 1;
			return failure(faults.failFirst.status, faults.failFirst.code);
		}
		const { bytes } = found;
		const etag = faults.changeEtag === true ? '"other"' : found.etag;
		const wanted = request.headers.get("if-match");
		if (wanted !== null && wanted !== found.etag && faults.changeEtag !== true)
			return failure(412, "PreconditionFailed");
		const headers: Record<string, string> = { etag, "accept-ranges": "bytes" };
		const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.get("range") ?? "") ?? [];
		if (first === undefined || faults.ignoreRange === true) return new Response(bytes.slice(), { headers });
		const end = last === "" || last === undefined ? bytes.length : Math.min(Number(last) + 1, bytes.length);
		if (Number(first) >= bytes.length) return failure(416, "InvalidRange");
		headers["content-range"] = faults.contentRange ?? `bytes ${first}-${end - 1}/${bytes.length}`;
		return new Response(bytes.slice(Number(first), end), { status: 206, headers });
	};
	const post = (path: string, query: Record<string, string>, body: Uint8Array): Response => {
		if ("uploads" in query) {
			const id = `upload-${nextUpload++}`;
			uploads.set(id, { path, parts: new Map() });
			return xml(`<InitiateMultipartUploadResult><UploadId>${id}</UploadId></InitiateMultipartUploadResult>`);
		}
		const upload = uploads.get(query["uploadId"] ?? "");
		if (upload === undefined || upload.path !== path) return failure(404, "NoSuchUpload");
		if (faults.completeXml !== undefined) return xml(faults.completeXml);
		const named = [...new TextDecoder().decode(body).matchAll(/<Part>([\s\S]*?)<\/Part>/g)].map(
			([, part = ""]) => ({
				number: Number(/<PartNumber>(\d+)</.exec(part)?.[1]),
				etag: /<ETag>([^<]*)</.exec(part)?.[1]?.replaceAll("&quot;", '"'),
			}),
		);
		const parts = named.map(({ number, etag }) => {
			const part = upload.parts.get(number);
			return part?.etag === etag ? part : undefined;
		});
		const inOrder = named.every(({ number }, at) => at === 0 || number > (named[at - 1]?.number ?? 0));
		if (parts.length === 0 || parts.some((part) => part === undefined) || !inOrder)
			return failure(400, "InvalidPart");
		const known = parts.filter((part) => part !== undefined);
		if (known.slice(0, -1).some(({ bytes }) => bytes.length < minPartBytes))
			return failure(400, "EntityTooSmall");
		uploads.delete(query["uploadId"] ?? "");
		const digest = createHash("md5")
			.update(Buffer.concat(known.map(({ bytes }) => md5(bytes))))
			.digest("hex");
		const etag = store(path, Buffer.concat(known.map(({ bytes }) => bytes)), `"${digest}-${known.length}"`);
		return xml(
			`<CompleteMultipartUploadResult><ETag>${escaped(etag)}</ETag></CompleteMultipartUploadResult>`,
		);
	};
	const put = (path: string, query: Record<string, string>, body: Uint8Array): Response => {
		if (query["uploadId"] === undefined) return new Response(null, { headers: { etag: store(path, body) } });
		if (faults.failParts !== undefined && faults.failParts.times > 0) {
			faults.failParts.times -= 1;
			return failure(faults.failParts.status, "InternalError");
		}
		const upload = uploads.get(query["uploadId"]);
		if (upload === undefined || upload.path !== path) return failure(404, "NoSuchUpload");
		const etag = `"${md5(body).toString("hex")}"`;
		upload.parts.set(Number(query["partNumber"]), { bytes: body, etag });
		return new Response(null, { headers: { etag } });
	};
	const parts = (path: string, query: Record<string, string>): Response => {
		const upload = uploads.get(query["uploadId"] ?? "");
		if (upload === undefined || upload.path !== path) return failure(404, "NoSuchUpload");
		const entries = [...upload.parts].map(
			([number, { bytes, etag }]) =>
				`<Part><PartNumber>${number}</PartNumber><ETag>${escaped(etag)}</ETag><Size>${bytes.length}</Size></Part>`,
		);
		return xml(`<ListPartsResult><IsTruncated>false</IsTruncated>${entries.join("")}</ListPartsResult>`);
	};
	const answer = (request: Request, url: URL, query: Record<string, string>, body: Uint8Array): Response => {
		if (faults.redirectTo !== undefined)
			return new Response(null, { status: 307, headers: { location: faults.redirectTo } });
		if (keys !== undefined) {
			const problem = signatureProblem(request, url, body, { ...keys, region });
			if (problem !== undefined) return failure(403, problem);
		}
		const path = decodeURIComponent(url.pathname.slice(1));
		const [bucket = "", ...rest] = path.split("/");
		if (rest.join("/") === "")
			return request.method === "GET" ? list(bucket, query) : failure(405, "MethodNotAllowed");
		switch (request.method) {
			case "GET":
				return query["uploadId"] === undefined ? get(path, request) : parts(path, query);
			case "HEAD": {
				const found = objects.get(path);
				if (found === undefined) return new Response(null, { status: 404 });
				return new Response(null, {
					headers: { etag: found.etag, "content-length": String(found.bytes.length) },
				});
			}
			case "PUT":
				return put(path, query, body);
			case "POST":
				return post(path, query, body);
			case "DELETE":
				if (query["uploadId"] === undefined) objects.delete(path);
				else if (!uploads.delete(query["uploadId"])) return failure(404, "NoSuchUpload");
				return new Response(null, { status: 204 });
			default:
				return failure(405, "MethodNotAllowed");
		}
	};
	const server = Bun.serve({
		hostname: "127.0.0.1",
		port: 0,
		async fetch(request) {
			const url = new URL(request.url);
			const query = Object.fromEntries(url.searchParams);
			const body = new Uint8Array(await request.arrayBuffer());
			const response = answer(request, url, query, body);
			requests.push({
				method: request.method,
				path: decodeURIComponent(url.pathname),
				query,
				headers: Object.fromEntries(request.headers),
				bytes: body.length,
				status: response.status,
			});
			return response;
		},
	});
	return {
		url: `http://127.0.0.1:${server.port}`,
		objects,
		put: (bucket, key, bytes) => void store(`${bucket}/${key}`, Buffer.from(bytes)),
		text: (bucket, key) => {
			const found = objects.get(`${bucket}/${key}`);
			return found === undefined ? undefined : Buffer.from(found.bytes).toString();
		},
		openUploads: () => [...uploads.values()].map(({ path }) => path),
		requests,
		set: (changed) => Object.assign(faults, structuredClone(changed)),
		stop: () => void server.stop(true),
	};
}

function xml(text: string): Response {
	return new Response(text, { headers: { "content-type": "application/xml" } });
}

function failure(status: number, code: string): Response {
	const body = `<?xml version="1.0"?><Error><Code>${code}</Code><Message>canary text from outside</Message></Error>`;
	return new Response(body, { status, headers: { "content-type": "application/xml" } });
}

/** Signature Version 4 in the Authorization header; the service's code for what is wrong with it. */
function signatureProblem(
	request: Request,
	url: URL,
	body: Uint8Array,
	{ accessKeyId, secretAccessKey, region }: { accessKeyId: string; secretAccessKey: string; region: string },
): string | undefined {
	const given =
		/^AWS4-HMAC-SHA256 Credential=([^,]+), ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$/.exec(
			request.headers.get("authorization") ?? "",
		);
	if (given === null) return "AccessDenied";
	const [, credential = "", signedHeaders = "", signature] = given;
	const [key, day = "", credentialRegion, service, end] = credential.split("/");
	if (key !== accessKeyId) return "InvalidAccessKeyId";
	if (credentialRegion !== region || service !== "s3" || end !== "aws4_request")
		return "AuthorizationHeaderMalformed";
	const date = request.headers.get("x-amz-date") ?? "";
	const content = request.headers.get("x-amz-content-sha256") ?? "";
	if (content !== "UNSIGNED-PAYLOAD" && content !== sha256(body)) return "XAmzContentSHA256Mismatch";
	if (!signedHeaders.split(";").includes("host") || !date.startsWith(day)) return "SignatureDoesNotMatch";
	const rfc3986 = (text: string): string =>
		encodeURIComponent(text).replaceAll(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
	const canonicalQuery = [...url.searchParams]
		.map(([name, value]) => `${rfc3986(name)}=${rfc3986(value)}`)
		.sort()
		.join("&");
	const headers = signedHeaders
		.split(";")
		.map((name) => `${name}:${(request.headers.get(name) ?? "").trim()}\n`);
	const path = decodeURIComponent(url.pathname).split("/").map(rfc3986).join("/");
	const canonical = [request.method, path, canonicalQuery, headers.join(""), signedHeaders, content].join(
		"\n",
	);
	const scope = `${day}/${region}/s3/aws4_request`;
	const text = ["AWS4-HMAC-SHA256", date, scope, sha256(canonical)].join("\n");
	const hmac = (secret: Buffer | string, data: string): Buffer =>
		createHmac("sha256", secret).update(data).digest();
	const signing = [region, "s3", "aws4_request"].reduce(hmac, hmac(`AWS4${secretAccessKey}`, day));
	return hmac(signing, text).toString("hex") === signature ? undefined : "SignatureDoesNotMatch";
}
