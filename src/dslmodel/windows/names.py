"""Span names without ids, so that `GET /users/123` and `GET /users/456` are one operation."""

import re

# Order matters: a UUID is hex, hex contains numbers.
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b"), "{id}"),
    (re.compile(r"\b(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{8,}\b"), "{id}"),
    (re.compile(r"(?<=[/=:#_-])(?=[^/]*\d)[A-Za-z0-9_~=-]{20,}(?=$|[/?&\s])"), "{id}"),
    (re.compile(r"(?<![A-Za-z0-9.])\d+(?:[.,:-]\d+)*(?![A-Za-z.])"), "{n}"),
    (re.compile(r"(?<=[_:#-])\d+"), "{n}"),
    (re.compile(r"'[^']*'"), "{s}"),
)
_CACHE_LIMIT = 20_000
_MAX_LENGTH = 200


class NameTemplates:
    """Remembers templates of names already seen; forgets all when full, which costs time, never correctness."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def of(self, name: str) -> str:
        """The operation that `name` belongs to, at most 200 characters."""
        known = self._known.get(name)
        if known is not None:
            return known
        if len(self._known) >= _CACHE_LIMIT:
            self._known.clear()
        if len(name) > _MAX_LENGTH:
            return self.of(name[:_MAX_LENGTH])  # what is remembered is bounded, too
        template = name
        if "?" in template:
            template = template.split("?", 1)[0]
        if any(c.isdigit() or c == "'" for c in template):
            for pattern, replacement in _RULES:
                template = pattern.sub(replacement, template)
        self._known[name] = template
        return template
