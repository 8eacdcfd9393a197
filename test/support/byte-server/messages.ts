export interface ByteRequest {
	method: string;
	/** Path and query exactly as they came. */
	target: string;
	/** Names in lower case. */
	headers: Map<string, string>;
}

export interface FileRange {
	file: string;
	start: number;
	/** First byte that is not sent. */
	end: number;
	/** May change bytes of the file that are about to be sent; `offset` is where the block lies in the file. */
	alter?: (block: Uint8Array, offset: number) => void;
}

export interface ByteReply {
	status: number;
	headers?: Record<string, string>;
	body?: Uint8Array | string | FileRange;
	/** False leaves Content-Length out and ends the body by closing. */
	sendLength?: boolean;
}

export interface Exchange {
	method: string;
	target: string;
	range: string | undefined;
	authorization: string | undefined;
	headers: Record<string, string>;
	status: number;
	/** Body bytes that the kernel took; grows while the answer is on its way. */
	bytesSent: number;
	/** When the request was complete, on the clock of `performance.now`. */
	atMs: number;
	/** Number of the TCP connection, from 1 on. */
	connection: number;
}

export function parseHead(head: string): ByteRequest | undefined {
	const [first = "", ...lines] = head.split("\r\n");
	const [, method, target] = /^([A-Z]+) (\S+) HTTP\/1\.[01]$/.exec(first) ?? [];
	if (!method || !target) return undefined;
	const headers = new Map(
		lines.map((line) => {
			const colon = line.indexOf(":");
			return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()] as const;
		}),
	);
	const hasBody = headers.has("transfer-encoding") || Number(headers.get("content-length") ?? 0) > 0;
	return hasBody ? undefined : { method, target, headers };
}

export function exchangeOf(request: ByteRequest | undefined, status: number, connection: number): Exchange {
	return {
		method: request?.method ?? "",
		target: request?.target ?? "",
		range: request?.headers.get("range"),
		authorization: request?.headers.get("authorization"),
		headers: Object.fromEntries(request?.headers ?? []),
		status,
		bytesSent: 0,
		atMs: performance.now(),
		connection,
	};
}
