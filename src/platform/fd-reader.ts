/** A regular file that is open, as bytes at any offset; for headers, which are read at once. */
import { fstatSync, readSync } from "node:fs";
import type { ByteReader } from "./gguf-cursor.ts";

export function fdReader(fd: number, name: string): ByteReader {
	return {
		name,
		sizeBytes: fstatSync(fd).size,
		read(offset, length) {
			const bytes = new Uint8Array(length);
			let have = 0;
			while (have < length) {
				const got = readSync(fd, bytes, have, length - have, offset + have);
				if (got === 0) break;
				have += got;
			}
			return bytes.subarray(0, have);
		},
	};
}
