/** Randomness behind an interface: the only file that makes it. */

export interface Ids {
	/** `length` random characters of 0-9 a-z (5.17 bits each). */
	short(length: number): string;
	/** `length` random characters of 0-9 A-Z a-z (5.95 bits each); for secrets. */
	secret(length: number): string;
	/** A number in [0, 1). */
	fraction(): number;
}

const BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz";

export const systemIds: Ids = {
	short: (length) => pick(BASE36, length),
	secret: (length) => pick(BASE62, length),
	fraction: () => {
		const [word] = crypto.getRandomValues(new Uint32Array(1));
		return (word ?? 0) / 2 ** 32;
	},
};

/** Draws without bias: bytes above the largest multiple of the alphabet's size are drawn again. */
function pick(alphabet: string, length: number): string {
	const limit = 256 - (256 % alphabet.length);
	let text = "";
	while (text.length < length) {
		const bytes = crypto.getRandomValues(new Uint8Array(length + 8));
		for (let at = 0; at < bytes.length && text.length < length; at++) {
			const byte = bytes[at] ?? limit;
			if (byte < limit) text += alphabet[byte % alphabet.length];
		}
	}
	return text;
}
