/** A certificate that the operator brings (`--tls-cert`, `--tls-key`), checked before anything is opened with it. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { GswarmError } from "../schema/errors.ts";
import type { ListenerCertificate } from "./http/listener.ts";

export interface CertificateFiles {
	/** PEM: the certificate, then those between it and its authority. */
	certificate: string;
	/** PEM, mode 0600. */
	key: string;
}

const MAX_BYTES = 256 * 1024;

/**
 * @throws INVALID_REQUEST bad_tls_certificate, bad_tls_key, unsafe_tls_key, tls_key_mismatch,
 * tls_certificate_expired, tls_certificate_not_yet_valid
 */
export function readOwnCertificate(files: CertificateFiles, nowMs: number): ListenerCertificate {
	const certificate = read(files.certificate, "--tls-cert", "bad_tls_certificate");
	const mode = statSync(files.key, { throwIfNoEntry: false })?.mode;
	if (mode !== undefined && (mode & 0o077) !== 0) {
		throw refused("unsafe_tls_key", `--tls-key ${files.key} can be read by other users.`, {
			hint: `chmod 600 ${files.key}`,
		});
	}
	const privateKey = read(files.key, "--tls-key", "bad_tls_key");
	const leaf = parsed(
		() => new X509Certificate(certificate),
		"bad_tls_certificate",
		`--tls-cert ${files.certificate} does not begin with a certificate in PEM.`,
	);
	const key = parsed(
		() => createPrivateKey(privateKey),
		"bad_tls_key",
		`--tls-key ${files.key} does not hold a private key in PEM without a passphrase.`,
	);
	if (!leaf.checkPrivateKey(key)) {
		throw refused("tls_key_mismatch", `The key in ${files.key} is not that of ${files.certificate}.`, {
			hint: "The certificate of the server comes first in its file, those above it after it.",
		});
	}
	if (leaf.validToDate.getTime() <= nowMs) {
		throw refused("tls_certificate_expired", `--tls-cert ${files.certificate} ended on ${leaf.validTo}.`, {
			hint: "Renew it, or leave --tls-cert and --tls-key out: the cluster then makes its own.",
		});
	}
	if (leaf.validFromDate.getTime() > nowMs) {
		throw refused(
			"tls_certificate_not_yet_valid",
			`--tls-cert ${files.certificate} begins on ${leaf.validFrom}.`,
			{ hint: "Check this machine's date." },
		);
	}
	return { certificate, privateKey };
}

function read(path: string, flag: string, reason: string): string {
	try {
		const stat = statSync(path);
		if (!stat.isFile() || stat.size > MAX_BYTES) throw new Error("not a file of at most 256 kB");
		return readFileSync(path, "utf8");
	} catch (cause) {
		const why = (cause as NodeJS.ErrnoException).code ?? (cause as Error).message;
		throw refused(reason, `${flag} ${path} cannot be read (${why}).`, { cause });
	}
}

function parsed<T>(parse: () => T, reason: string, message: string): T {
	try {
		return parse();
	} catch (cause) {
		throw refused(reason, message, { cause });
	}
}

function refused(reason: string, message: string, more: { hint?: string; cause?: unknown }): GswarmError {
	return new GswarmError("INVALID_REQUEST", message, { reason, ...more });
}
