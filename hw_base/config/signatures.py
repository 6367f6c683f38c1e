"""The keywords of a registered constructor as a pydantic model: what a component's ``args`` are checked against."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, create_model


@functools.cache
def arguments_model(
    target: Callable[..., Any], runtime: tuple[str, ...] = (), filled: tuple[str, ...] = ()
) -> type[BaseModel]:
    """The pydantic model of a constructor's keywords.

    Args:
        target: the registered class.
        runtime: arguments that code provides; the model lacks them.
        filled: arguments that code provides where the config is silent.
    """
    try:
        parameters = inspect.signature(target, eval_str=True).parameters
    except NameError:  # torch imports some names for type checkers only
        parameters = inspect.signature(target).parameters
    fields: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if name in runtime:
            continue
        annotation = parameter.annotation
        if annotation is parameter.empty or isinstance(annotation, str):
            annotation = Any
        default = parameter.default
        if default is parameter.empty:
            default = None if name in filled else ...
        fields[name] = (annotation, default)
    rules = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True, protected_namespaces=())
    model: type[BaseModel] = create_model(target.__name__, __config__=rules, **fields)
    return model
