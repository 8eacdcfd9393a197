/** Authorities as files, for programs that take nothing else. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { rootCertificates } from "node:tls";
import { writeFileDurably } from "../platform/durable-file.ts";
import { ensurePrivateDirectory } from "../platform/private-directory.ts";

/** Where distributions keep the system's authorities in one file. */
const BUNDLES: readonly string[] = [
	"/etc/ssl/certs/ca-certificates.crt",
	"/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/ssl/ca-bundle.pem",
	"/etc/ssl/cert.pem",
];

export interface AuthorityFiles {
	/** The cluster's CA. */
	alone: string;
	/** The system's authorities and the cluster's: SSL_CERT_FILE takes the place of what a program trusts else. */
	withSystem: string;
}

/** Writes them below the command line's own directory. */
export async function writeAuthorities(
	directory: string,
	{ name, ca }: { name: string; ca: string },
): Promise<AuthorityFiles> {
	const folder = join(directory, "authorities");
	ensurePrivateDirectory(directory);
	ensurePrivateDirectory(folder);
	const files = { alone: join(folder, `${name}.pem`), withSystem: join(folder, `${name}-and-system.pem`) };
	await keep(files.alone, ca);
	await keep(files.withSystem, `${ca.trimEnd()}\n${systemAuthorities()}`);
	return files;
}

/** Every new shell may run `gswarm env`, and several open at once. */
async function keep(path: string, text: string): Promise<void> {
	if (existsSync(path) && readFileSync(path, "utf8") === text) return;
	await writeFileDurably(path, text, `${path}.${process.pid}.new`);
}

/** The system's, or where it has none in one file those that come with this program. */
function systemAuthorities(): string {
	for (const path of BUNDLES) {
		try {
			return readFileSync(path, "utf8");
		} catch {
			// The next one.
		}
	}
	return `${rootCertificates.join("\n")}\n`;
}
