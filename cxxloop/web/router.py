# SPDX-License-Identifier: MIT
"""Router: finds what a path leads to, in time that does not grow with the number of routes."""

import dataclasses
import re
from typing import Generic, NamedTuple, TypeVar

Target = TypeVar("Target")
Params = dict[str, str | int]

_PARAMETER = re.compile(r"\{([A-Za-z_]\w*)(?::(str|int|path))?\}", re.ASCII)
_INT_DIGITS_MAX = 18  # an int of 64 bits


class Match(NamedTuple, Generic[Target]):
    """What was found. target None: the path exists, but not for this method; allowed then has the methods there are."""

    target: Target | None
    params: Params
    allowed: tuple[str, ...] = ()


@dataclasses.dataclass
class _Leaf(Generic[Target]):
    """Routes of one shape, by method, with the names that each gives to its parameters."""

    routes: dict[str, tuple[Target, tuple[str, ...]]] = dataclasses.field(default_factory=dict)

    def find(self, method: str) -> tuple[Target, tuple[str, ...]] | None:
        route = self.routes.get(method)
        return self.routes.get("GET") if route is None and method == "HEAD" else route


class _Node(Generic[Target]):
    """Where a path may be after some of its segments."""

    def __init__(self) -> None:
        self.literals: dict[str, _Node[Target]] = {}
        self.ints: _Node[Target] | None = None
        self.strings: _Node[Target] | None = None
        self.end: _Leaf[Target] = _Leaf()
        self.rest: _Leaf[Target] = _Leaf()  # whatever follows, as one parameter


class Router(Generic[Target]):
    """Routes by path and method. A path without parameters is one look into a dictionary, another one a walk down a tree.

    Of the routes that fit a path, the one whose first differing segment is more special is taken: a literal segment before
    {name:int}, this before {name}, this before {name:path}; the order in which they were added does not matter.
    """

    def __init__(self) -> None:
        self._exact: dict[str, _Leaf[Target]] = {}
        self._root: _Node[Target] = _Node()
        self._has_parameters = False

    def add(self, method: str, path: str, target: Target) -> None:
        """Add a route.

        Args:
            method: in upper case.
            path: begins with "/". A segment is literal, or a whole parameter: {name} is any text without "/", {name:int} decimal
                digits, {name:path} the rest of the path, empty or with slashes, and the last segment.
            target: what find() returns.

        Raises:
            ValueError: the path has another form, or leads somewhere already for this method.
        """
        if not path.startswith("/"):
            raise ValueError(f"a route's path begins with '/', not {path!r}")
        segments = path[1:].split("/")
        names: list[str] = []
        leaf = self._exact.setdefault(path, _Leaf()) if "{" not in path and "}" not in path else self._descend(path, segments, names)
        if len(set(names)) < len(names):
            raise ValueError(f"two parameters of {path!r} have the same name")
        if method in leaf.routes:
            raise ValueError(f"{method} {path} is taken by another route")
        leaf.routes[method] = target, tuple(names)

    def _descend(self, path: str, segments: list[str], names: list[str]) -> _Leaf[Target]:
        self._has_parameters = True
        node = self._root
        for position, segment in enumerate(segments):
            parameter = _PARAMETER.fullmatch(segment)
            if parameter is None:
                if "{" in segment or "}" in segment:
                    raise ValueError(f"{segment!r} in {path!r} is neither literal nor {{name}}, {{name:int}} or {{name:path}}")
                node = node.literals.setdefault(segment, _Node())
                continue
            names.append(parameter[1])
            match parameter[2]:
                case "path":
                    if position != len(segments) - 1:
                        raise ValueError(f"{segment!r} must be the last segment of {path!r}")
                    return node.rest
                case "int":
                    node.ints = node = node.ints or _Node()
                case _:
                    node.strings = node = node.strings or _Node()
        return node.end

    def find(self, method: str, path: str) -> Match[Target] | None:
        """Find the route of a request.

        Args:
            method: as in add(); a HEAD finds the GET, too.
            path: decoded.

        Returns:
            None: no route has this path.
        """
        seen: list[_Leaf[Target]] = []
        exact = self._exact.get(path)
        if exact is not None:
            route = exact.find(method)
            if route is not None:
                return Match(route[0], {})
            seen.append(exact)
        if self._has_parameters and path.startswith("/"):
            found = _walk(self._root, path[1:].split("/"), 0, [], method, seen)
            if found is not None:
                return found
        return _missed(seen)


def _missed(seen: "list[_Leaf[Target]]") -> Match[Target] | None:
    methods = {method for leaf in seen for method in leaf.routes}
    if "GET" in methods:
        methods.add("HEAD")
    return Match(None, {}, tuple(sorted(methods))) if methods else None


def _walk(
    node: _Node[Target], segments: list[str], position: int, values: list[str | int], method: str, seen: "list[_Leaf[Target]]"
) -> Match[Target] | None:
    """Goes down from a node: the more special way first, and back from it if it leads nowhere."""
    if position == len(segments):
        return _take(node.end, values, method, seen)
    segment = segments[position]
    child = node.literals.get(segment)
    if child is not None and (found := _walk(child, segments, position + 1, values, method, seen)) is not None:
        return found
    if node.ints is not None and segment.isdigit() and segment.isascii() and len(segment) <= _INT_DIGITS_MAX:
        found = _walk(node.ints, segments, position + 1, [*values, int(segment)], method, seen)
        if found is not None:
            return found
    if node.strings is not None and segment:
        found = _walk(node.strings, segments, position + 1, [*values, segment], method, seen)
        if found is not None:
            return found
    if node.rest.routes:
        return _take(node.rest, [*values, "/".join(segments[position:])], method, seen)
    return None


def _take(leaf: _Leaf[Target], values: list[str | int], method: str, seen: "list[_Leaf[Target]]") -> Match[Target] | None:
    route = leaf.find(method)
    if route is not None:
        return Match(route[0], dict(zip(route[1], values)))
    if leaf.routes:
        seen.append(leaf)
    return None
