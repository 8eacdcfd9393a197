/** Which buckets an agent reads, by its configuration, its environment and the files of AWS's tools. */
import { describe, expect, test } from "bun:test";
import { bucketServices, ownOrigins } from "../../src/agent/bucket-services.ts";
import type { AwsEnvironment, Config } from "../../src/platform/config.ts";
import { asGswarmError } from "../../src/schema/errors.ts";

const NOTHING: AwsEnvironment = {
	accessKeyId: undefined,
	secretAccessKey: undefined,
	sessionToken: undefined,
	region: undefined,
	endpoint: undefined,
	profile: "default",
	files: { credentials: "", config: "" },
};
const FILES = {
	credentials: `# comment
[default]
aws_access_key_id = DEFAULTID
aws_secret_access_key=default/secret+= ; said twice
[lab]
AWS_ACCESS_KEY_ID = LABID
aws_secret_access_key = labsecret
aws_session_token = labtoken
[half]
aws_access_key_id = HALFID
`,
	config: `[default]
region = eu-central-1
s3 =
  region = nested-and-not-read
[profile lab]
region = us-west-2
endpoint_url = http://minio.lan:9000
[profile run]
credential_process = touch /tmp/never
`,
};
const sources = (more: Partial<Config["sources"]> = {}): Config["sources"] => ({
	allow: [],
	allow_private: false,
	...more,
});

describe("s3:", () => {
	test("is not there where nobody configured it", () => {
		expect(bucketServices(sources(), NOTHING)).toEqual({});
		const half = { ...NOTHING, files: FILES, profile: "half" };
		expect(bucketServices(sources(), half)).toEqual({});
		expect(bucketServices(sources(), { ...NOTHING, files: FILES, profile: "run" })).toEqual({});
	});

	test("is the default profile's, in its region, at Amazon's address with the bucket before its name", () => {
		expect(bucketServices(sources(), { ...NOTHING, files: FILES })).toEqual({
			s3: {
				endpoint: "https://s3.eu-central-1.amazonaws.com",
				region: "eu-central-1",
				pathStyle: false,
				credentials: {
					accessKeyId: "DEFAULTID",
					secretAccessKey: "default/secret+=",
					sessionToken: undefined,
				},
			},
		});
	});

	test("follows the environment before the files, and a profile that the configuration names before both", () => {
		const env = { ...NOTHING, files: FILES, accessKeyId: "ENVID", secretAccessKey: "s", region: "eu-west-3" };
		expect(bucketServices(sources(), env).s3).toMatchObject({
			region: "eu-west-3",
			credentials: { accessKeyId: "ENVID" },
		});
		const s3 = { profile: "lab", anonymous: false };
		expect(bucketServices(sources({ s3 }), { ...env, region: undefined }).s3).toEqual({
			endpoint: "http://minio.lan:9000",
			region: "us-west-2",
			pathStyle: true,
			credentials: { accessKeyId: "LABID", secretAccessKey: "labsecret", sessionToken: "labtoken" },
		});
	});

	test("is anonymous, or asks the cluster's secrets, where its section says no more", () => {
		const endpoint = "https://s3.example";
		const of = (s3: Config["sources"]["s3"]) => bucketServices(sources({ s3 }), NOTHING).s3;
		expect(of({ endpoint, anonymous: true })).toMatchObject({ endpoint, credentials: "anonymous" });
		expect(of({ anonymous: false, path_style: false, endpoint })).toMatchObject({
			credentials: undefined,
			pathStyle: false,
		});
	});

	test("with a profile that has no key stops the start", () => {
		for (const profile of ["none", "half", "run"]) {
			try {
				bucketServices(sources({ s3: { profile, anonymous: false } }), { ...NOTHING, files: FILES });
				throw new Error("it was taken");
			} catch (error) {
				expect(asGswarmError(error)).toMatchObject({ code: "INVALID_REQUEST", reason: "bad_config" });
			}
		}
	});
});

test("gs: needs its section, and is Google's address with the bucket in the path", () => {
	const aws = { ...NOTHING, files: FILES };
	expect(bucketServices(sources({ gs: { profile: "lab", anonymous: false } }), aws).gs).toEqual({
		endpoint: "https://storage.googleapis.com",
		region: "auto",
		pathStyle: true,
		credentials: { accessKeyId: "LABID", secretAccessKey: "labsecret", sessionToken: "labtoken" },
	});
	expect(bucketServices(sources(), aws).gs).toBeUndefined();
});

test("only addresses that somebody configured are exempt from the guard", () => {
	expect(ownOrigins(sources(), NOTHING)).toEqual([]);
	expect(ownOrigins(sources(), { ...NOTHING, files: FILES, profile: "lab" })).toEqual([
		"http://minio.lan:9000",
	]);
	const own = sources({
		s3: { endpoint: "http://a.lan", anonymous: true },
		gs: { endpoint: "http://b.lan", anonymous: true },
		ollama: "http://c.lan",
	});
	expect(ownOrigins(own, NOTHING)).toEqual(["http://a.lan", "http://b.lan", "http://c.lan"]);
});
