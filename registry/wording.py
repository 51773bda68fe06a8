"""Pydantic's errors in the words of a registry folder: what a value is, and what was expected."""

from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel


def worded(detail: Any, type_: Any) -> tuple[str, str]:
    """A pydantic error in words: what it is, and what was expected."""
    kind, given, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "wrong":
        return context["problem"], context["expected"]
    if kind == "extra_forbidden":
        return "unknown key", f"one of {', '.join(_keys(type_, detail['loc'][:-1]))}"
    if kind == "missing":
        return "is missing", "a value"
    if kind == "too_short":
        return "is empty", "at least one"
    shape = "a list" if isinstance(given, list) else "a mapping" if isinstance(given, dict) else repr(given)
    words = {
        "string_type": "a text",
        "list_type": "a list",
        "dict_type": "a mapping",
        "model_type": "a mapping",
        "float_parsing": "a number",
        "float_type": "a number",
        "finite_number": "a number",
        "greater_than": "a number above 0",
        "greater_than_equal": "a number of 0 or more",
    }
    if kind == "literal_error":
        return f"is {shape}", str(context["expected"])
    return f"is {shape}" if given != "" else "is empty", words.get(kind, detail["msg"])


def _keys(type_: Any, place: Iterable[str | int]) -> list[str]:
    """The keys that the model at this place has."""
    for part in place:
        if isinstance(part, str) and isinstance(type_, type) and issubclass(type_, BaseModel):
            type_ = type_.model_fields[part].annotation
        else:
            type_ = get_args(type_)[-1]
    return list(type_.model_fields)
