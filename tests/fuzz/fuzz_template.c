/*
 * Chat templates: whatever a template holds, it is refused or rendered as a dialogue that ends with
 * the beginning of an answer.
 */
#include <stdlib.h>
#include <string.h>

#include "memory_file.h"

#include "runtime/text/chat.h"
#include "runtime/text/template_priv.h"
#include "runtime/text/tokenizer_priv.h"

static void use_form(const char *template)
{
    static const char form[] = "{%if a%}" AG_FORM_DEAD "{%endif%}{{'a" AG_FORM_TEXT "b'}}";
    ag_array_t found = AG_ARRAY(char), plain = AG_ARRAY(char);
    const char *text;
    size_t n_bytes;

    expect(ag_template_form(template, &found) == AG_OK);
    expect(found.n_items > 0 && AG_ITEMS(&found, char)[found.n_items - 1] == '\0');
    if (ag_template_matches(found.items, form, &text, &n_bytes)) {
        expect(text > (char *)found.items && n_bytes < found.n_items);
        expect(ag_template_unescape(text, n_bytes, &plain) == AG_OK);
        expect(plain.n_items <= n_bytes);
    }
    ag_array_fini(&found);
    ag_array_fini(&plain);
}

static void use_chat(char *template)
{
    static const ag_chat_message_t messages[] = {{"user", "Hi", 2}};
    static const char begins[] = "<|im_start|>", ends[] = "<|im_start|>assistant\n";
    const ag_tokenizer_t tokenizer = {.chat_template = template};
    char *text;
    size_t n_bytes;

    if (ag_chat_render(&tokenizer, messages, 1, &text, &n_bytes) == AG_OK) {
        expect(n_bytes >= sizeof(ends) - 1 && memcmp(text, begins, sizeof(begins) - 1) == 0);
        expect(strcmp(text + n_bytes - (sizeof(ends) - 1), ends) == 0);
        free(text);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    char *template = malloc(n_bytes + 1);

    expect(template != NULL);
    memcpy(template, bytes, n_bytes);
    template[n_bytes] = '\0';
    use_form(template);
    use_chat(template);
    free(template);
    return 0;
}
