/**
 * Credentials and settings that the tools of AWS keep (`~/.aws/credentials`, `~/.aws/config`), by profile:
 * https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html. Only plain keys are read: nothing is run
 * (`credential_process`), nobody is asked (SSO, roles, a machine's metadata service).
 */

export interface AwsProfile {
	accessKeyId?: string | undefined;
	secretAccessKey?: string | undefined;
	sessionToken?: string | undefined;
	region?: string | undefined;
	/** `endpoint_url`. */
	endpoint?: string | undefined;
}

/** The profile as both files have it, that of the credentials first; undefined where neither knows it. */
export function awsProfile(
	{ credentials, config }: { credentials: string; config: string },
	profile: string,
): AwsProfile | undefined {
	const section = profile === "default" ? ["default", "profile default"] : [`profile ${profile}`];
	const own = sectionsOf(credentials).get(profile);
	const shared = sectionsOf(config);
	const more = section.map((name) => shared.get(name)).find((found) => found !== undefined);
	if (own === undefined && more === undefined) return undefined;
	const of = (key: string): string | undefined => own?.get(key) ?? more?.get(key);
	return {
		accessKeyId: of("aws_access_key_id"),
		secretAccessKey: of("aws_secret_access_key"),
		sessionToken: of("aws_session_token"),
		region: of("region"),
		endpoint: of("endpoint_url"),
	};
}

/** Settings by section; lines that are indented belong to the setting above them and are left out. */
function sectionsOf(text: string): Map<string, Map<string, string>> {
	const sections = new Map<string, Map<string, string>>();
	let current: Map<string, string> | undefined;
	for (const line of text.split(/\r?\n/)) {
		const name = /^\[([^\]]+)\]/.exec(line)?.[1]?.trim().replace(/\s+/g, " ");
		if (name !== undefined) {
			current = sections.get(name) ?? new Map<string, string>();
			sections.set(name, current);
			continue;
		}
		const [, key, value] = /^([A-Za-z_]\w*)\s*=\s*(.*)$/.exec(line) ?? [];
		if (key === undefined || value === undefined) continue;
		const plain = value.replace(/\s+[#;].*$/, "").trim();
		if (plain !== "") current?.set(key.toLowerCase(), plain);
	}
	return sections;
}
