import { invalid } from "../../schema/errors.ts";
import { defineCommand } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { formatDuration } from "../render/format.ts";
import { safeLine } from "../render/safe-text.ts";
import { count, lifetime, tokenName } from "../values.ts";
import { TOKEN_ROLE_NAMES } from "../words.ts";

export const command = defineCommand({
	about: `Makes a token for a person or a program (--role and --name), or a join string that lets another machine join this cluster as a node (--join). The secret is the only thing on the standard output, and is shown this once; what to type on the other machine stands beside it. There it goes to the standard input or a prompt, never onto the command line.
Roles: viewer reads; inference uses the served models and nothing else; user also downloads, copies and serves, and cancels what is theirs; operator also moves and deletes; admin also makes tokens, looks after nodes and may use --force.`,
	args: {
		role: {
			type: "enum",
			options: TOKEN_ROLE_NAMES,
			valueHint: "ROLE",
			description: `Of a person's token: ${TOKEN_ROLE_NAMES.join(", ")}`,
		},
		name: {
			type: "string",
			value: tokenName,
			valueHint: "NAME",
			description: "Whose it is, e.g. ann-laptop; shown by `token list` and `audit`",
		},
		join: { type: "boolean", description: "A string for machines that join" },
		ttl: {
			type: "string",
			value: lifetime,
			valueHint: "TIME",
			description: "How long it is good for (default: 1h with --join, else until it is revoked)",
		},
		uses: {
			type: "string",
			value: count,
			valueHint: "N",
			description: "With --join: how many machines may use it (default: 1)",
		},
		approve: {
			type: "boolean",
			description: "With --join: the machine waits until `gswarm node approve`",
		},
	},
	examples: [
		["token create --role user --name ann-laptop", "for a person, until it is revoked"],
		["token create --role inference --name chat-app --ttl 90d > token.txt", "for a program that uses models"],
		["token create --join", "for one machine, within an hour"],
		[
			"token create --join --ttl 10m --uses 4 | ssh other gswarm agent --join URL --detach",
			"straight to another machine",
		],
	],
	next: ["login URL", "agent --join URL", "token list"],
	async run({ api, out, say, world }, { join, role, name, ttl, uses, approve }) {
		refuseMixture({ join, role, name, uses, approve });
		const ttl_s = ttl === undefined ? undefined : Math.round(ttl / 1000);
		const body = await (await api()).call("createToken", {
			body: {
				kind: join ? "join" : "user",
				...(role === undefined ? {} : { role }),
				...(name === undefined ? {} : { name }),
				...(join ? { ttl_s: ttl_s ?? 3600, uses: uses ?? 1 } : ttl_s === undefined ? {} : { ttl_s }),
				...(approve ? { approve } : {}),
			},
		});
		await out.show(body, { names: () => [body.token], human: () => safeLine(body.token) });
		const leftS = body.expires_at === null ? undefined : body.expires_at - world.clock.nowMs() / 1000;
		const until = leftS === undefined ? "good until it is revoked" : `good for ${formatDuration(leftS)}`;
		const what = join
			? `For ${body.uses === 1 ? "one machine" : `${body.uses} machines`}, ${until}. On the other machine, with this string on its standard input:`
			: `For ${name} as ${role}, ${until}. On their machine, which asks for this token:`;
		if (join && world.terminal.stdout.isTty) {
			// It stands on this screen already; as input it comes into no list of processes there.
			say.info(`For ${body.uses === 1 ? "one machine" : `${body.uses} machines`}, ${until}. Paste there:\n`);
			say.info(`${safeLine(body.command)} <<'.'\n${safeLine(body.token)}\n.\n`);
			return EXIT.done;
		}
		say.info(what);
		say.info(`  ${safeLine(body.command)}`);
		return EXIT.done;
	},
});

function refuseMixture(given: {
	join: boolean;
	role: string | undefined;
	name: string | undefined;
	uses: number | undefined;
	approve: boolean;
}): void {
	const { join, role, name, uses, approve } = given;
	const fail = (message: string): Error =>
		invalid(
			"usage",
			message,
			{},
			"`gswarm token create --role user --name NAME`, or `gswarm token create --join`",
		);
	if (join && (role !== undefined || name !== undefined))
		throw fail("--join makes a string for machines; --role and --name are of a person's token.");
	if (join) return;
	if (role === undefined && name === undefined)
		throw fail(
			"Choose what to make: a person's token (--role and --name), or a join string for a machine (--join).",
		);
	if (role === undefined) throw fail("--role is missing: what may it do?");
	if (name === undefined) throw fail("--name is missing: whose is it?");
	if (uses !== undefined || approve) throw fail("--uses and --approve are of a join string.");
}
