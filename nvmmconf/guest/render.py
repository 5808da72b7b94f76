# SPDX-License-Identifier: BSD-2-Clause
"""From a guest's template to assembler source, remembering where each line came from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jinja2
import jinja2.meta
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream

from .errors import GuestError
from .mode import Mode
from .parameters import Parameter
from .source import GuestSource

# Put into the rendered text by _Marks, taken out again by Rendered.
_MARK = re.compile("\x01([^\x02]*)\x02([0-9]+)\x03")

# A line of the guest's own that begins, after its label, with a macro: it learns its number.
_USE = re.compile(
    "\x01([^\x02]*)\x02([0-9]+)\x03(?=[ \t]*(?:[\\w.$]+:[ \t]*)?[A-Z][A-Z0-9_]+(?!\\S))"
)
_NUMBERED = re.compile(r"^\.set \.Lline, [0-9]+; *")


@dataclass(frozen=True)
class Origin:
    """A line of a template."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Rendered:
    """Assembler source for one guest in one mode."""

    marked: str
    """The text with the marks of its origins."""
    file: str
    """The guest's template, as messages call it."""
    include: Path
    """The folder of shared templates."""

    @cached_property
    def text(self) -> str:
        """What the assembler reads."""
        return _MARK.sub("", self.marked)

    @cached_property
    def origins(self) -> tuple[Origin, ...]:
        """For each line of `text`, the template's line that made it.

        Found out when asked for, which is when something is wrong.
        """
        return _origins(self.marked, self.file, self.include)

    def line(self, number: int) -> str:
        """Line `number` (from 1) without outer space, or nothing past the end."""
        lines = self.text.splitlines()
        found = lines[number - 1].strip() if 0 < number <= len(lines) else ""
        return _NUMBERED.sub("", found)

    def origin(self, number: int) -> Origin | None:
        """Where line `number` (from 1) came from, if known."""
        return self.origins[number - 1] if 0 < number <= len(self.origins) else None


class _Marks(Extension):
    """Marks, in the literal text of a template, where each of its lines begins.

    Text in the middle of a line is left alone, so that a macro on one line still
    gives a clean value to an expression.
    """

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        reached = 0
        for token in stream:
            value, lines = token.value, 0
            if token.type == "data":
                lines = value.count("\n")
                # A later line than the last token's: what is between was trimmed.
                if lines or token.lineno > reached:
                    value = "\n".join(
                        f"\x01{stream.name}\x02{token.lineno + index}\x03{line}"
                        for index, line in enumerate(value.split("\n"))
                    )
            reached = token.lineno + lines
            yield Token(token.lineno, token.type, value)


class _Loader(jinja2.BaseLoader):
    """Finds the shared files."""

    def __init__(self, include: Path) -> None:
        self._include = include

    def get_source(self, environment: jinja2.Environment, template: str) -> tuple[str, str, None]:
        try:
            return (self._include / template).read_text(encoding="utf-8"), template, None
        except (OSError, UnicodeDecodeError):
            raise jinja2.TemplateNotFound(template) from None


class Renderer:
    """Renders guests; reads each shared file once."""

    def __init__(self, include: Path) -> None:
        """`include` is the folder of shared files."""
        self._include = include
        self._environment = jinja2.Environment(
            loader=_Loader(include),
            extensions=[_Marks],
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            autoescape=False,
        )

    def render(
        self, source: GuestSource, mode: Mode, parameters: Mapping[str, Parameter]
    ) -> Rendered:
        """Render `source` inside the layout of `mode`, `<include>/<mode>.S`.

        Raises GuestError where the guest does not support `mode`, or a template is
        missing, wrong, or uses an undefined variable.
        """
        if mode not in source.modes:
            known = " ".join(mode.value for mode in source.modes)
            raise GuestError(f"{source.file}: not for mode {mode.value} (modes: {known})")
        environment, file = self._environment, source.file
        try:
            code = environment.compile(source.text, name=file, filename=file)
            guest = jinja2.Template.from_code(environment, code, environment.make_globals(None))
            layout = environment.get_template(f"{mode.value}.S")
            own = {"guest": guest, "guest_name": source.name}
            text = layout.render({**parameters, **mode.variables(), **own})
        except jinja2.TemplateSyntaxError as error:
            where = _shown(error.name or file, file, self._include)
            raise GuestError(f"{where}:{error.lineno}: {error.message}") from None
        except jinja2.TemplateNotFound as error:
            raise GuestError(f"{file}: no shared file {str(error)!r} in {self._include}") from None
        except Exception as error:
            # A template may call anything, so anything may come out of it.
            where = _raised_at(error, file, self._include) or file
            raise GuestError(f"{where}: {error}") from None
        return Rendered(_number_uses(text, file), file, self._include)

    def variables(self, text: str) -> frozenset[str]:
        """The names that a template leaves to others; none where it is no template."""
        try:
            parsed = self._environment.parse(text)
        except jinja2.TemplateSyntaxError:
            return frozenset()  # `render` says what is wrong, and where
        return frozenset(jinja2.meta.find_undeclared_variables(parsed))


def _shown(template: str, guest: str, include: Path) -> str:
    """How messages call a template."""
    return template if template == guest else str(include / template)


def _raised_at(error: Exception, guest: str, include: Path) -> str | None:
    """The innermost template line in the traceback, which Jinja2 rewrites to templates."""
    found = None
    step = error.__traceback__
    while step is not None:
        name = step.tb_frame.f_code.co_filename
        if name == guest or (not Path(name).is_absolute() and (include / name).is_file()):
            found = f"{_shown(name, guest, include)}:{step.tb_lineno}"
        step = step.tb_next
    return found


def _number_uses(marked: str, guest: str) -> str:
    """Set `.Lline` where the guest uses a macro, for those that report their line."""

    def numbered(match: re.Match[str]) -> str:
        return f"{match[0]}.set .Lline, {match[2]}; " if match[1] == guest else match[0]

    return _USE.sub(numbered, marked)


def _origins(marked: str, guest: str, include: Path) -> tuple[Origin, ...]:
    """A line belongs to the last mark before its first character."""
    origins: list[Origin] = []
    current = Origin(guest, 1)
    for line in marked.split("\n"):
        here: Origin | None = None
        last: Origin | None = None
        for match in _MARK.finditer(line):
            last = Origin(_shown(match[1], guest, include), int(match[2]))
            if here is None or not _MARK.sub("", line[: match.start()]).strip():
                here = last
        origins.append(here or current)
        # An unmarked line that follows continues where this one ended.
        current = last or current
    return tuple(origins)
