"""The prompt of the critic as a chat template: what a chat with an export becomes.

A base that was made for chats brings a template of its own. Served with that, a critic would be
asked in words that it was never trained on, and answer all the same. As in the Modelfile, the
system message is the domain, the last message of the user the rationale; other messages are not
read.
"""

from transformers import PreTrainedTokenizerBase

from minicrit.encoding import Encoder
from minicrit.prompts import render_prompt

#: Stand-ins for what a chat gives; no prompt holds them.
_DOMAIN, _RATIONALE = "\x01", "\x02"


def chat_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """In Jinja; opens as this tokenizer opens a text, and ends with the answer marker."""
    prompt = render_prompt(_DOMAIN, _RATIONALE)
    before, rest = prompt.split(_DOMAIN)
    between, after = rest.split(_RATIONALE)
    opening = ["bos_token"] if Encoder(tokenizer).opening else []
    parts = [*opening, _quoted(before), "ns.domain", _quoted(between), "ns.text", _quoted(after)]
    return (
        "{%- set ns = namespace(domain='general', text='') -%}"
        "{%- for message in messages -%}"
        "{%- if message['role'] == 'system' and message['content'] -%}"
        "{%- set ns.domain = message['content'] -%}{%- endif -%}"
        "{%- if message['role'] == 'user' -%}"
        "{%- set ns.text = message['content'] -%}{%- endif -%}"
        "{%- endfor -%}"
        "{{- " + " + ".join(parts) + " -}}"
    )


def _quoted(text: str) -> str:
    """A string of Jinja's; as an expression no blank at its ends is trimmed."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
