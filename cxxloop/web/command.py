# SPDX-License-Identifier: MIT
"""The command `cxxloop serve`: every setting of Config as a flag and a variable, grouped in the help."""

import platform
import sys
from typing import Any

import click

from .. import __version__
from .config import Config
from .error import ConfigError
from .option import Flag, Folders, Headers, Option, Texts, options_of, variable_of
from .server import run


class _Value(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.4
    """A setting's kind as a type of click."""

    def __init__(self, setting: Option) -> None:
        self._kind = setting.kind
        self.name = setting.kind.metavar

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._kind.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def split_envvar_value(self, rv: str) -> list[str]:
        # One value on each line: those of headers contain spaces.
        return [line for line in rv.splitlines() if line.strip()]


class _GroupedCommand(click.Command):
    """Lists its options under the headings of Config's groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = None if isinstance(param, click.Argument) else param.get_help_record(ctx)
            if record is not None:
                groups.setdefault(getattr(param, "group", "Help"), []).append(record)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)


class _GroupedOption(click.Option):
    """An option under a heading, whose errors name the variable that was wrong."""

    group: str

    def get_error_hint(self, ctx: click.Context | None) -> str:
        name = self.name or ""
        source = None if ctx is None else ctx.get_parameter_source(name)
        return variable_of(name) if source is click.core.ParameterSource.ENVIRONMENT else self.opts[0]


def _make_option(name: str, setting: Option) -> click.Option:
    flag = setting.flag_of(name)
    help_text = setting.help + _default_text(setting)
    attributes: dict[str, Any] = {"envvar": variable_of(name), "default": None, "help": help_text}
    if isinstance(setting.kind, Flag) and not setting.kind.takes_value:
        declaration = f"{flag}/--no-{flag[2:]}"
        option = _GroupedOption([declaration, name], **attributes)
    else:
        is_list = isinstance(setting.kind, (Texts, Headers, Folders))
        attributes.update(type=_Value(setting), metavar=setting.kind.metavar, multiple=is_list)
        option = _GroupedOption([flag, name], **attributes)
    option.group = setting.group
    return option


def _default_text(setting: Option) -> str:
    shown, default = setting.shown_default, setting.default
    if shown is None and isinstance(default, bool):
        shown = "on" if default else "off"
    if shown is None and default not in (None, "", []):
        shown = f"{default:g}" if isinstance(default, float) else str(default)
    return "" if shown is None else f"  [default: {shown}]"


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    python = f"{platform.python_implementation()} {platform.python_version()}"
    click.echo(f"Running cxxloop {__version__} with {python} on {platform.system()}")
    ctx.exit()


def _serve(app: str, **given: Any) -> None:
    settings = {name: _flattened(value) for name, value in given.items() if value is not None and value != ()}
    settings.setdefault("app_dir", ".")
    try:
        run(app, **settings)
    except ConfigError as error:
        setting = options_of(Config).get(error.name)
        name = error.name if setting is None else setting.flag_of(error.name)
        raise click.UsageError(f"Invalid value for {name}: {error.reason}") from None


def _flattened(value: Any) -> Any:
    # Each value of a flag that may come several times is a list by itself.
    is_list = isinstance(value, tuple) and all(isinstance(values, list) for values in value)
    return [item for values in value for item in values] if is_list else value


def make_command() -> click.Command:
    """Make the command `serve`. Its exit codes: 2 for wrong flags, else those of run()."""
    params: list[click.Parameter] = [click.Argument(["app"], envvar=variable_of("app"))]
    for name, setting in options_of(Config).items():
        if not setting.in_code_only:
            params.append(_make_option(name, setting))
    params.append(
        click.Option(
            ["--version"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_print_version,
            help="Show the versions of cxxloop and Python, and exit.",
        )
    )
    return _GroupedCommand(
        "serve",
        params=params,
        callback=_serve,
        help="Serve APP, given as module:attribute, over HTTP.\n\nEvery flag has a variable: --ws-max-size is CXXLOOP_WS_MAX_SIZE.",
        context_settings={"max_content_width": 120, "help_option_names": ["-h", "--help"]},
    )


def main(arguments: list[str], program: str) -> int:
    """Run the command.

    Args:
        arguments: those behind `serve`.
        program: what the help calls it: "cxxloop serve".

    Returns:
        The exit code.
    """
    sys.argv[:] = [program, *arguments]
    make_command().main(args=arguments, prog_name=program)
    return 0
