/**
 * TCP sockets whose calls block the thread, straight from libc: for a Worker that does nothing but receive. JavaScript
 * streams cost more than the network does at this rate. Linux on x64 and arm64, glibc and musl; undefined elsewhere.
 */
import { dlopen, FFIType, read } from "bun:ffi";
import { isIP } from "node:net";

export interface BlockingSockets {
	/** A connected socket; undefined when nobody answers within the limit, or nobody is there. */
	connect(address: string, port: number, limits: SocketLimits): number | undefined;
	/** Whether all bytes went to the kernel. */
	send(fd: number, bytes: Uint8Array): boolean;
	/**
	 * Fills the buffer, or with `whole: false` takes what is there. Returns early, with less or with NOTHING_YET, when
	 * a slice of time is over; 0 is the end of the stream, BROKEN any other end.
	 */
	receive(fd: number, buffer: Uint8Array, options: { whole: boolean }): number;
	/** Whether something has come that nobody asked for, or the other end has closed. Does not wait. */
	hasNews(fd: number): boolean;
	/** Wakes whoever is blocked on it, in any thread; the socket stays open. */
	shutdown(fd: number): void;
	close(fd: number): void;
}

export interface SocketLimits {
	connectMs: number;
	/** How long one `receive` blocks at most. */
	sliceMs: number;
	/** Of the kernel; left out: the kernel grows it as it likes. */
	receiveBufferBytes?: number | undefined;
}

export const NOTHING_YET = -1;
export const BROKEN = -2;

/** Loads libc. Each thread loads its own. */
export function loadBlockingSockets(): BlockingSockets | undefined {
	const libc = loadLibc();
	if (libc === undefined) return undefined;
	const errno = (): number => {
		const place = libc.__errno_location();
		return place === null ? 0 : read.i32(place);
	};
	return {
		connect(address, port, { connectMs, sliceMs, receiveBufferBytes }) {
			const where = socketAddress(address, port);
			if (where === undefined) return undefined;
			const fd = libc.socket(where.family, SOCK_STREAM | SOCK_CLOEXEC, 0);
			if (fd < 0) return undefined;
			const set = (level: number, name: number, value: Int32Array | BigInt64Array): boolean =>
				libc.setsockopt(fd, level, name, value, value.byteLength) === 0;
			// A larger window must be asked for before the handshake.
			const sized =
				receiveBufferBytes === undefined || set(SOL_SOCKET, SO_RCVBUF, Int32Array.of(receiveBufferBytes));
			const ready =
				sized &&
				set(SOL_SOCKET, SO_SNDTIMEO, timeval(connectMs)) &&
				set(SOL_SOCKET, SO_RCVTIMEO, timeval(sliceMs)) &&
				set(IPPROTO_TCP, TCP_NODELAY, Int32Array.of(1)) &&
				libc.connect(fd, where.bytes, where.bytes.byteLength) === 0;
			if (ready) return fd;
			libc.close(fd);
			return undefined;
		},
		send(fd, bytes) {
			for (let at = 0; at < bytes.byteLength; ) {
				const count = Number(libc.send(fd, bytes.subarray(at), bytes.byteLength - at, MSG_NOSIGNAL));
				if (count <= 0) return false;
				at += count;
			}
			return true;
		},
		receive(fd, buffer, { whole }) {
			const count = Number(libc.recv(fd, buffer, buffer.byteLength, whole ? MSG_WAITALL : 0));
			if (count >= 0) return count;
			const why = errno();
			return why === EAGAIN || why === EINTR ? NOTHING_YET : BROKEN;
		},
		hasNews(fd) {
			const count = Number(libc.recv(fd, new Uint8Array(1), 1, MSG_PEEK | MSG_DONTWAIT));
			return count >= 0 || errno() !== EAGAIN;
		},
		shutdown: (fd) => void libc.shutdown(fd, SHUT_RDWR),
		close: (fd) => void libc.close(fd),
	};
}

/** The kernel ends this process with the one that started it, however that ends. False where that cannot be asked. */
export function dieWithParent(): boolean {
	return loadLibc()?.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) === 0;
}

const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_RCVBUF = 8;
const SO_RCVTIMEO = 20;
const SO_SNDTIMEO = 21;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const MSG_PEEK = 0x2;
const MSG_DONTWAIT = 0x40;
const MSG_WAITALL = 0x100;
const MSG_NOSIGNAL = 0x4000;
const SHUT_RDWR = 2;
const EINTR = 4;
const EAGAIN = 11;
const PR_SET_PDEATHSIG = 1;
const SIGKILL = 9;

/** The numbers above are those of these machines. */
const KNOWN_MACHINES: Readonly<Record<string, readonly string[]>> = {
	x64: ["libc.so.6", "libc.musl-x86_64.so.1"],
	arm64: ["libc.so.6", "libc.musl-aarch64.so.1"],
};

function loadLibc() {
	if (process.platform !== "linux") return undefined;
	for (const name of KNOWN_MACHINES[process.arch] ?? []) {
		try {
			return dlopen(name, {
				socket: { args: ["i32", "i32", "i32"], returns: "i32" },
				connect: { args: ["i32", "ptr", "u32"], returns: "i32" },
				send: { args: ["i32", "ptr", "u64", "i32"], returns: FFIType.i64_fast },
				recv: { args: ["i32", "ptr", "u64", "i32"], returns: FFIType.i64_fast },
				setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
				shutdown: { args: ["i32", "i32"], returns: "i32" },
				close: { args: ["i32"], returns: "i32" },
				prctl: { args: ["i32", "u64", "u64", "u64", "u64"], returns: "i32" },
				__errno_location: { args: [], returns: "ptr" },
			}).symbols;
		} catch {
			// The other libc, then.
		}
	}
	return undefined;
}

/** struct timeval with 64-bit fields. */
function timeval(ms: number): BigInt64Array {
	return BigInt64Array.of(BigInt(Math.floor(ms / 1000)), BigInt((ms % 1000) * 1000));
}

/** struct sockaddr_in or sockaddr_in6 of a literal address; undefined for anything else, scopes included. */
function socketAddress(address: string, port: number): { family: number; bytes: Uint8Array } | undefined {
	const version = isIP(address);
	if (version === 0 || address.includes("%")) return undefined;
	const bytes = new Uint8Array(version === 4 ? 16 : 28);
	const view = new DataView(bytes.buffer);
	const family = version === 4 ? AF_INET : AF_INET6;
	// In the byte order of the machine, which is little endian on both.
	view.setUint16(0, family, true);
	view.setUint16(2, port);
	if (version === 4) bytes.set(address.split(".").map(Number), 4);
	else bytes.set(addressBytes6(address), 8);
	return { family, bytes };
}

/** The 16 bytes of an IPv6 address that isIP has accepted. */
function addressBytes6(address: string): number[] {
	// The URL parser writes a dotted end as two groups.
	const plain = new URL(`http://[${address}]`).hostname.slice(1, -1);
	const [head = "", tail] = plain.split("::");
	const groups = (text: string): number[] =>
		text === "" ? [] : text.split(":").map((group) => Number.parseInt(group, 16));
	const [first, last] = [groups(head), groups(tail ?? "")];
	const gap = tail === undefined ? 0 : 8 - first.length - last.length;
	return [...first, ...Array.from({ length: gap }, () => 0), ...last].flatMap((group) => [
		group >> 8,
		group & 0xff,
	]);
}
