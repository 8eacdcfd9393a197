import type { Socket } from "bun";
import { closeSync, openSync, readSync } from "node:fs";
import { STATUS_CODES } from "node:http";
import type { ByteReply, Exchange, FileRange } from "./messages.ts";

export const BLOCK_BYTES = 512 * 1024;

/** One answer on its way: head, then body from memory or block by block from a file. */
export class Answer {
	readonly closes: boolean;
	left: number;
	waitsForRoom = false;
	#exchange: Exchange;
	#head: Uint8Array;
	#file: number | undefined;
	#range: FileRange | undefined;
	#block: Uint8Array;
	#at = 0;

	constructor(reply: ByteReply, exchange: Exchange, clientCloses: boolean) {
		const { body = "", sendLength = true } = reply;
		this.#exchange = exchange;
		const inMemory =
			typeof body === "string" ? Buffer.from(body) : body instanceof Uint8Array ? body : undefined;
		this.#range = inMemory ? undefined : (body as FileRange);
		const length = inMemory?.length ?? (this.#range ? this.#range.end - this.#range.start : 0);
		const bodiless = exchange.method === "HEAD" || reply.status === 204 || reply.status === 304;
		this.left = bodiless ? 0 : length;
		this.#block = inMemory ?? new Uint8Array(0);
		const headers: Record<string, string> = {
			...(sendLength && reply.status !== 204 ? { "content-length": String(length) } : {}),
			...(sendLength ? {} : { connection: "close" }),
			...reply.headers,
		};
		this.closes = clientCloses || headers.connection === "close";
		const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
		this.#head = Buffer.from(
			`HTTP/1.1 ${reply.status} ${STATUS_CODES[reply.status] ?? ""}\r\n${lines.join("")}\r\n`,
			"latin1",
		);
		if (this.#range && this.left > 0) {
			this.#file = openSync(this.#range.file, "r");
			this.#block = new Uint8Array(Math.min(BLOCK_BYTES, this.left)).subarray(0, 0);
		}
	}

	sendHead(socket: Socket<unknown>): boolean {
		if (this.#head.length > 0) this.#head = this.#head.subarray(Math.max(0, socket.write(this.#head)));
		return this.#head.length === 0;
	}

	/** Returns the number of bytes taken, or -1 when the file has become shorter or the socket is gone. */
	sendBody(socket: Socket<unknown>, allowed: number): number {
		if (this.#range && this.#at === this.#block.length && !this.#refill(this.#range)) return -1;
		const wanted = Math.min(allowed, this.#block.length - this.#at);
		const sent = socket.write(this.#block, this.#at, wanted);
		if (sent < 0) return -1;
		this.#at += sent;
		this.left -= sent;
		this.#exchange.bytesSent += sent;
		this.waitsForRoom = sent < wanted;
		return sent;
	}

	close(): void {
		if (this.#file !== undefined) closeSync(this.#file);
		this.#file = undefined;
	}

	#refill(range: FileRange): boolean {
		if (this.#file === undefined) return false;
		const offset = range.end - this.left;
		const room = new Uint8Array(this.#block.buffer);
		const read = readSync(this.#file, room, 0, Math.min(room.length, this.left), offset);
		this.#block = room.subarray(0, read);
		this.#at = 0;
		if (read > 0) range.alter?.(this.#block, offset);
		return read > 0;
	}
}
