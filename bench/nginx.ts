import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/**
 * An nginx of our own that sends the files of `root` with sendfile; undefined where nginx is not installed. With a
 * certificate (PEM files) it answers over https as well.
 */
export async function startNginx(
	dir: string,
	root: string,
	tls?: { cert: string; key: string },
): Promise<(AsyncDisposable & { url: string; secureUrl: string }) | undefined> {
	const program = Bun.which("nginx", { PATH: `${process.env.PATH}:/usr/sbin` });
	if (program === null) return undefined;
	mkdirSync(dir);
	const port = freePort();
	const config = join(dir, "nginx.conf");
	const securePort = tls === undefined ? undefined : freePort();
	const secure =
		tls === undefined
			? ""
			: `listen 127.0.0.1:${securePort} ssl; ssl_certificate ${tls.cert}; ssl_certificate_key ${tls.key};`;
	writeFileSync(config, configOf({ dir, root, port, secure }));
	const child = Bun.spawn([program, "-e", join(dir, "error.log"), "-c", config], {
		stdout: "ignore",
		stderr: "inherit",
	});
	const url = `http://127.0.0.1:${port}`;
	for (let tries = 0; ; tries++) {
		const isUp = await fetch(url, { method: "HEAD" }).then(
			() => true,
			() => false,
		);
		if (isUp) break;
		if (child.exitCode !== null || tries > 200) throw new Error(`nginx does not answer on ${url}`);
		await Bun.sleep(20);
	}
	return {
		url,
		secureUrl: `https://127.0.0.1:${securePort}`,
		async [Symbol.asyncDispose]() {
			child.kill("SIGTERM");
			await child.exited;
		},
	};
}

function configOf({
	dir,
	root,
	port,
	secure,
}: {
	dir: string;
	root: string;
	port: number;
	secure: string;
}): string {
	// Started by root it would drop to a user that cannot read a private directory.
	const user = process.getuid?.() === 0 ? "user root;" : "";
	const temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
	return `${user}
daemon off;
worker_processes 1;
pid ${dir}/nginx.pid;
events {}
http {
	access_log off;
	sendfile on;
	tcp_nopush on;
	${temp.map((name) => `${name}_temp_path ${dir}/${name};`).join("\n\t")}
	server {
		listen 127.0.0.1:${port};
		${secure}
		root ${root};
	}
}
`;
}

/** nginx cannot choose a port itself. */
function freePort(): number {
	const probe = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
	const { port } = probe;
	probe.stop(true);
	return port;
}
