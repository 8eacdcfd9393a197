// Runs before every test file: what the developer has set for daily work must not reach a test.
for (const name of Object.keys(process.env)) {
	if (/^(GSWARM_|HF_|HUGGING|AWS_|OLLAMA_|CUDA_VISIBLE|XDG_|OPENAI_)/.test(name)) delete process.env[name];
	if (/^(https?|all)_proxy$/i.test(name)) delete process.env[name];
}
// Tests talk to this machine alone; a proxy set by a parent program stays out of the way of child processes too.
process.env.NO_PROXY = "*";
process.env.no_proxy = "*";
