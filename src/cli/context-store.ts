/**
 * The clusters that a person has logged in to: `contexts.json` (0600) in the command line's own directory, with the
 * address, the authority and the token of each. One of them may be in use.
 */
import { closeSync, openSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../platform/clock.ts";
import { ensurePrivateDirectory } from "../platform/private-directory.ts";
import { GswarmError, notFound } from "../schema/errors.ts";

export interface StoredContext {
	name: string;
	/** Origin, e.g. `https://gpu1.lan:8000`. */
	url: string;
	token: string;
	/** PEM of the cluster's CA; null: whom the system trusts. */
	ca: string | null;
	/** The name in the host's certificate, where it is not the host of the address. */
	server_name?: string;
	/** What the host said at the login. */
	user: string;
	role: string;
	cluster_id: string;
}

export interface ContextFile {
	/** Name of the one in use; null: this machine's agent. */
	current: string | null;
	contexts: StoredContext[];
}

/** Longer than any change takes. */
const LOCK_MS = 5_000;
const LOOK_EVERY_MS = 10;

/** What is stored; nothing where nobody has logged in. @throws INVALID_REQUEST unsafe_contexts, bad_contexts */
export function readContexts(directory: string): ContextFile {
	const path = pathOf(directory);
	let text: string;
	try {
		if ((statSync(path).mode & 0o077) !== 0) {
			throw new GswarmError("INVALID_REQUEST", `${path} can be read by other users, and holds tokens.`, {
				reason: "unsafe_contexts",
				hint: `\`chmod 600 ${path}\`, and revoke those tokens if somebody may have read them.`,
			});
		}
		text = readFileSync(path, "utf8");
	} catch (error) {
		const { code } = error as NodeJS.ErrnoException;
		if (code === "ENOENT" || code === "ENOTDIR") return { current: null, contexts: [] };
		if (error instanceof GswarmError) throw error;
		throw damaged(path, error);
	}
	try {
		const file = JSON.parse(text) as ContextFile;
		if (isContextFile(file)) return file;
	} catch (error) {
		throw damaged(path, error);
	}
	throw damaged(path, undefined);
}

/**
 * Replaces the file by what `change` makes of it as it is then: one program after the other, so that none undoes what
 * another has just stored. @throws as readContexts, and what `change` throws
 */
export async function changeContexts(
	directory: string,
	clock: Pick<Clock, "nowMs" | "sleep">,
	change: (file: ContextFile) => ContextFile,
): Promise<void> {
	const { writeFileDurably } = await import("../platform/durable-file.ts");
	ensurePrivateDirectory(directory);
	const path = pathOf(directory);
	const lock = `${path}.lock`;
	while (!isTaken(lock)) {
		const age = clock.nowMs() - (statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? clock.nowMs());
		// Who made it has ended in the middle.
		if (age > LOCK_MS) rmSync(lock, { force: true });
		else await clock.sleep(LOOK_EVERY_MS);
	}
	try {
		const file = change(readContexts(directory));
		await writeFileDurably(path, `${JSON.stringify(file, null, "\t")}\n`);
	} finally {
		rmSync(lock, { force: true });
	}
}

/** Whether the lock is ours now. */
function isTaken(lock: string): boolean {
	try {
		closeSync(openSync(lock, "wx", 0o600));
		return true;
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
		throw error;
	}
}

/** @throws NOT_FOUND context_not_found */
export function contextNamed(file: ContextFile, name: string): StoredContext {
	const found = file.contexts.find((context) => context.name === name);
	if (found !== undefined) return found;
	const names = file.contexts.map((context) => context.name);
	throw notFound(
		"context",
		name,
		names.length === 0
			? "Nobody has logged in here yet: `gswarm login URL` makes one."
			: `There is ${names.join(", ")}; \`gswarm login URL\` makes another.`,
	);
}

function pathOf(directory: string): string {
	return join(directory, "contexts.json");
}

function isContextFile(file: unknown): file is ContextFile {
	if (typeof file !== "object" || file === null) return false;
	const { current, contexts } = file as Partial<ContextFile>;
	if (current !== null && typeof current !== "string") return false;
	return (
		Array.isArray(contexts) &&
		contexts.every(
			(one) =>
				[one?.name, one?.url, one?.token].every((text) => typeof text === "string") &&
				(one.ca === null || typeof one.ca === "string") &&
				["undefined", "string"].includes(typeof one.server_name) &&
				URL.canParse(one.url),
		)
	);
}

function damaged(path: string, cause: unknown): GswarmError {
	return new GswarmError("INVALID_REQUEST", `${path} cannot be read.`, {
		reason: "bad_contexts",
		hint: "Move it away and log in again.",
		cause,
	});
}
