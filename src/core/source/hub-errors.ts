/** What the hub's refusals mean for a person, by status and X-Error-Code, and what to do. */
import { GswarmError } from "../../schema/errors.ts";
import { statusError } from "./answer.ts";
import type { HubUri } from "./source-uri.ts";

interface Refusal {
	reason: string;
	message: string;
	hint: string;
}

export interface RefusalContext {
	hasToken: boolean;
	/** The command that stores a token for this hub. */
	setSecret: string;
	nowMs: number;
}

/** The error of an answer that is not a success; its body is dropped. */
export async function hubError(
	response: Response,
	uri: HubUri,
	context: RefusalContext,
): Promise<GswarmError> {
	await response.body?.cancel();
	const refusal = refusalOf(response.status, response.headers.get("x-error-code"), uri, context);
	if (refusal === undefined) return statusError(response, uri.repository, context.nowMs);
	const { reason, message, hint } = refusal;
	return new GswarmError("TASK_FAILED", message, {
		reason,
		hint,
		details: { repository: uri.repository, status: response.status },
	});
}

function refusalOf(
	status: number,
	code: string | null,
	uri: HubUri,
	{ hasToken, setSecret }: RefusalContext,
): Refusal | undefined {
	const { repository, revision = "main" } = uri;
	if (code === "GatedRepo") {
		return {
			reason: "gated",
			message: hasToken
				? `${repository} is gated, and the token's account has no access to it.`
				: `${repository} is gated: it is given only to people who accepted its licence.`,
			hint: `Accept the licence on the model's page (https://huggingface.co/${repository})${hasToken ? "." : `, then store your token: ${setSecret}`}`,
		};
	}
	if (code === "RevisionNotFound") {
		return {
			reason: "revision_not_found",
			message: `${repository} has no revision ${JSON.stringify(revision)}.`,
			hint: "Its branches, tags and commits are on the model's page under Files.",
		};
	}
	if (code === "EntryNotFound") {
		return {
			reason: "not_found",
			message: `${repository} no longer has that file in revision ${JSON.stringify(revision)}.`,
			hint: "Start the download again to list its files anew.",
		};
	}
	if (code === "RepoNotFound" || (status === 404 && code === null)) {
		return {
			reason: "not_found",
			message: `The hub has no model ${repository}${hasToken ? ", or the token may not see it" : ", or it is private"}.`,
			hint: hasToken
				? "Check the spelling and the token's access."
				: `Check the spelling; for a private model store a token that may see it: ${setSecret}`,
		};
	}
	if (status !== 401 && status !== 403) return undefined;
	// Without a token the hub does not tell a missing repository from a private one.
	return {
		reason: "auth",
		message: hasToken
			? `The hub did not accept the token for ${repository} (${status}).`
			: `${repository} does not exist or is private; the hub does not say which without a token.`,
		hint: hasToken
			? `The token may have expired, or lack access to this model. A new one: ${setSecret}, or HF_TOKEN of the agent.`
			: `Check the spelling; for a private model store a token that may see it: ${setSecret}`,
	};
}
