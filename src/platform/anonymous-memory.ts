/** Memory straight from the kernel, which all threads of the process can reach by its address. Linux alone. */
import { dlopen } from "bun:ffi";

export interface AnonymousMemory {
	/** Zeroes, on a page's boundary; undefined when the kernel gives none. */
	map(bytes: number): number | undefined;
	unmap(address: number, bytes: number): void;
}

/** Undefined where the system's library is not one that is known here. */
export function loadAnonymousMemory(): AnonymousMemory | undefined {
	const libc = find();
	if (libc === undefined) return undefined;
	return {
		map(bytes) {
			const address = Number(libc.mmap(0, bytes, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS_NORESERVE, -1, 0));
			// MAP_FAILED is the highest address of all.
			return address <= 0 || address > Number.MAX_SAFE_INTEGER ? undefined : address;
		},
		unmap: (address, bytes) => void libc.munmap(address, bytes),
	};
}

const PROT_READ_WRITE = 0x1 | 0x2;
const MAP_PRIVATE_ANONYMOUS_NORESERVE = 0x2 | 0x20 | 0x4000;

function find() {
	if (process.platform !== "linux") return undefined;
	for (const name of ["libc.so.6", `libc.musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`]) {
		try {
			return dlopen(name, {
				mmap: { args: ["u64", "u64", "i32", "i32", "i32", "i64"], returns: "i64" },
				munmap: { args: ["u64", "u64"], returns: "i32" },
			}).symbols;
		} catch {
			// The other libc, then.
		}
	}
	return undefined;
}
