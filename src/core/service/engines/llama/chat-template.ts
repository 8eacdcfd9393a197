/** Turns chat messages into the prompt text that the model was trained on, with the template from its file. */
import { Template } from "@huggingface/jinja";
import { invalid } from "../../../../schema/errors.ts";
import type { ChatMessage } from "./openai.ts";

export interface ChatTemplate {
	/** Prompt text for the messages, ending where the assistant's turn begins. Throws GswarmError (400). */
	render(messages: readonly ChatMessage[], variables?: Record<string, unknown>): string;
}

/** `source` is the Jinja text from `tokenizer.chat_template`; without one a plain dialogue form is used. */
export function createChatTemplate(
	source: string | undefined,
	tokens: { bos: string; eos: string },
): ChatTemplate {
	let template: Template | undefined;
	let fault: unknown;
	try {
		template = new Template(source ?? PLAIN_DIALOGUE);
	} catch (error) {
		// A model with a template of its own dialect still completes text.
		fault = error;
	}
	return {
		render(messages, variables = {}) {
			if (template === undefined)
				throw invalid(
					"unusable_chat_template",
					`The model's chat template cannot be read: ${text(fault)}.`,
					{},
					"/v1/completions works without it.",
				);
			try {
				return template.render({
					...variables,
					messages,
					add_generation_prompt: true,
					bos_token: tokens.bos,
					eos_token: tokens.eos,
				});
			} catch (error) {
				throw invalid(
					"chat_template_refused",
					`The model's chat template refuses these messages: ${text(error)}.`,
					{
						param: "messages",
					},
				);
			}
		},
	};
}

const PLAIN_DIALOGUE =
	"{% for message in messages %}{{ message.role + ': ' + message.content + '\n' }}{% endfor %}assistant:";

function text(error: unknown): string {
	return error instanceof Error ? error.message : String(error);
}
