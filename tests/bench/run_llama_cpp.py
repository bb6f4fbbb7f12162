"""One run of llama.cpp through its C interface, as JSON: prefill, then decode at that depth.

    build/bench-venv/bin/python tests/bench/run_llama_cpp.py --model M.gguf --prompt-tokens 512 \\
        --gen-tokens 128 --threads 2

load_s and first_token_s come first, before any warm-up: from opening the model until it is loaded,
and until the first token of a 16-token prompt is known. (A script called llama_cpp.py would import
itself.)
"""
import argparse
import json
import sys
import time

try:
    import llama_cpp
    import numpy as np
except ImportError as error:
    sys.exit(f"run_llama_cpp.py: {error}: run tests/bench/setup.sh, then this with the python of "
             "build/bench-venv or build/bench-venv-avx2")

START_TOKENS, BATCH = 16, 512
FLASH = {"auto": -1, "off": 0, "on": 1}


class Peer:
    """A model and a context of llama.cpp."""

    def __init__(self, options):
        """Open the model; self.load_s is how long that took."""
        model_params = llama_cpp.llama_model_default_params()
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = max(options.prompt_tokens, START_TOKENS) + options.gen_tokens + 1
        params.n_batch = params.n_ubatch = BATCH
        params.n_threads = params.n_threads_batch = options.threads
        params.flash_attn_type = FLASH[options.flash_attn]
        begin = time.perf_counter()
        self.model = llama_cpp.llama_model_load_from_file(options.model.encode(), model_params)
        if not self.model:
            sys.exit(f"run_llama_cpp.py: llama.cpp cannot open {options.model}")
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        if not self.context:
            sys.exit(f"run_llama_cpp.py: llama.cpp makes no context of {params.n_ctx} tokens: "
                     "give fewer, or free memory")
        self.load_s = time.perf_counter() - begin
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def forget(self):
        """Empty the KV cache."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), False)

    def feed(self, ids):
        """Run the ids behind what was fed before. @return the likeliest next token"""
        for first in range(0, len(ids), BATCH):
            part = ids[first:first + BATCH]
            tokens = (llama_cpp.llama_token * len(part))(*part)
            batch = llama_cpp.llama_batch_get_one(tokens, len(part))
            if llama_cpp.llama_decode(self.context, batch) != 0:
                sys.exit(f"run_llama_cpp.py: llama_decode fails on {len(part)} tokens")
        logits = llama_cpp.llama_get_logits_ith(self.context, -1)
        return int(np.argmax(np.ctypeslib.as_array(logits, (self.n_vocab,))))

    def prompt(self, n_tokens):
        """Ids of all parts of the vocabulary."""
        return [i * 7919 % self.n_vocab for i in range(1, n_tokens + 1)]


def measure(options):
    """@return what is printed"""
    begin = time.perf_counter()
    peer = Peer(options)
    peer.feed(peer.prompt(START_TOKENS))
    first_token_s = time.perf_counter() - begin
    peer.forget()
    token = peer.feed(peer.prompt(min(options.prompt_tokens, BATCH)))  # warm-up
    peer.feed([token])
    peer.forget()
    begin = time.perf_counter()
    token = peer.feed(peer.prompt(options.prompt_tokens))
    middle = time.perf_counter()
    for _ in range(options.gen_tokens):
        token = peer.feed([token])
    end = time.perf_counter()
    return {"prefill_tokens_per_s": options.prompt_tokens / (middle - begin),
            "decode_tokens_per_s": options.gen_tokens / (end - middle),
            "load_s": peer.load_s, "first_token_s": first_token_s, "threads": options.threads,
            "version": llama_cpp.__version__,
            "system": llama_cpp.llama_print_system_info().decode().strip()}


def main():
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, metavar="M.gguf")
    parser.add_argument("--prompt-tokens", type=int, default=512, metavar="N", help="[512]")
    parser.add_argument("--gen-tokens", type=int, default=128, metavar="N", help="[128]")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="[2]")
    parser.add_argument("--flash-attn", choices=FLASH, default="auto", help="[auto]")
    parser.add_argument("--verbose", action="store_true", help="show llama.cpp's own log")
    options = parser.parse_args()
    if min(options.prompt_tokens, options.gen_tokens, options.threads) < 1:
        parser.error("--prompt-tokens, --gen-tokens and --threads are at least 1")
    if not options.verbose:
        quiet = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(quiet, None)
    llama_cpp.llama_backend_init()
    print(json.dumps(measure(options)), flush=True)


if __name__ == "__main__":
    main()
