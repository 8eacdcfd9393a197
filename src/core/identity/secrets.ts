/**
 * Secrets of people for downloads: credentials of a hub or a web server, bound to the origins that may see them.
 * They are kept by the host in one file of their own, and given out only for an origin they are bound to; nodes ask
 * for them when a task needs one and keep them no longer than the task.
 * Neither lists nor errors nor logs hold a value.
 */
import { z } from "zod";
import type { Clock } from "../../platform/clock.ts";
import { GswarmError, invalid, notFound } from "../../schema/errors.ts";
import { parseSecretName, parseSecretOrigin } from "../../schema/secret-name.ts";
import { MAX_ORIGINS, MAX_SECRETS, type SecretDocument, secretSchema } from "../../schema/secret.ts";

/** Where the secrets are kept: readable by this user alone, replaced as a whole. */
export interface SecretFile {
	/** Undefined where there is none yet. */
	read(): string | undefined;
	/** @throws when it cannot be replaced; the old content stands then */
	write(text: string): Promise<void>;
}

export interface SecretInput {
	name: string;
	value: string;
	/** Undefined: as before, or the default of a well-known name. */
	origins: readonly string[] | undefined;
	/** Who sets it, for the list. */
	setBy: string;
}

export interface Secrets {
	list(): SecretDocument[];
	/** @throws 400 bad_secret_name, bad_origin, insecure_origin, origins_missing; 409 origin_taken, too_many_secrets */
	set(input: SecretInput): Promise<SecretDocument>;
	/** What was removed. @throws 404 secret_not_found */
	remove(name: string): Promise<SecretDocument>;
	/** The value that is bound to an origin. */
	valueFor(origin: string): string | undefined;
}

const storedSchema = z.strictObject({
	version: z.literal(1),
	secrets: z.array(secretSchema.extend({ value: z.string().min(1) })),
});
type StoredSecret = z.output<typeof storedSchema>["secrets"][number];

/**
 * `defaultOrigins`: by name of the secret, the origin that it is for unless told.
 * @throws INVALID_REQUEST bad_data_file
 */
export function openSecrets(
	{ file, clock }: { file: SecretFile; clock: Clock },
	{ defaultOrigins }: { defaultOrigins: Readonly<Record<string, string>> },
): Secrets {
	let known = readStored(file);
	let lastChange: Promise<unknown> = Promise.resolve();
	/** One change after the other; memory follows the file, never the other way round. */
	const change = <T>(make: () => { next: StoredSecret[]; answer: T }): Promise<T> => {
		const turn = lastChange.then(async () => {
			const { next, answer } = make();
			await file.write(`${JSON.stringify({ version: 1, secrets: next }, null, "\t")}\n`);
			known = next;
			return answer;
		});
		lastChange = turn.catch(() => undefined);
		return turn;
	};

	return {
		list: () => known.map(shown),
		set: (input) =>
			change(() => {
				const name = parseSecretName(input.name);
				const before = known.find((it) => it.name === name);
				const others = known.filter((it) => it.name !== name);
				const origins = originsOf(input, before, defaultOrigins);
				refuseTaken(origins, others);
				if (others.length >= MAX_SECRETS) throw tooMany();
				const { value, setBy } = input;
				const made: StoredSecret = { name, origins, set_at: clock.nowMs() / 1000, set_by: setBy, value };
				const next = [...others, made].sort((a, b) => (a.name < b.name ? -1 : 1));
				return { next, answer: shown(made) };
			}),
		remove: (name) =>
			change(() => {
				const gone = known.find((it) => it.name === name);
				if (gone === undefined) throw notFound("secret", name, "`gswarm secret list` shows them.");
				return { next: known.filter((it) => it !== gone), answer: shown(gone) };
			}),
		valueFor: (origin) => known.find((it) => it.origins.includes(origin))?.value,
	};
}

function shown({ name, origins, set_at, set_by }: StoredSecret): SecretDocument {
	return { name, origins, set_at, set_by };
}

function originsOf(
	{ name, origins }: SecretInput,
	before: StoredSecret | undefined,
	defaults: Readonly<Record<string, string>>,
): string[] {
	if (origins === undefined && before !== undefined) return before.origins;
	const fallback = Object.hasOwn(defaults, name) ? defaults[name] : undefined;
	const given = origins ?? (fallback === undefined ? [] : [fallback]);
	if (given.length === 0 || given.length > MAX_ORIGINS) {
		throw invalid(
			"origins_missing",
			`A secret is bound to 1 to ${MAX_ORIGINS} origins; ${JSON.stringify(name)} has no usual one.`,
			{ field: "origins" },
			`\`gswarm secret set ${name} --origin https://…\``,
		);
	}
	return [...new Set(given.map(parseSecretOrigin))];
}

/** Two secrets for one origin would leave open which one is sent. */
function refuseTaken(origins: readonly string[], others: readonly StoredSecret[]): void {
	for (const origin of origins) {
		const holder = others.find((it) => it.origins.includes(origin));
		if (holder === undefined) continue;
		throw new GswarmError("CONFLICT", `${origin} already has the secret ${JSON.stringify(holder.name)}.`, {
			reason: "origin_taken",
			details: { origin, secret: holder.name },
			hint: `Set that one anew, or \`gswarm secret remove ${holder.name}\` first.`,
		});
	}
}

function tooMany(): GswarmError {
	return new GswarmError("CONFLICT", `There are ${MAX_SECRETS} secrets already.`, {
		reason: "too_many_secrets",
		hint: "`gswarm secret remove NAME` makes room.",
	});
}

function readStored(file: SecretFile): StoredSecret[] {
	const text = file.read();
	if (text === undefined) return [];
	let json: unknown;
	try {
		json = JSON.parse(text);
	} catch {
		// The parser's message repeats what it could not read.
		throw badFile();
	}
	const stored = storedSchema.safeParse(json);
	if (!stored.success) throw badFile();
	return stored.data.secrets;
}

function badFile(): GswarmError {
	return new GswarmError("INVALID_REQUEST", "The file of the secrets is not one that gswarm wrote.", {
		reason: "bad_data_file",
		hint: "Restore `secrets.json` in the data directory, or remove it and set the secrets again.",
	});
}
