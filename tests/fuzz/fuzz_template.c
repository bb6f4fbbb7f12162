/*
 * Chat templates: whatever a template holds, it is refused or recognised, and a dialogue comes out
 * whose answers and contents lie in it; what is written in turns, whatever it holds, does too, by
 * the known template that the first byte chooses.
 */
#include <stdlib.h>
#include <string.h>

#include "memory_file.h"

#include "runtime/text/chat_priv.h"
#include "runtime/text/tokenizer_priv.h"

static void use_form(const char *template)
{
    static const char form[] = "{%if a%}" AG_FORM_DEAD "{%endif%}{{'a" AG_FORM_TEXT "b'}}";
    ag_array_t formed = AG_ARRAY(char), plain = AG_ARRAY(char);
    ag_template_text_t found[AG_FORM_MOST_TEXTS];
    size_t n_found;

    expect(ag_template_form(template, &formed) == AG_OK);
    expect(formed.n_items > 0 && AG_ITEMS(&formed, char)[formed.n_items - 1] == '\0');
    if (ag_template_matches(formed.items, form, found, &n_found)) {
        expect(n_found == 1 && found[0].bytes > (char *)formed.items &&
               found[0].n_bytes < formed.n_items);
        expect(ag_template_unescape(found[0].bytes, found[0].n_bytes, &plain) == AG_OK);
        expect(plain.n_items <= found[0].n_bytes);
    }
    ag_array_fini(&formed);
    ag_array_fini(&plain);
}

static void check_spans(const ag_array_t *spans, size_t n_bytes)
{
    size_t last = 0;

    for (size_t i = 0; i < spans->n_items; i++) {
        ag_text_span_t span = AG_ITEMS(spans, ag_text_span_t)[i];

        expect(span.begin >= last && span.begin <= span.end && span.end <= n_bytes);
        last = span.end;
    }
}

static void use_chat(const ag_tokenizer_t *tokenizer, const char *name, const char *content,
                     size_t n_bytes)
{
    const ag_chat_message_t messages[] = {{"user", content, n_bytes},
                                          {"assistant", content, n_bytes},
                                          {"user", "", 0},
                                          {"assistant", content, n_bytes}};
    const ag_chat_opts_t opts = {.name = name};
    ag_chat_text_t text;
    ag_chat_t *chat;

    if (ag_chat_open(tokenizer, &opts, &chat) != AG_OK) {
        return;
    }
    ag_chat_text_init(&text);
    for (size_t n = 1; n <= 4; n++) {
        expect(ag_chat_render(chat, messages, n, n % 2 == 1, &text) == AG_OK);
        check_spans(&text.answers, text.text.n_items);
        check_spans(&text.contents, text.text.n_items);
        expect(text.answers.n_items == n / 2);
    }
    ag_chat_text_fini(&text);
    ag_chat_close(chat);
}

/* Without a token. */
static ag_tokenizer_t make_tokenizer(void)
{
    ag_tokenizer_t tokenizer = {.pieces = AG_ARRAY(ag_piece_t),
                                .bytes = AG_ARRAY(char),
                                .added = AG_ARRAY(ag_added_t),
                                .merges = AG_ARRAY(ag_merge_t),
                                .scores = AG_ARRAY(double),
                                .early = AG_TRIE,
                                .late = AG_TRIE,
                                .trie = AG_TRIE,
                                .named_bos = -1,
                                .named_eos = -1};

    expect(ag_build_words(&tokenizer, 0) == AG_OK);
    return tokenizer;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    static ag_tokenizer_t tokenizer;
    char *template = malloc(n_bytes + 1);

    expect(template != NULL);
    if (tokenizer.words == NULL) {
        tokenizer = make_tokenizer();
    }
    memcpy(template, bytes, n_bytes);
    template[n_bytes] = '\0';
    tokenizer.chat_template = template;
    use_form(template);
    use_chat(&tokenizer, NULL, "Hi", 2);
    if (n_bytes > 0) {
        use_chat(&tokenizer, ag_chat_styles[bytes[0] % AG_N_CHAT_STYLES].name,
                 (const char *)bytes + 1, n_bytes - 1);
    }
    free(template);
    return 0;
}
