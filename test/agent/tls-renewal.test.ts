// What is open follows what is true: certificates that end, names that change, addresses that move, files that are replaced.
import { expect, test } from "bun:test";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
	type Listening,
	type ListeningOptions,
	LOOK_EVERY_MS,
	createListening,
} from "../../src/agent/listening.ts";
import { readOwnCertificate } from "../../src/agent/own-certificate.ts";
import { type Reach, createReach } from "../../src/agent/reach.ts";
import { readCertificate } from "../../src/core/identity/identity.ts";
import { HOST_SERVER_NAME } from "../../src/schema/names.ts";
import { createLog } from "../../src/platform/log.ts";
import { testCredentials } from "../support/credentials.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { LOOPBACK_CERTIFICATE } from "../support/loopback-certificate.ts";
import { tempDir } from "../support/temp-dir.ts";
import { testAuthority } from "./test-certificates.ts";

const DAY_MS = 86_400_000;
const HOST_LIFE_MS = 90 * DAY_MS;
const app = () => Promise.resolve(new Response("here"));

interface Stand extends AsyncDisposable {
	clock: FakeClock;
	reach: Reach;
	listening: Listening;
	/** Events of the log. */
	events: string[];
	changes: number;
}

function stand(change: Partial<ListeningOptions> & { tls?: boolean } = {}): Stand {
	// Certificates are judged by the real time.
	const clock = new FakeClock(Date.now());
	const events: string[] = [];
	const log = createLog({ clock, write: (line) => void events.push(JSON.parse(line).event) });
	const options = { tls: change.tls ?? true, advertise: [], machineNames: [], certifyMachineNames: true };
	const reach = createReach(options, { bind: "127.0.0.1", addresses: [] });
	const self = { clock, reach, events, changes: 0 } as unknown as Stand;
	const onChange = (): void => void self.changes++;
	self.listening = createListening({ clock, log }, { reach, survey: async () => {}, onChange, ...change });
	self[Symbol.asyncDispose] = () => self.listening[Symbol.asyncDispose]();
	return self;
}

const answers = async (port: number, ca: string, serverName: string = HOST_SERVER_NAME): Promise<string> => {
	try {
		const tls = { ca, serverName, rejectUnauthorized: true };
		return await (await fetch(`https://127.0.0.1:${port}/`, { tls })).text();
	} catch (error) {
		return (error as NodeJS.ErrnoException).code ?? "no code";
	}
};

test("a host's certificate is made again a third of its life before its end, and shown without a restart", async () => {
	await using s = stand();
	const credentials = await testCredentials(s.clock);
	const shown = await s.listening.certificates({ credentials, serverNames: [HOST_SERVER_NAME] });
	const listener = s.listening.open({ port: 0, app, shown });
	const first = shown();
	// As people suspend machines: months pass between two looks.
	s.clock.jumpWall((HOST_LIFE_MS * 2) / 3 - DAY_MS);
	await s.listening.settle();
	expect(shown()).toBe(first);
	s.clock.jumpWall(2 * DAY_MS);
	await s.clock.advance(LOOK_EVERY_MS);
	await s.listening.settle();
	expect(shown()).not.toBe(first);
	const { notAfterMs } = await readCertificate(shown()?.[0].certificate ?? "");
	expect(notAfterMs).toBeGreaterThan(s.clock.nowMs() + HOST_LIFE_MS - DAY_MS);
	expect(s.changes).toBe(1);
	expect(s.events).toContain("listener.replaced");
	await listener.close();
});

test("a look by itself is every minute; one that finds nothing new touches nothing", async () => {
	await using s = stand();
	const credentials = await testCredentials(s.clock);
	const shown = await s.listening.certificates({ credentials, serverNames: [HOST_SERVER_NAME] });
	const listener = s.listening.open({ port: 0, app, shown });
	await s.clock.advance(5 * LOOK_EVERY_MS);
	expect(s.changes).toBe(0);
	expect(s.events).toEqual([]);
	expect(await answers(listener.port, credentials.caCertificate)).toBe("here");
	await listener.close();
});

test("a renewal that fails leaves the certificate that there is, says so, and is tried again", async () => {
	await using s = stand();
	const good = await testCredentials(s.clock);
	let broken = false;
	const credentials: Pick<typeof good, "serverIdentity"> = {
		serverIdentity: (names) => (broken ? Promise.reject(new Error("no host")) : good.serverIdentity(names)),
	};
	const shown = await s.listening.certificates({ credentials, serverNames: [HOST_SERVER_NAME] });
	const listener = s.listening.open({ port: 0, app, shown });
	broken = true;
	s.clock.jumpWall(80 * DAY_MS);
	await s.listening.settle();
	expect(s.events).toEqual(["listener.certificate_not_renewed"]);
	expect(await answers(listener.port, good.caCertificate)).toBe("here");
	broken = false;
	await s.listening.settle();
	expect(s.changes).toBe(1);
	await listener.close();
});

