#include "runtime/base/quote.h"

#include <string.h>

#include "runtime/base/utf8.h"

ag_quote_t ag_quote(const char *bytes, size_t n_bytes)
{
    ag_quote_t quote;
    size_t n = 0, bad_bytes, length;
    bool is_short;

    for (size_t at = 0; at < n_bytes; at += length) {
        length = ag_utf8_sequence(bytes + at, n_bytes - at, &bad_bytes, &is_short);
        if (n + (length > 0 ? length : 1) >= sizeof(quote.text)) {
            break;
        }
        if (length == 0 || (unsigned char)bytes[at] < ' ' || bytes[at] == '\x7f') {
            quote.text[n++] = '?';
            length = length > 0 ? length : bad_bytes;
        } else {
            memcpy(quote.text + n, bytes + at, length);
            n += length;
        }
    }
    quote.text[n] = '\0';
    return quote;
}

ag_quote_t ag_quote_string(const char *text)
{
    return ag_quote(text != NULL ? text : "", text != NULL ? strlen(text) : 0);
}
