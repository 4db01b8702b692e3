"""One example of any message, made from its types: what the decoders are fed, broken in every way."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import inspect

_SIMPLE: Final[dict[type, Any]] = {
    inspect.BoolType: True,
    inspect.IntType: 7,
    inspect.FloatType: 0.25,
    inspect.StrType: "A.X",
    inspect.NoneType: None,
    inspect.AnyType: "anything",
    inspect.DecimalType: Decimal("12.5"),
    inspect.BytesType: b"bytes",
}


def example(kind: Any) -> Any:
    """Return an object of this type with every field filled. Raises `TypeError` for a type that has no example."""
    return msgspec.convert(_of(inspect.type_info(kind)), kind)


def _of(info: Any) -> Any:
    match info:
        case inspect.StructType():
            fields = {field.encode_name: _of(field.type) for field in info.fields}
            if info.array_like:
                return [*([] if info.tag is None else [info.tag]), *fields.values()]
            return fields if info.tag is None else {info.tag_field: info.tag} | fields
        case inspect.UnionType():
            return _of(next(one for one in info.types if not isinstance(one, inspect.NoneType)))
        case inspect.EnumType():
            return next(iter(info.cls)).value
        case inspect.DictType():
            return {_of(info.key_type): _of(info.value_type)}
        case inspect.ListType() | inspect.VarTupleType():
            return [_of(info.item_type)] * 2
        case inspect.TupleType():
            return [_of(one) for one in info.item_types]
        case inspect.LiteralType():
            return info.values[0]
        case inspect.Metadata():
            return _of(info.type)
    try:
        return _SIMPLE[type(info)]
    except KeyError:
        raise TypeError(f"no example of {info}") from None
