/** Tokens: of people, and the strings that let machines join. */
import { type Caller, mayGrant, roleRefused } from "../../core/identity/identity.ts";
import { type GswarmError, invalid } from "../../schema/errors.ts";
import { parseNewTokenName } from "../../schema/names.ts";
import type { TokenRole } from "../../schema/token.ts";
import type { Handlers } from "../http/app.ts";
import { whoIs } from "../http/answers.ts";
import type { HostRouteDependencies } from "./host-requests.ts";
import { makeJoinString } from "./join-routes.ts";

type PeopleRoutes = Pick<Handlers<"host">, "whoami" | "listTokens" | "createToken" | "revokeToken">;

const JOIN_TTL_S = 3600;
const LONGEST_JOIN_TTL_S = 30 * 86_400;

export function peopleRoutes(d: HostRouteDependencies): PeopleRoutes {
	const { people } = d.identity;
	return {
		whoami: ({ caller }) => whoIs(caller, { role: "host", name: d.hostName, clusterId: d.clusterId }),
		listTokens: () => {
			const tokens = people.list();
			return { tokens, total: tokens.length };
		},
		createToken: async ({ body, caller }) => {
			if (body.kind === "join") {
				if (body.name !== undefined) throw onlyOf("name", "user");
				if (body.role !== undefined) throw onlyOf("role", "user");
				const ttlS = body.ttl_s ?? JOIN_TTL_S;
				if (ttlS > LONGEST_JOIN_TTL_S) throw tooLong(ttlS);
				const { uses = 1, approve = false } = body;
				return makeJoinString(d, { ttlS, uses, approve, createdBy: caller?.name ?? "admin" });
			}
			if (body.uses !== undefined) throw onlyOf("uses", "join");
			if (body.approve !== undefined) throw onlyOf("approve", "join");
			const { role, name } = requirePerson(body, caller);
			const { text, token } = await people.create({
				name: parseNewTokenName(name),
				role,
				ttlS: body.ttl_s,
				createdBy: caller?.name ?? "admin",
			});
			await d.authPush.everybody();
			return {
				token: text,
				token_id: token.token_id,
				expires_at: token.expires_at,
				uses: null,
				command: loginCommand(d.hostUrl(), d.credentials.pin),
			};
		},
		revokeToken: async ({ params }) => {
			const token = await people.revoke(params.token_id);
			const away = token.kind === "user" ? await d.authPush.everybody() : [];
			return { ...token, nodes_not_reached: away };
		},
	};
}

function requirePerson(
	body: { role?: TokenRole | undefined; name?: string | undefined },
	caller: Caller | undefined,
): { role: TokenRole; name: string } {
	const { role, name } = body;
	if (role === undefined)
		throw invalid("bad_field", 'Field "role": a person\'s token needs one.', { field: "role" });
	if (name === undefined)
		throw invalid("bad_field", 'Field "name": a person\'s token needs one.', { field: "name" });
	// Whoever calls this is an admin; should that ever change, nobody gives away more than they have.
	if (caller === undefined || !mayGrant(caller.role, role)) throw roleRefused(caller?.role ?? "viewer", role);
	return { role, name };
}

function onlyOf(field: string, kind: string): GswarmError {
	return invalid("bad_field", `Field ${JSON.stringify(field)}: only a token of kind ${kind} has one.`, {
		field,
	});
}

function tooLong(ttlS: number): GswarmError {
	return invalid("bad_field", `Field "ttl_s": ${ttlS}; a join string is good for 30 days at most.`, {
		field: "ttl_s",
		limit: LONGEST_JOIN_TTL_S,
	});
}

/** What a person types on their own machine; the pin is not needed where nothing is encrypted. */
function loginCommand(hostUrl: string, caPin: string): string {
	const pin = hostUrl.startsWith("https:") ? ` --ca-pin ${caPin}` : "";
	return `gswarm login ${hostUrl}${pin}`;
}
