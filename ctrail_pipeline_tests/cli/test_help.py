"""The help of `ctrail` and of every command: it fits a terminal, and each example in it works.

Commands are found in the parser itself, so a new command is covered from its first day.
"""

import argparse
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctrail_pipeline.cli.events_view import connect
from ctrail_pipeline.cli.main import COMMANDS, command_parser, main
from ctrail_pipeline.config.times import parse_duration, parse_time, window_start
from ctrail_pipeline.core.output.local.local_output import LocalOutput

OPERATORS = {"&&", "||", "|", ";"}
REDIRECTIONS = {">", ">>", "<"}


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands of a parser, by name."""
    return {
        name: command
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for name, command in action.choices.items()
    }


def parsers(
    parser: argparse.ArgumentParser, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """A parser and all commands below it, each with the words that lead to it."""
    yield path, parser
    for name, command in commands_of(parser).items():
        yield from parsers(command, (*path, name))


PARSERS = dict(parsers(command_parser()))
each_parser = pytest.mark.parametrize("path", PARSERS, ids=lambda path: " ".join(path) or "ctrail")


def prose(parser: argparse.ArgumentParser) -> str:
    """The parts of a parser's help that people wrote. argparse makes the other parts."""
    return f"{parser.description or ''}\n{parser.epilog or ''}"


def is_open(text: str) -> bool:
    """Whether a quotation in a shell command is not closed."""
    try:
        shlex.split(text)
    except ValueError:
        return True
    return False


def indented(text: str) -> Iterator[str]:
    """The examples in a help text: its indented lines. A quotation may go over several lines."""
    pending = ""
    for line in text.splitlines():
        if pending:
            pending = f"{pending}\n{line}"
        elif line.startswith(" "):
            pending = line
        if pending and not is_open(command_in(pending)):
            yield pending
            pending = ""
    if pending:
        yield pending


def command_in(example: str) -> str:
    """The example without its comment. A comment begins after two spaces outside of quotes."""
    quote = ""
    text = example.strip()
    for position, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif text.startswith("  ", position):
            return text[:position]
    return text


def calls(example: str) -> Iterator[list[str]]:
    """The programs that an example calls, with their arguments."""
    words = shlex.shlex(command_in(example), posix=True, punctuation_chars=True)
    words.whitespace_split = True
    call: list[str] = []
    for word in words:
        if word in OPERATORS:
            yield call
            call = []
        else:
            call.append(word)
    yield call


def arguments_of(call: list[str]) -> list[str]:
    """The arguments of a call without redirections."""
    arguments: list[str] = []
    words = iter(call[1:])
    for word in words:
        if word in REDIRECTIONS:
            next(words)
        else:
            arguments.append(word)
    return arguments


def assert_times_are_read(options: argparse.Namespace) -> None:
    values = vars(options)
    window_start(values.get("start"), values.get("since"))
    for name in ("end", "before"):
        if values.get(name) is not None:
            parse_time(name, values[name])
    if values.get("watch") is not None:
        parse_duration("watch", values["watch"])


def examples() -> list[str]:
    return [example for parser in PARSERS.values() for example in indented(prose(parser))]


def test_every_command_has_a_parser_and_examples_are_found() -> None:
    assert set(PARSERS) == {(), *((command.name,) for command in COMMANDS)}
    assert len(examples()) > 15


@each_parser
def test_help_fits_a_terminal(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as ended:
        main([*path, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    lines = shown.out.splitlines()
    assert len(lines) > 5
    assert all(len(line) <= 100 for line in lines)
    for name in commands_of(PARSERS[path]):
        assert re.search(rf"^    {name}(?: +\w|$)", shown.out, re.MULTILINE)


@each_parser
def test_every_indented_line_is_a_whole_example(path: tuple[str, ...]) -> None:
    for example in indented(prose(PARSERS[path])):
        assert re.match(r" +ctrail \S", example), f"no call of ctrail: {example!r}"
        assert not is_open(command_in(example)), f"not whole: {example!r}"


@pytest.mark.parametrize("example", examples())
def test_examples_are_calls_that_ctrail_takes(example: str) -> None:
    for call in calls(example):
        if call[0] == "ctrail":
            options = command_parser().parse_args(arguments_of(call))
            assert options.run
            assert_times_are_read(options)
        else:
            assert shutil.which(call[0]), f"no such program: {call[0]}"


def test_the_sql_of_examples_fits_the_view(tmp_path: Path) -> None:
    statements = [
        options.sql
        for example in examples()
        for call in calls(example)
        if call[:2] == ["ctrail", "query"]
        for options in [command_parser().parse_args(arguments_of(call))]
    ]
    assert len(statements) >= 3
    with connect(LocalOutput(tmp_path, tmp_path)) as connection:
        for statement in statements:
            connection.execute(statement)


@each_parser
def test_commands_and_options_that_the_text_names_are_there(path: tuple[str, ...]) -> None:
    parser = PARSERS[path]
    everywhere = "\n".join([prose(parser), *(action.help or "" for action in parser._actions)])
    for name, options in re.findall(r"\bctrail ([a-z][a-z-]*)((?: --[a-z-]+)*)", everywhere):
        assert set(options.split()) <= set(PARSERS[(name,)]._option_string_actions), name
