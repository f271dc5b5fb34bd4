"""Requests and answers of the KMS API, by the model of it that AWS publishes
with botocore: what AWS's own clients are made from decides what is well-formed
here."""

from __future__ import annotations

import base64
import re
from typing import Any

import botocore.session
from botocore.model import OperationModel, Shape

from errors import KmsError

# The JSON 1.1 protocol's types of Python values.
TYPES = {"boolean": bool, "integer": int, "long": int, "string": str}


class Model:
    def __init__(self) -> None:
        self._kms = botocore.session.get_session().get_service_model("kms")

    def operation(self, name: str) -> OperationModel:
        if name not in self._kms.operation_names:
            raise KmsError("UnknownOperationException", f"there is no operation {name}")
        return self._kms.operation_model(name)


def parse(shape: Shape, value: Any, where: str = "request") -> Any:
    """`value`, from JSON, with bytes where the model has them."""
    if shape.type_name == "structure":
        return parse_structure(shape, typed(dict, value, where), where)
    if shape.type_name == "list":
        items = typed(list, value, where)
        return [parse(shape.member, item, f"{where}.{at}") for at, item in enumerate(items)]
    if shape.type_name == "map":
        pairs = typed(dict, value, where).items()
        return {
            parse(shape.key, name, where): parse(shape.value, entry, f"{where}.{name}")
            for name, entry in pairs
        }
    if shape.type_name == "blob":
        return within(shape, decode(typed(str, value, where), where), where)
    return within(shape, typed(TYPES[shape.type_name], value, where), where)


def parse_structure(shape: Shape, fields: dict[str, Any], where: str) -> dict[str, Any]:
    for name in shape.required_members:
        if fields.get(name) is None:
            raise KmsError("ValidationException", f"{where} lacks {name}")
    known = {name: value for name, value in fields.items() if value is not None}
    return {
        name: parse(member, known[name], f"{where}.{name}")
        for name, member in shape.members.items()
        if name in known
    }


def typed(kind: type, value: Any, where: str) -> Any:
    if type(value) is not kind:
        raise KmsError("SerializationException", f"{where} is no {kind.__name__}")
    return value


def decode(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise KmsError("SerializationException", f"{where} is no base64") from error


def within(shape: Shape, value: Any, where: str) -> Any:
    """Checks what the model says of the value of a member."""
    size = value if isinstance(value, int) else len(value)
    limits = shape.metadata
    if not limits.get("min", size) <= size <= limits.get("max", size):
        raise KmsError("ValidationException", f"{where} is too short, too long, or out of range")
    if "pattern" in limits and not re.fullmatch(limits["pattern"], value):
        raise KmsError("ValidationException", f"{where} does not match {limits['pattern']}")
    if getattr(shape, "enum", None) and value not in shape.enum:
        raise KmsError("ValidationException", f"{where} is none of {', '.join(shape.enum)}")
    return value


def present(value: Any) -> Any:
    """`value` as JSON has it."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, dict):
        return {name: present(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [present(entry) for entry in value]
    return value
