/** A peer that is a bare socket: a test says byte for byte what it answers, and sees what was asked. */
import { type AddressInfo, createServer, type Socket } from "node:net";

export interface RawRequest {
	head: string;
	/** Half open. */
	start: number;
	end: number;
	socket: Socket;
	/** Of the connection, from 1. */
	connection: number;
	/** Of this connection, from 1. */
	nth: number;
}

export interface RawPeer extends AsyncDisposable {
	port: number;
	requests: RawRequest[];
	connections(): number;
	/** Sockets that the other end has not closed. */
	open(): number;
}

export async function startRawPeer(
	answer: (request: RawRequest) => void,
	host = "127.0.0.1",
): Promise<RawPeer> {
	const requests: RawRequest[] = [];
	const sockets = new Set<Socket>();
	let connections = 0;
	const server = createServer((socket) => {
		const connection = ++connections;
		let nth = 0;
		let text = "";
		sockets.add(socket);
		socket.on("error", () => socket.destroy());
		socket.on("close", () => sockets.delete(socket));
		socket.on("data", (piece) => {
			text += piece.toString("latin1");
			for (let at = text.indexOf("\r\n\r\n"); at >= 0; at = text.indexOf("\r\n\r\n")) {
				const head = text.slice(0, at + 4);
				text = text.slice(at + 4);
				const [, start, last] = /^Range: bytes=(\d+)-(\d+)$/m.exec(head.replaceAll("\r", "")) ?? [];
				const request = {
					head,
					start: Number(start),
					end: Number(last) + 1,
					socket,
					connection,
					nth: ++nth,
				};
				requests.push(request);
				answer(request);
			}
		});
	});
	await new Promise<void>((resolve) => server.listen(0, host, resolve));
	return {
		port: (server.address() as AddressInfo).port,
		requests,
		connections: () => connections,
		open: () => sockets.size,
		[Symbol.asyncDispose]: () =>
			new Promise<void>((resolve) => {
				server.close(() => resolve());
				for (const socket of sockets) socket.destroy();
			}),
	};
}

/** The head of a right answer. */
export function rangeHead({ start, end }: { start: number; end: number }, total: number): string {
	return `HTTP/1.1 206 Partial Content\r\nContent-Length: ${end - start}\r\nContent-Range: bytes ${start}-${end - 1}/${total}\r\n\r\n`;
}

/** Sends a text again and again, a letter at a time, as long as somebody listens. */
export function drip(socket: Socket, text: string): void {
	let at = 0;
	const timer = setInterval(() => socket.write(text[at++ % text.length] ?? ""), 20);
	socket.on("close", () => clearInterval(timer));
}
