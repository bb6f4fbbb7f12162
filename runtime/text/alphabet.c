/* Texts of tokens that stand for bytes. */
#include <string.h>

#include "runtime/text/tokenizer_priv.h"

/*
 * GPT-2's byte alphabet: printable Latin-1 stands for itself, the other 68 bytes are the code
 * points from 256 on, in order (Radford et al. 2019, encoder.py). -1: the code point is none of it.
 */
static int byte_of(uint32_t code)
{
    bool printable = (code >= 0x21 && code <= 0x7e) || (code >= 0xa1 && code <= 0xff);
    uint32_t rest = code - 256;

    if (printable && code != 0xad) {
        return (int)code;
    }
    if (code < 256 || rest > 67) {
        return -1;
    }
    return rest <= 0x20 ? (int)rest : rest == 67 ? 0xad : (int)(0x7f + rest - 0x21);
}

/* The alphabet's code points take one byte or two in UTF-8. */
bool ag_alphabet_bytes(const char *text, size_t n_bytes, char *bytes, size_t *n_p)
{
    size_t n = 0;

    for (size_t i = 0; i < n_bytes; i++) {
        unsigned char lead = (unsigned char)text[i];
        uint32_t code = lead;
        int byte;

        if (lead >= 0x80) {
            unsigned char next = i + 1 < n_bytes ? (unsigned char)text[++i] : 0;

            if (lead < 0xc2 || lead > 0xdf || (next & 0xc0) != 0x80) {
                return false;
            }
            code = (lead & 31u) << 6 | (next & 63u);
        }
        byte = byte_of(code);
        if (byte < 0) {
            return false;
        }
        bytes[n++] = (char)byte;
    }
    *n_p = n;
    return true;
}

/* -1: the character is no hexadecimal digit. */
static int digit_of(char c)
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    const char *at = c != '\0' ? strchr(digits, c) : NULL;

    return at != NULL ? (int)((at - digits) & 15) : -1;
}

int ag_byte_named(const char *text, size_t n_bytes)
{
    int high, low;

    if (n_bytes != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') {
        return -1;
    }
    high = digit_of(text[3]);
    low = digit_of(text[4]);
    return high >= 0 && low >= 0 ? high << 4 | low : -1;
}
