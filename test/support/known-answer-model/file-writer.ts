import { closeSync, openSync, writeSync } from "node:fs";

/** Writes one file front to back, however short each write of the system is. */
export class FileWriter {
	#file: number;
	#sizeBytes = 0;

	constructor(path: string) {
		this.#file = openSync(path, "w");
	}

	get sizeBytes(): number {
		return this.#sizeBytes;
	}

	write(bytes: Uint8Array): void {
		for (let at = 0; at < bytes.length; ) at += writeSync(this.#file, bytes, at, bytes.length - at);
		this.#sizeBytes += bytes.length;
	}

	/** Fills up to the next multiple of `alignment`. */
	pad(alignment: number): void {
		this.write(new Uint8Array((alignment - (this.#sizeBytes % alignment)) % alignment));
	}

	[Symbol.dispose](): void {
		closeSync(this.#file);
	}
}
