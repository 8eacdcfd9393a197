/** Plain text for people and scripts. */
export function textResponse(text: string): Response {
	return new Response(text, {
		headers: { "content-type": "text/plain; charset=utf-8", "x-content-type-options": "nosniff" },
	});
}
