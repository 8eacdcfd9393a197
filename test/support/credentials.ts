/** Keys and certificates for tests, made as agents make theirs, and kept in memory. */
import { type HostCredentials, hostCredentials } from "../../src/agent/credentials.ts";
import type { DataDir } from "../../src/agent/data-dir.ts";
import { createRequest, generateTlsKey, keyPem, type KeyPair } from "../../src/core/identity/identity.ts";
import { type Clock, systemClock } from "../../src/platform/clock.ts";
import { systemIds } from "../../src/platform/ids.ts";

export type Pems = Pick<DataDir, "readPem" | "writePem">;

/** What a data directory keeps of keys and certificates. */
export function memoryPems(kept = new Map<string, string>()): Pems {
	return { readPem: (name) => kept.get(name), writePem: (name, text) => void kept.set(name, text) };
}

/** Of a host whose CA is in `pems`, or new. */
export function testCredentials(clock: Clock = systemClock, pems = memoryPems()): Promise<HostCredentials> {
	return hostCredentials({ dataDir: pems, clusterId: "test", clock, ids: systemIds });
}

/** A node's key and its request. */
export async function testRequest(node: string, key: KeyPair = generateTlsKey()) {
	return { key, certificate_request: await createRequest(keyPem(key.privateKey), node) };
}
