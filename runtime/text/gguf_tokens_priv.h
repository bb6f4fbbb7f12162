/* The types of tokens in a GGUF file: tokenizer.ggml.token_type; all others are words. */
#pragma once

enum {
    AG_GGUF_TOKEN_WORD = 1,
    AG_GGUF_TOKEN_UNKNOWN = 2,
    AG_GGUF_TOKEN_CONTROL = 3,
    AG_GGUF_TOKEN_USER_DEFINED = 4,
    AG_GGUF_TOKEN_UNUSED = 5,
    AG_GGUF_TOKEN_BYTE = 6,
};
