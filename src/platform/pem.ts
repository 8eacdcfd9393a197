/** PEM (RFC 7468): exactly one block and nothing beside it, so that what was checked is what is used. */
import { sha256Hex } from "./hash.ts";

export function toPem(label: string, der: Buffer): string {
	const lines = der.toString("base64").match(/.{1,64}/g) ?? [];
	return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}

/** The DER of the one block of this kind; undefined when the text is anything else. */
export function fromPem(label: string, text: string): Buffer<ArrayBuffer> | undefined {
	const block = new RegExp(`^-----BEGIN ${label}-----([A-Za-z0-9+/=\\s]+)-----END ${label}-----$`);
	const base64 = block.exec(text.trim())?.[1]?.replaceAll(/\s/g, "");
	return base64 === undefined || base64 === "" ? undefined : Buffer.from(base64, "base64");
}

/** sha256 of a certificate's DER in hex, by which people and join strings name a cluster; undefined for none. */
export function certificatePin(certificate: string): string | undefined {
	const der = fromPem("CERTIFICATE", certificate);
	return der === undefined ? undefined : sha256Hex(der);
}
