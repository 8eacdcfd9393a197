/** Patterns of include and exclude: Python's fnmatch on the whole path, where `*` crosses folders too. */

/** A pattern that ends with "/" means everything below that folder. Time grows with pattern × path, never faster. */
export function matchesPattern(path: string, pattern: string): boolean {
	const tokens = parse(pattern.endsWith("/") ? `${pattern}*` : pattern);
	const characters = Array.from(path);
	let at = 0;
	let token = 0;
	// Where to go on when what follows the last star does not fit: the star takes one character more.
	let retryToken = -1;
	let retryAt = 0;
	while (at < characters.length) {
		const current = tokens[token];
		if (current === "star") {
			retryToken = token;
			retryAt = at;
			token += 1;
		} else if (current?.(characters[at] ?? "") === true) {
			at += 1;
			token += 1;
		} else if (retryToken >= 0) {
			retryAt += 1;
			at = retryAt;
			token = retryToken + 1;
		} else {
			return false;
		}
	}
	return tokens.slice(token).every((rest) => rest === "star");
}

type Token = "star" | ((character: string) => boolean);

function parse(pattern: string): Token[] {
	const tokens: Token[] = [];
	const characters = Array.from(pattern);
	for (let at = 0; at < characters.length; at++) {
		const character = characters[at] ?? "";
		const close = character === "[" ? characters.indexOf("]", at + (characters[at + 1] === "!" ? 3 : 2)) : -1;
		if (character === "*") {
			if (tokens.at(-1) !== "star") tokens.push("star");
		} else if (character === "?") {
			tokens.push(() => true);
		} else if (close > 0) {
			tokens.push(characterSet(characters.slice(at + 1, close)));
			at = close;
		} else {
			tokens.push((other) => other === character);
		}
	}
	return tokens;
}

/** `[abc]`, `[a-z]`, `[!a-z]`. */
function characterSet(inner: readonly string[]): (character: string) => boolean {
	const negated = inner[0] === "!";
	const members = negated ? inner.slice(1) : inner;
	const has = (character: string): boolean => {
		for (let at = 0; at < members.length; at++) {
			const from = members[at] ?? "";
			const to = members[at + 1] === "-" ? members[at + 2] : undefined;
			if (to === undefined ? character === from : character >= from && character <= to) return true;
			if (to !== undefined) at += 2;
		}
		return false;
	};
	return (character) => has(character) !== negated;
}
