// The tokenizer of the known-answer model: special tokens, one token per byte (so any text can be read), and
// every word of the sentence together with its beginnings, so that merging letter by letter reaches the word.

export const TOKEN_KIND = { normal: 1, unknown: 2, control: 3, byte: 6 } as const;

export interface Token {
	text: string;
	kind: number;
	/** Higher merges first; only the order matters. */
	score: number;
}

export interface Vocabulary {
	tokens: Token[];
	/** Token ids of the answer, from the assistant mark to the end mark. */
	answer: number[];
	/** Pairs that a byte-pair tokenizer joins, in order of priority. */
	merges: [string, string][];
}

export const UNKNOWN = "<unk>";
export const BEGIN = "<s>";
export const END = "</s>";
export const ROLES = ["<|system|>", "<|user|>", "<|assistant|>"] as const;
export const SPECIAL_TOKENS = [UNKNOWN, BEGIN, END, ...ROLES] as const;

/** How both tokenizers write the space before a word. */
export const SPACE_MARK = "\u2581";

/** A chat in this template ends with the assistant mark, the token that starts the answer. */
export const CHAT_TEMPLATE =
	"{{ bos_token }}{% for message in messages %}" +
	"{{ '<|' + message['role'] + '|>' + message['content'] }}" +
	"{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}" +
	"{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";

/**
 * The vocabulary that can say `sentence`.
 * A word follows from the word before it alone, so no word may occur twice.
 */
export function vocabularyFor(sentence: string): Vocabulary {
	const words = sentence.trim().split(/\s+/);
	const [first, ...rest] = words;
	if (!first) throw new Error("the sentence of a known-answer model needs at least one word");
	const repeated = words.find((word, at) => words.indexOf(word) !== at);
	if (repeated) throw new Error(`a known-answer model cannot say ${JSON.stringify(repeated)} twice`);
	if (sentence !== words.join(" ")) throw new Error("words of the sentence are separated by one space");

	const tokens: Token[] = [];
	const ids = new Map<string, number>();
	const add = (text: string, kind: number) => {
		const known = ids.get(text);
		if (known !== undefined) return known;
		ids.set(text, tokens.length);
		return tokens.push({ text, kind, score: -tokens.length }) - 1;
	};

	add(UNKNOWN, TOKEN_KIND.unknown);
	for (const text of [BEGIN, END, ...ROLES]) add(text, TOKEN_KIND.control);
	for (let byte = 0; byte < 256; byte++) {
		add(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`, TOKEN_KIND.byte);
	}
	const merges = new Map<string, [string, string]>();
	add(SPACE_MARK, TOKEN_KIND.normal);
	for (const word of words) {
		let begun = SPACE_MARK;
		for (const letter of word) {
			add(letter, TOKEN_KIND.normal);
			merges.set(begun + letter, [begun, letter]);
			begun += letter;
			add(begun, TOKEN_KIND.normal);
		}
	}
	// The first word is said without the space before it, so no engine has to strip one.
	const said = [
		add(first, TOKEN_KIND.normal),
		...rest.map((word) => add(SPACE_MARK + word, TOKEN_KIND.normal)),
	];
	const id = (text: string) => add(text, TOKEN_KIND.control);
	return { tokens, answer: [id("<|assistant|>"), ...said, id(END)], merges: [...merges.values()] };
}
