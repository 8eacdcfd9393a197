// A small HTTP/1.1 server on the loopback interface that knows exactly which bytes went to the kernel and can
// misbehave at any of them: cut the connection, stall, drip, change a byte, leave the length out. Ready-made
// servers do not let a test do that. One answer at a time per connection, requests without a body.
import type { Socket } from "bun";
import { Answer, BLOCK_BYTES } from "./byte-server/answer.ts";
import {
	type ByteReply,
	type ByteRequest,
	type Exchange,
	exchangeOf,
	parseHead,
} from "./byte-server/messages.ts";
import { PACE_TICK_MS, Pacer } from "./pacer.ts";

/**
 * What the network does to the bodies of one connection; read again before every block.
 * A connection counts from the moment that a limit is set, so one that lived before is not cut at once.
 */
export interface Weather {
	/** The connection ends after so many body bytes. */
	cutAfterBytes?: number | undefined;
	/** Nothing more is sent after so many body bytes, and the connection stays open; goes on when this is lifted. */
	stallAfterBytes?: number | undefined;
	rateBytesPerSecond?: number | undefined;
}

export interface ByteServerOptions {
	answer(request: ByteRequest): ByteReply | Promise<ByteReply>;
	weather?: () => Weather;
	/** A loopback address; 127.0.0.1 unless told. Linux answers on all of 127.0.0.0/8. */
	address?: string;
	/** PEM texts; the server then speaks https. */
	tls?: { cert: string; key: string };
}

export interface ByteServer {
	port: number;
	url: string;
	/** Every request so far, oldest first. */
	exchanges: Exchange[];
	/** Closes every open connection now; new ones are accepted. */
	cutAll(): void;
	stop(): void;
}

const LONGEST_HEAD_BYTES = 64 * 1024;

export function startByteServer(options: ByteServerOptions): ByteServer {
	const exchanges: Exchange[] = [];
	const open = new Set<Connection>();
	const { address = "127.0.0.1" } = options;
	let accepted = 0;
	const listener = Bun.listen<Connection>({
		hostname: address,
		port: 0,
		...(options.tls ? { tls: options.tls } : {}),
		socket: {
			open(socket) {
				accepted += 1;
				socket.data = new Connection(socket, accepted, options, exchanges);
				open.add(socket.data);
			},
			data: (socket, bytes) => socket.data.received(bytes),
			drain: (socket) => socket.data.send(),
			close(socket) {
				open.delete(socket.data);
				socket.data.closed();
			},
			error: (socket) => socket.terminate(),
		},
	});
	const cutAll = () => {
		for (const connection of open) connection.end();
	};
	return {
		port: listener.port,
		url: `${options.tls ? "https" : "http"}://${address}:${listener.port}`,
		exchanges,
		cutAll,
		stop() {
			cutAll();
			listener.stop(true);
		},
	};
}

/** One TCP connection: bytes of a request head → one answer → the next head. */
class Connection {
	#socket: Socket<Connection>;
	#number: number;
	#options: ByteServerOptions;
	#exchanges: Exchange[];
	#input = Buffer.alloc(0);
	#answer: Answer | undefined;
	#busy = false;
	/** Body bytes since the limits below were seen first. */
	#bodyBytes = 0;
	#limits: Weather = {};
	#pacer = new Pacer();
	#timer: Timer | undefined;
	#ended = false;

	constructor(socket: Socket<Connection>, number: number, options: ByteServerOptions, exchanges: Exchange[]) {
		this.#socket = socket;
		this.#number = number;
		this.#options = options;
		this.#exchanges = exchanges;
	}

	received(bytes: Uint8Array): void {
		if (this.#input.length + bytes.length > LONGEST_HEAD_BYTES) return this.end();
		this.#input = Buffer.concat([this.#input, bytes]);
		if (!this.#busy) this.#goOn();
	}

	/** Sends as much as the socket, and the weather, allow; called again when there is room. */
	send(): void {
		clearTimeout(this.#timer);
		const answer = this.#answer;
		if (!answer || this.#ended) return;
		if (!answer.sendHead(this.#socket)) return;
		while (answer.left > 0) {
			const allowed = this.#allowance();
			if (allowed === "cut") return this.end();
			if (allowed <= 0) {
				this.#timer = setTimeout(() => this.send(), PACE_TICK_MS);
				return;
			}
			const sent = answer.sendBody(this.#socket, allowed);
			if (sent < 0) return this.end();
			this.#bodyBytes += sent;
			this.#pacer.spent(sent);
			if (answer.waitsForRoom) return;
		}
		if (this.#allowance() === "cut") return this.end();
		answer.close();
		this.#answer = undefined;
		this.#busy = false;
		if (answer.closes) return this.end();
		this.#goOn();
	}

	end(): void {
		this.#ended = true;
		this.closed();
		this.#socket.end();
	}

	closed(): void {
		this.#ended = true;
		clearTimeout(this.#timer);
		this.#answer?.close();
		this.#answer = undefined;
	}

	#goOn(): void {
		// What cannot be answered, such as a file that has vanished, ends the connection.
		this.#next().catch(() => this.end());
	}

	async #next(): Promise<void> {
		const headEnd = this.#input.indexOf("\r\n\r\n");
		if (headEnd < 0 || this.#ended) return;
		this.#busy = true;
		const head = this.#input.toString("latin1", 0, headEnd);
		this.#input = this.#input.subarray(headEnd + 4);
		const request = parseHead(head);
		let reply: ByteReply = { status: 400, headers: { connection: "close" } };
		if (request) {
			try {
				reply = await this.#options.answer(request);
			} catch (error) {
				reply = { status: 500, headers: { connection: "close" }, body: String(error) };
			}
		}
		if (this.#ended) return;
		const exchange = exchangeOf(request, reply.status, this.#number);
		this.#exchanges.push(exchange);
		this.#answer = new Answer(reply, exchange, request?.headers.get("connection") === "close");
		this.send();
	}

	/** How many body bytes may go now. */
	#allowance(): number | "cut" {
		const { cutAfterBytes, stallAfterBytes, rateBytesPerSecond } = this.#options.weather?.() ?? {};
		if (cutAfterBytes !== this.#limits.cutAfterBytes || stallAfterBytes !== this.#limits.stallAfterBytes) {
			this.#limits = { cutAfterBytes, stallAfterBytes };
			this.#bodyBytes = 0;
		}
		const untilCut = (cutAfterBytes ?? Infinity) - this.#bodyBytes;
		if (untilCut <= 0) return "cut";
		const untilStall = (stallAfterBytes ?? Infinity) - this.#bodyBytes;
		const wanted = Math.min(BLOCK_BYTES, untilCut, untilStall);
		return rateBytesPerSecond === undefined ? wanted : this.#pacer.allowed(rateBytesPerSecond, wanted);
	}
}
