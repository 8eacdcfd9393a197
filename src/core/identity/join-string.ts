/**
 * The join string `GSW10<pin>::<id>.<secret>`. The pin is the sha256 of the cluster's CA; it is empty while
 * the cluster speaks plain HTTP on loopback.
 */
import { invalid } from "../../schema/errors.ts";

export interface JoinString {
	caSha256: string | undefined;
	tokenId: string;
	secret: string;
}

export function formatJoinString({ caSha256, tokenId, secret }: JoinString): string {
	return `GSW10${caSha256 ?? ""}::${tokenId}.${secret}`;
}

/** @throws 400 bad_join_string, without repeating what was given: it may hold most of a secret */
export function parseJoinString(text: string): JoinString {
	const match = /^GSW10([0-9a-f]{64})?::([0-9a-z]{8})\.([0-9A-Za-z]{32})$/.exec(text.trim());
	const [, caSha256, tokenId, secret] = match ?? [];
	if (tokenId === undefined || secret === undefined) {
		throw invalid(
			"bad_join_string",
			"That is not a join string: wanted GSW10…::<id>.<secret>.",
			{},
			"`gswarm token create --join` on the host prints one.",
		);
	}
	return { caSha256, tokenId, secret };
}
