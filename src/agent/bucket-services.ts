/** Which services of buckets this agent reads from, by its configuration, its environment and the files of AWS's tools. */
import type { BucketCredentials, BucketService } from "../core/source/source.ts";
import { type AwsProfile, awsProfile } from "../platform/aws-files.ts";
import type { AwsEnvironment, BucketConfig, Config } from "../platform/config.ts";
import { GswarmError } from "../schema/errors.ts";

export interface BucketServices {
	s3?: BucketService;
	gs?: BucketService;
}

const DEFAULT_REGION = "us-east-1";
/** Google's XML API, which takes HMAC keys for S3's signatures. */
const GOOGLE = "https://storage.googleapis.com";

/**
 * A scheme that nobody configured, and for which there are no credentials, is not there.
 * @throws INVALID_REQUEST bad_config for a profile that does not exist
 */
export function bucketServices(sources: Config["sources"], aws: AwsEnvironment): BucketServices {
	const s3 = s3Service(sources.s3, aws);
	const gs = sources.gs === undefined ? undefined : gsService(sources.gs, aws);
	return { ...(s3 === undefined ? {} : { s3 }), ...(gs === undefined ? {} : { gs }) };
}

/** Origins that the agent's own configuration names, which may be anywhere. */
export function ownOrigins({ s3, gs, ollama }: Config["sources"], aws: AwsEnvironment): string[] {
	const profile = awsProfile(aws.files, s3?.profile ?? aws.profile);
	return [s3?.endpoint ?? aws.endpoint ?? profile?.endpoint, gs?.endpoint, ollama].filter(
		(text) => text !== undefined && URL.canParse(text),
	) as string[];
}

function s3Service(config: BucketConfig | undefined, aws: AwsEnvironment): BucketService | undefined {
	const profile = namedProfile("s3", config?.profile, aws) ?? awsProfile(aws.files, aws.profile);
	// A profile that the configuration names goes before what happens to be in the environment.
	const credentials =
		config?.profile === undefined ? (credentialsOf(aws) ?? credentialsOf(profile)) : credentialsOf(profile);
	if (config === undefined && credentials === undefined) return undefined;
	const region = config?.region ?? aws.region ?? profile?.region ?? DEFAULT_REGION;
	const own = config?.endpoint ?? aws.endpoint ?? profile?.endpoint;
	return {
		endpoint: own === undefined ? `https://s3.${region}.amazonaws.com` : new URL(own).origin,
		region,
		pathStyle: config?.path_style ?? own !== undefined,
		credentials: config?.anonymous === true ? "anonymous" : credentials,
	};
}

function gsService(config: BucketConfig, aws: AwsEnvironment): BucketService {
	return {
		endpoint: config.endpoint ?? GOOGLE,
		region: config.region ?? "auto",
		pathStyle: config.path_style ?? true,
		credentials: config.anonymous ? "anonymous" : credentialsOf(namedProfile("gs", config.profile, aws)),
	};
}

function namedProfile(scheme: string, name: string | undefined, aws: AwsEnvironment): AwsProfile | undefined {
	if (name === undefined) return undefined;
	const profile = awsProfile(aws.files, name);
	if (credentialsOf(profile) !== undefined) return profile;
	throw new GswarmError(
		"INVALID_REQUEST",
		`sources.${scheme}.profile: there is no profile ${JSON.stringify(name)} with a key in the files of AWS's tools.`,
		{ reason: "bad_config", hint: `\`aws configure --profile ${name}\` makes one, for the agent's user.` },
	);
}

function credentialsOf(from: AwsProfile | undefined): BucketCredentials | undefined {
	const { accessKeyId, secretAccessKey, sessionToken } = from ?? {};
	if (accessKeyId === undefined || secretAccessKey === undefined) return undefined;
	return { accessKeyId, secretAccessKey, sessionToken };
}
