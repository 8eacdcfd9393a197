/**
 * Takes secrets out of texts by their shape, wherever they stand: a message that quotes a URL, a header in a cause, a
 * token that was pasted as a name. What identifies a secret without being one stays, so that it can be found and
 * revoked. Works on plain text and on JSON, which stays JSON.
 */

const REDACTED = "[redacted]";

/** Each keeps its first group. Every repetition is bounded, so that a long text costs its length and no more. */
const SHAPES: readonly RegExp[] = [
	// gsw_user_ab12cd34_…: kind and id stay.
	/(gsw_[a-z]{2,16}_[0-9a-z]{8}_)[0-9A-Za-z]{1,64}(?:_[0-9A-Za-z]{0,16})?/g,
	// The host's assertion.
	/(gswh\.)[\w-]{1,2000}(?:\.[\w-]{0,200})?/g,
	// A join string, and what of it is sent.
	/(GSW10[0-9A-Fa-f]{0,64}::[0-9a-z]{1,16}\.)[0-9A-Za-z]{1,64}/g,
	/(\b[0-9a-z]{8}\.)[0-9A-Za-z]{32}\b/g,
	// Of hubs and clouds.
	/(\b(?:hf|ghp|glpat|xox[abp])[_-])[0-9A-Za-z_-]{12,200}/g,
	/(\bsk-)[0-9A-Za-z_-]{16,200}/g,
	/(\bAKIA)[0-9A-Z]{16}\b/g,
	/(\b(?:Bearer|Basic)\s)[\w.~+/=-]{6,4096}/gi,
	// Parameters of a query.
	/([?&;][\w.-]{0,40}(?:token|secret|password|passwd|signature|credential|api[_-]?key)=)[^&;\s"'\\#<>]{1,4096}/gi,
	/([?&](?:key|sig|auth|code)=)[^&;\s"'\\#<>]{1,4096}/gi,
	// Name and password of a URL.
	/(:\/\/)[^\s/@"'\\:<>]{0,200}:[^\s/@"'\\<>]{1,400}(?=@)/g,
	// It always ends somewhere, so that a thousand beginnings are not a thousand searches for one end.
	/(-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----)(?:(?!-----END)[^"]){1,20000}/g,
];

/** The text without what looks like a secret of ours, of a hub, or of a URL. */
export function redactSecrets(text: string): string {
	let result = text;
	for (const shape of SHAPES) result = result.replace(shape, `$1${REDACTED}`);
	return result;
}

/** Whether what stands under this name is a secret whatever it looks like. */
export function isSecretName(name: string): boolean {
	return SECRET_NAME.test(name);
}

const SECRET_NAME =
	/authorization|token(?!_id|_name)|secret(?!_name)|password|passwd|cookie|api_?key|private_?key/i;
