/** What can go wrong between hub and client; all of it can be switched on and off while the hub runs. */
export interface HubFaults {
	/** Every CDN connection ends (a real end of the TCP connection) after so many body bytes. */
	cutAfterBytes?: number | undefined;
	/** Every CDN connection falls silent, and stays open, after so many body bytes. */
	stallAfterBytes?: number | undefined;
	/** Cap of each CDN connection. */
	rateBytesPerSecond?: number | undefined;
	/** The next `times` CDN answers that hold this byte of the file carry it changed. */
	flipByte?: { path: string; offset: number; times: number } | undefined;
	/** The CDN serves the file as if it ended after `sizeBytes`. */
	truncateFile?: { path: string; sizeBytes: number } | undefined;
	/** The CDN answers 200 and the whole file where a range was asked. */
	ignoreRange?: boolean | undefined;
	/** The CDN sends the right bytes under a Content-Range one byte further on. */
	wrongContentRange?: boolean | undefined;
	/** Every CDN answer carries an ETag of its own. */
	changeEtag?: boolean | undefined;
	/** The CDN compresses what it sends, whether that was asked or not. */
	gzipEncoding?: boolean | undefined;
	/** The next so many hub requests answer 429. */
	status429Times?: number | undefined;
	/** The next so many hub requests answer 503. */
	status503Times?: number | undefined;
	/** Seconds named by 429 and 503; 1 unless told. */
	retryAfterSeconds?: number | undefined;
	/** Resolving a large file redirects here instead of to the CDN. */
	redirectTo?: string | undefined;
}
