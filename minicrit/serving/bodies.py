"""The bodies of requests, as the service's OpenAPI describes them. Anything else is refused."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag

from minicrit.taxonomy import DOMAINS, FLAW_TYPES, LABELS

MOST_ITEMS = 100
Domain = Literal["trading", "defense", "cybersecurity", "medical", "planning", "general"]
Text = Annotated[str, StringConstraints(min_length=1)]
Note = Annotated[str, StringConstraints(max_length=4000)]
RequestId = Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]
FlawName = Annotated[str, Field(json_schema_extra={"enum": list(FLAW_TYPES)})]
_STRICT = ConfigDict(extra="forbid", strict=True)


class Item(BaseModel):
    """One rationale."""

    model_config = _STRICT
    rationale: Text
    domain: Domain = "general"


class Items(BaseModel):
    """Several rationales."""

    model_config = _STRICT
    items: Annotated[list[Item], Field(min_length=1, max_length=MOST_ITEMS)]


def _form(body: Any) -> str:
    return (
        "many" if isinstance(body, Items) or (isinstance(body, dict) and "items" in body) else "one"
    )


Asked = Annotated[Annotated[Item, Tag("one")] | Annotated[Items, Tag("many")], Discriminator(_form)]


class Span(BaseModel):
    """Where evidence stands: characters (code points) of the rationale, the end not included."""

    model_config = _STRICT
    start: Annotated[int, Field(ge=0, le=10_000_000)]
    end: Annotated[int, Field(ge=1, le=10_000_000)]


class Feedback(BaseModel):
    """What an operator decided about an answer."""

    model_config = _STRICT
    request_id: RequestId
    decision: Literal["agree", "disagree", "correct"]
    operator: Name
    label: Literal["valid", "flawed"] | None = None
    flaw_type: FlawName | None = None
    evidence: Span | None = None
    critique: Note | None = None
    note: Note | None = None
    idempotency_key: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = None


class Outcome(BaseModel):
    """What became of an action that a rationale was about."""

    model_config = _STRICT
    request_id: RequestId
    value: Annotated[float, Field(ge=-1e300, le=1e300)]
    note: Note | None = None


class Likeness(BaseModel):
    """A rationale whose like is looked for among those of the past."""

    model_config = _STRICT
    rationale: Text
    domain: Domain | None = None
    k: Annotated[int, Field(ge=1, le=50)] = 5


class Part(BaseModel):
    """A part of a message of OpenAI's protocol; only text is read."""

    type: str
    text: str | None = None


class Message(BaseModel):
    """A message of OpenAI's protocol; those that are not read may hold anything."""

    role: str
    content: str | list[Part] | None = None


class StreamOptions(BaseModel):
    """Of OpenAI's protocol."""

    include_usage: bool | None = None


class Chat(BaseModel):
    """A request of OpenAI's protocol. Settings of sampling change nothing: decoding is greedy."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    messages: Annotated[list[Message], Field(min_length=1, max_length=100)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    metadata: dict[str, str] | None = None
    n: Literal[1] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None


assert LABELS == ("valid", "flawed")
assert get_args(Domain) == DOMAINS
