#!/usr/bin/env bash
# A family is a file: its name in code elsewhere means that something branches on it. Tokenizers' and
# ropes' names that files spell (llama3, llama-bpe …) are data, and comments are free. So are the names
# of chat templates and tokenizers (runtime/text), which are called after the first that had them.
set -euo pipefail
families=$(sed -n 's/^    \.name = "\(.*\)",$/\1/p' runtime/model/family/*.c | sort -u)
[ -n "$families" ]
found=0
for family in $families; do
    if grep -rnE "\"$family\"|ag_family_$family" --include='*.c' --include='*.h' runtime comm parallel launch |
        grep -vE '^runtime/model/family(/|\.c:)|^runtime/text/'; then
        found=1
    fi
done
exit $found
