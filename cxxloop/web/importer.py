# SPDX-License-Identifier: MIT
"""Finds an application by `module:attribute[.attribute]`."""

import importlib
from typing import Any

from .error import ImportFromStringError


def import_from_string(import_string: Any) -> Any:
    """Import an object by its import string.

    Args:
        import_string: "package.module:attribute" or "module:attribute.attribute". Anything that is no string is
            returned as it is, as uvicorn does.

    Returns:
        The object.

    Raises:
        ImportFromStringError: the string has another form, or there is no such module or attribute; the texts are uvicorn's.
        Any exception that the module raises while it is imported, ModuleNotFoundError of another module among them.
    """
    if not isinstance(import_string, str):
        return import_string
    module_name, _, attributes = import_string.partition(":")
    if not module_name or not attributes:
        raise ImportFromStringError(f'Import string "{import_string}" must be in format "<module>:<attribute>".')
    found = _import_module(module_name)
    for attribute in attributes.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            message = f'Attribute "{attributes}" not found in module "{module_name}".'
            raise ImportFromStringError(message) from None
    return found


def _import_module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # The module itself or a package of its path is missing; a module that it imports in turn is the program's bug.
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise
        raise ImportFromStringError(f'Could not import module "{name}".') from None
    except (TypeError, ValueError):
        if not name.startswith("."):
            raise
        raise ImportFromStringError(f'Could not import module "{name}": the name must not be relative.') from None
