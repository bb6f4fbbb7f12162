/* Tokens in a GGUF file. Their types: tokenizer.ggml.token_type; all others are words. */
#pragma once

enum {
    AG_GGUF_TOKEN_WORD = 1,
    AG_GGUF_TOKEN_UNKNOWN = 2,
    AG_GGUF_TOKEN_CONTROL = 3,
    AG_GGUF_TOKEN_USER_DEFINED = 4,
    AG_GGUF_TOKEN_UNUSED = 5,
    AG_GGUF_TOKEN_BYTE = 6,
};

/* The keys of tokens that end: a text, a turn, a message that goes on when a tool has answered. */
enum { AG_GGUF_N_ENDS = 3 };
#define AG_GGUF_ENDS                                                                               \
    {                                                                                              \
        "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",                              \
            "tokenizer.ggml.eom_token_id"                                                          \
    }
