// A plain web server of one directory, as people run to hand out model files, with the manners such servers lack.
import { readdirSync, statSync } from "node:fs";
import { join, normalize } from "node:path";
import { type ByteServer, startByteServer, type Weather } from "./byte-server.ts";
import type { ByteReply, ByteRequest } from "./byte-server/messages.ts";
import { LOOPBACK_CERTIFICATE } from "./loopback-certificate.ts";
import { rangedReply } from "./ranged-reply.ts";

export interface FileServerFaults extends Weather {
	/** False: the body ends when the connection does. */
	sendLength?: boolean | undefined;
	/** False: every answer is the whole file. */
	acceptRange?: boolean | undefined;
	/** False: no ETag. */
	sendEtag?: boolean | undefined;
	/** Path → address; answers 302. */
	redirects?: Record<string, string> | undefined;
	/** Answers so many requests with this status first. */
	failFirst?: { times: number; status: number; retryAfterSeconds?: number } | undefined;
	/** Added to every answer, over what the server would say. */
	headers?: Record<string, string> | undefined;
}

export interface FileServerOptions {
	dir: string;
	/** Speaks https with `LOOPBACK_CERTIFICATE`. */
	https?: boolean;
	/** Every request needs this Authorization header. */
	authorization?: string;
}

export interface FileServer extends ByteServer {
	/** Switches faults; those not named stay, undefined turns one off. */
	set(faults: FileServerFaults): void;
}

export function startFileServer(options: FileServerOptions): FileServer {
	const faults: FileServerFaults = {};
	const server = startByteServer({
		answer: (request) => answer(request, options, faults),
		weather: () => faults,
		...(options.https ? { tls: LOOPBACK_CERTIFICATE } : {}),
	});
	return { ...server, set: (changed) => Object.assign(faults, structuredClone(changed)) };
}

function answer(request: ByteRequest, options: FileServerOptions, faults: FileServerFaults): ByteReply {
	if (faults.failFirst && faults.failFirst.times > 0) {
		faults.failFirst.times -= 1;
		const seconds = faults.failFirst.retryAfterSeconds;
		const headers = seconds === undefined ? {} : { "retry-after": String(seconds) };
		return { status: faults.failFirst.status, headers, body: "not now\n" };
	}
	if (options.authorization && request.headers.get("authorization") !== options.authorization) {
		return { status: 401, headers: { "www-authenticate": "Bearer" }, body: "who are you?\n" };
	}
	const { pathname } = new URL(request.target, "http://files");
	const location = faults.redirects?.[pathname];
	if (location !== undefined) return { status: 302, headers: { location }, body: "" };
	const file = join(options.dir, normalize(decodeURIComponent(pathname)));
	const stat = statSync(file, { throwIfNoEntry: false });
	if (stat?.isDirectory()) return { status: 200, body: `${readdirSync(file).join("\n")}\n` };
	if (!stat) return { status: 404, body: "no such file\n" };
	if (faults.acceptRange === false) request.headers.delete("range");
	const etag = `"${stat.size.toString(16)}-${Math.round(stat.mtimeMs * 1000).toString(16)}"`;
	const reply = rangedReply(request, {
		file,
		sizeBytes: stat.size,
		etag,
		headers: { "content-type": "application/octet-stream", "last-modified": stat.mtime.toUTCString() },
	});
	const headers: Record<string, string> = { ...reply.headers, ...faults.headers };
	if (faults.sendEtag === false) delete headers.etag;
	if (faults.acceptRange === false) delete headers["accept-ranges"];
	return { ...reply, headers, sendLength: faults.sendLength ?? true };
}
