// A TCP proxy between any client and a port of this machine, with real sockets that really break.
// Offsets and limits count the bytes that travel from the target to the client, per connection.
import { createServer, connect, type AddressInfo, type Socket } from "node:net";
import { PACE_TICK_MS, Pacer } from "./pacer.ts";

export interface ProxyFaults {
	/** Both sockets end after so many bytes reached the client. */
	cutAfterBytes?: number | undefined;
	/** The byte at this offset arrives changed, on the next `times` connections that get so far. */
	flipAt?: { offset: number; times: number } | undefined;
	/** Nothing passes in either direction while the sockets stay open. */
	stall?: boolean | undefined;
	rateBytesPerSecond?: number | undefined;
	/** One way; a round trip takes twice as long. */
	latencyMs?: number | undefined;
	/** New connections are closed at once. */
	refuse?: boolean | undefined;
}

export interface FaultProxy {
	port: number;
	/** http; the proxy itself does not care what is spoken. */
	url: string;
	/** Switches faults; those not named stay, undefined turns one off. */
	set(faults: ProxyFaults): void;
	/** Breaks every open connection with a reset. */
	cutAll(): void;
	/** Connections accepted so far. */
	connections(): number;
	/** Bytes that went to clients so far. */
	bytesToClients(): number;
	stop(): void;
}

const HOST = "127.0.0.1";
/** Per direction and connection; enough for 1 GB/s at 8 ms. */
const MOST_HELD_BYTES = 8 * 1024 * 1024;

export async function startFaultProxy(targetPort: number, initial: ProxyFaults = {}): Promise<FaultProxy> {
	const faults: ProxyFaults = { ...initial };
	const sockets = new Set<Socket>();
	let accepted = 0;
	let delivered = 0;
	const server = createServer({ noDelay: true, allowHalfOpen: true }, (client) => {
		accepted += 1;
		if (faults.refuse) return void client.destroy();
		const target = connect({ port: targetPort, host: HOST, noDelay: true, allowHalfOpen: true });
		for (const socket of [client, target]) {
			sockets.add(socket);
			socket.on("close", () => sockets.delete(socket));
		}
		const breakOff = () => {
			client.destroy();
			target.destroy();
		};
		for (const socket of [client, target]) socket.on("error", breakOff);
		void forward(client, target, () => ({ stall: faults.stall, latencyMs: faults.latencyMs })).catch(
			breakOff,
		);
		void forward(
			target,
			client,
			() => faults,
			(bytes) => (delivered += bytes),
		).catch(breakOff);
	});
	await new Promise<void>((resolve) => server.listen(0, HOST, resolve));
	const { port } = server.address() as AddressInfo;
	const cutAll = () => {
		for (const socket of sockets) socket.resetAndDestroy();
	};
	return {
		port,
		url: `http://${HOST}:${port}`,
		set: (changed) => Object.assign(faults, structuredClone(changed)),
		cutAll,
		connections: () => accepted,
		bytesToClients: () => delivered,
		stop() {
			server.close();
			cutAll();
		},
	};
}

/** Moves bytes one way until the sender ends; reads on only when the receiver has room, so little is buffered. */
async function forward(
	from: Socket,
	to: Socket,
	faults: () => ProxyFaults,
	count: (bytes: number) => void = () => {},
): Promise<void> {
	const pacer = new Pacer();
	let passed = 0;
	for await (const chunk of delayed(from, () => faults().latencyMs ?? 0)) {
		for (let at = 0; at < chunk.length; ) {
			const { cutAfterBytes = Infinity, rateBytesPerSecond, stall } = faults();
			if (passed >= cutAfterBytes) return endBoth(from, to);
			const wanted = stall ? 0 : Math.min(chunk.length - at, cutAfterBytes - passed);
			const allowed = rateBytesPerSecond === undefined ? wanted : pacer.allowed(rateBytesPerSecond, wanted);
			if (allowed <= 0) {
				if (to.destroyed) return;
				await Bun.sleep(PACE_TICK_MS);
				continue;
			}
			const block = chunk.subarray(at, at + allowed);
			flip(faults().flipAt, block, passed);
			if (!to.write(block)) await drained(to);
			pacer.spent(allowed);
			at += allowed;
			passed += allowed;
			count(allowed);
		}
		if (passed >= (faults().cutAfterBytes ?? Infinity)) return endBoth(from, to);
	}
	to.end();
}

/** What a socket receives, each piece `latencyMs` after it came in. */
async function* delayed(socket: Socket, latencyMs: () => number): AsyncGenerator<Buffer> {
	const line: { dueMs: number; chunk: Buffer }[] = [];
	let heldBytes = 0;
	let open = true;
	let wake = () => {};
	socket.on("data", (chunk: Buffer) => {
		line.push({ dueMs: performance.now() + latencyMs(), chunk });
		heldBytes += chunk.length;
		if (heldBytes >= MOST_HELD_BYTES) socket.pause();
		wake();
	});
	for (const event of ["end", "close"]) {
		socket.on(event, () => {
			open = false;
			wake();
		});
	}
	while (open || line.length > 0) {
		const first = line.shift();
		if (!first) {
			await new Promise<void>((resolve) => (wake = resolve));
			continue;
		}
		const earlyMs = first.dueMs - performance.now();
		if (earlyMs > 0) await Bun.sleep(earlyMs);
		yield first.chunk;
		heldBytes -= first.chunk.length;
		if (heldBytes < MOST_HELD_BYTES) socket.resume();
	}
}

function endBoth(from: Socket, to: Socket): void {
	to.end();
	from.destroy();
	// The other direction keeps a half-open socket alive otherwise.
	to.once("finish", () => to.destroy());
}

function flip(wanted: ProxyFaults["flipAt"], block: Buffer, passed: number): void {
	const at = (wanted?.offset ?? -1) - passed;
	const byte = block[at];
	if (!wanted || wanted.times <= 0 || byte === undefined) return;
	block[at] = byte ^ 0x01;
	wanted.times -= 1;
}

function drained(socket: Socket): Promise<void> {
	return new Promise((resolve, reject) => {
		const settle = () => {
			socket.off("drain", settle);
			socket.off("close", settle);
			if (socket.destroyed) reject(new Error("the receiver went away"));
			else resolve();
		};
		socket.on("drain", settle);
		socket.on("close", settle);
	});
}
