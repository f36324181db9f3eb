#!/usr/bin/env python3
"""Text to tokens and back, with the tokenizer.json of a checkpoint; `helix-bench generate` speaks tokens.
    tokens.py encode DIR TEXT        tokens on one line; `<|...|>` are special ones
    tokens.py chat DIR TEXT          the same of a question as ChatML asks it
    tokens.py decode DIR             the text of the tokens on standard input: numbers, or generate's --json
Needs `tokenizers` from PyPI: no package of Debian reads tokenizer.json from C++."""
import json
import sys

CHATML = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


def main():
    import tokenizers

    command, directory = sys.argv[1:3]
    tokenizer = tokenizers.Tokenizer.from_file(directory + "/tokenizer.json")
    if command == "decode":
        text = sys.stdin.read()
        tokens = json.loads(text)["tokens"] if text.lstrip().startswith("{") else [int(word) for word in text.split()]
        print(tokenizer.decode(tokens))
    else:
        text = sys.argv[3]
        print(*tokenizer.encode(CHATML.format(text) if command == "chat" else text, add_special_tokens=False).ids)


if __name__ == "__main__":
    if len(sys.argv) != (3 if sys.argv[1:2] == ["decode"] else 4) or sys.argv[1] not in ("encode", "chat", "decode"):
        sys.exit(__doc__)
    main()
