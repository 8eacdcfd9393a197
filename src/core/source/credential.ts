/**
 * The credential that one source uses at its origin: the agent's own, else what the cluster keeps for that origin.
 * The cluster is asked once, when the first request is made, and the answer lives as long as the source, a task.
 * A cluster that cannot be asked is no failure yet: most sources want no credential.
 */
import type { OutboundRequest } from "../../platform/outbound.ts";
import { GswarmError } from "../../schema/errors.ts";

/** Asks the host for the secret that is bound to an origin. @throws when it cannot be asked */
export type CredentialLookUp = (origin: string, signal: AbortSignal) => Promise<string | undefined>;

export interface Credential {
	/** For a request at the origin; undefined where there is none. @throws the signal's reason */
	at(signal: AbortSignal): Promise<OutboundRequest["credential"]>;
	/** Whether there is one; known after the first request. */
	isKnown(): boolean;
	/** The error of a refusal: what the source said, or that the host could not be asked, which explains it. */
	refused(what: string, said: GswarmError): GswarmError;
}

export function createCredential(
	url: string,
	{ own, lookUp }: { own?: string | undefined; lookUp?: CredentialLookUp | undefined },
): Credential {
	const { origin } = new URL(url);
	let found: { bearer: string | undefined } | undefined = own === undefined ? undefined : { bearer: own };
	let asking: Promise<void> | undefined;
	let failure: unknown;

	const ask = async (signal: AbortSignal): Promise<void> => {
		try {
			found = { bearer: await lookUp?.(origin, signal) };
		} catch (error) {
			signal.throwIfAborted();
			failure = error;
			found = { bearer: undefined };
		} finally {
			asking = undefined;
		}
	};
	return {
		async at(signal) {
			if (found === undefined) await (asking ??= ask(signal));
			const bearer = found?.bearer;
			return bearer === undefined ? undefined : { origin, header: `Bearer ${bearer}` };
		},
		isKnown: () => found?.bearer !== undefined,
		refused: (what, said) => (failure === undefined ? said : hostAway(what, said, failure)),
	};
}

/** The command that stores what a source wants, for the hint of a refusal. */
export function setSecretCommand(name: string, url: string): string {
	return `\`gswarm secret set ${name} --origin ${new URL(url).origin}\``;
}

function hostAway(what: string, said: GswarmError, cause: unknown): GswarmError {
	// The host could be asked, and said why not.
	if (cause instanceof GswarmError && cause.code === "FORBIDDEN") return cause;
	return new GswarmError(
		"RESOURCE_UNAVAILABLE",
		`The source of ${what} wants credentials, and the host, which keeps them, could not be asked.`,
		{
			reason: "host_unreachable",
			details: { said: said.reason ?? said.code },
			hint: "It is tried again; see `gswarm health` on this machine, or set HF_TOKEN for its agent.",
			retryable: true,
			cause,
		},
	);
}