test("an address that comes later is in the certificate a minute after, and in the list of Hosts", async () => {
	const addresses = ["10.0.0.7"];
	await using s = stand({
		survey: async () => s.reach.update({ bind: "0.0.0.0", addresses }),
	});
	s.reach.update({ bind: "0.0.0.0", addresses });
	const credentials = await testCredentials(s.clock);
	const shown = await s.listening.certificates({ credentials, serverNames: [HOST_SERVER_NAME] });
	const vouchedFor = async (): Promise<readonly string[]> =>
		(await readCertificate(shown()?.[0].certificate ?? "")).addresses;
	expect(await vouchedFor()).toEqual(["127.0.0.1", "::1", "10.0.0.7"]);
	expect(s.listening.allowedHosts(8000).has("10.0.0.8:8000")).toBe(false);
	addresses.push("10.0.0.8");
	await s.listening.settle();
	expect(await vouchedFor()).toEqual(["127.0.0.1", "::1", "10.0.0.7", "10.0.0.8"]);
	expect(s.listening.allowedHosts(8000).has("10.0.0.8:8000")).toBe(true);
});

test("a listener moves with the address of its machine, and speaks TLS as soon as that is not loopback", async () => {
	let bind = "127.0.0.1";
	await using s = stand({ tls: false, survey: async () => s.reach.update({ bind, addresses: [] }) });
	const credentials = await testCredentials(s.clock);
	const shown = await s.listening.certificates({ credentials, serverNames: [HOST_SERVER_NAME] });
	expect(shown()).toBeUndefined();
	const listener = s.listening.open({ port: 0, app, shown });
	expect(await (await fetch(`http://127.0.0.1:${listener.port}`)).text()).toBe("here");
	// All addresses are the only place beyond loopback that every machine has.
	bind = "0.0.0.0";
	await s.listening.settle();
	expect(listener.tls).toBe(true);
	expect(await answers(listener.port, credentials.caCertificate)).toBe("here");
	bind = "127.0.0.9";
	await s.listening.settle();
	expect(await (await fetch(`http://127.0.0.9:${listener.port}`)).text()).toBe("here");
	await listener.close();
});

test("without a certificate nothing is opened in its place, neither at first nor later", async () => {
	let bind = "127.0.0.1";
	await using s = stand({ tls: false, survey: async () => s.reach.update({ bind, addresses: [] }) });
	const none = { serverIdentity: () => Promise.reject(new Error("no host")) };
	const shown = await s.listening.certificates({ credentials: none, serverNames: [HOST_SERVER_NAME] });
	const listener = s.listening.open({ port: 0, app, shown });
	bind = "0.0.0.0";
	await s.listening.settle();
	expect(await (await fetch(`http://127.0.0.1:${listener.port}`)).text()).toBe("here");
	expect(() => s.listening.open({ port: 0, app, shown })).toThrow("no certificate");
	await listener.close();
});

test("parts go without TLS where everybody is trusted, and everything else goes on with it", async () => {
	await using s = stand();
	const credentials = await testCredentials(s.clock);
	const shown = await s.listening.certificates({ credentials, serverNames: [HOST_SERVER_NAME] });
	let trusted = false;
	const api = s.listening.open({ port: 0, app, shown });
	const peer = s.listening.open({ port: 0, app, shown, plain: () => trusted });
	expect([api.tls, peer.tls]).toEqual([true, true]);
	trusted = true;
	await s.listening.settle();
	expect([api.tls, peer.tls]).toEqual([true, false]);
	trusted = false;
	await s.listening.settle();
	expect([api.tls, peer.tls]).toEqual([true, true]);
	await Promise.all([api.close(), peer.close()]);
});

test("the operator's own certificate is read again when its file was replaced; a bad one changes nothing", async () => {
	using dir = tempDir();
	await using s = stand();
	const credentials = await testCredentials(s.clock);
	const files = { certificate: join(dir.path, "cert.pem"), key: join(dir.path, "key.pem") };
	const put = (certificate: string, key: string): void => {
		writeFileSync(files.certificate, certificate);
		writeFileSync(files.key, key);
		chmodSync(files.key, 0o600);
	};
	put(LOOPBACK_CERTIFICATE.cert, LOOPBACK_CERTIFICATE.key);
	const shown = await s.listening.certificates({
		credentials,
		serverNames: [HOST_SERVER_NAME],
		own: () => readOwnCertificate(files, Date.UTC(2027, 0, 1)),
	});
	const listener = s.listening.open({ port: 0, app, shown });
	expect(await answers(listener.port, LOOPBACK_CERTIFICATE.cert, "localhost")).toBe("here");
	expect(await answers(listener.port, credentials.caCertificate)).toBe("here");
	put("not a certificate", LOOPBACK_CERTIFICATE.key);
	await s.listening.settle();
	expect(s.events).toEqual(["listener.certificate_not_renewed"]);
	expect(await answers(listener.port, LOOPBACK_CERTIFICATE.cert, "localhost")).toBe("here");
	const next = await testAuthority();
	const issued = await next.host();
	put(issued.certificate, issued.privateKey);
	await s.listening.settle();
	expect(await answers(listener.port, next.ca, "localhost")).toBe("here");
	expect(await answers(listener.port, credentials.caCertificate)).toBe("here");
	await listener.close();
});
