"""The `panembed` command: its verbs, and what happens when one fails.

Data goes to stdout, messages and progress to stderr. Exit codes: 0 done, 1 failure, 2 usage or settings, 3 some inputs
failed (named in failed.csv), 130 interrupted after saving, by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from panembed.cli import data, demo, evaluate, experiment, export, info, measure, predict, report, train, tune
from panembed.cli.options import whole_sentence
from panembed.errors import PanembedError
from panembed.machine.termination import terminated_as_interrupted

app = typer.Typer(
    name="panembed",
    help="Panoptic segmentation by pixel embeddings: train, evaluate, predict.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Begin with: panembed demo",
)
whole_sentence(app, "train")(train.train)
whole_sentence(app, "evaluate")(evaluate.evaluate)
whole_sentence(app, "predict")(predict.predict)
whole_sentence(app, "measure")(measure.measure)
whole_sentence(app, "report")(report.report)
whole_sentence(app, "tune")(tune.tune)
whole_sentence(app, "export")(export.export)
whole_sentence(app, "experiment")(experiment.experiment)
app.add_typer(data.app, name="data")
whole_sentence(app, "demo")(demo.demo)
whole_sentence(app, "info")(info.info)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"panembed {version('panembed')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version, and leave")
    ] = False,
) -> None: ...


def main() -> None:
    """Run the command line; a user's mistake is one sentence, not a traceback."""
    try:
        with terminated_as_interrupted():
            app(standalone_mode=True)
    except PanembedError as error:
        print(f"panembed: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except SystemExit as end:
        if end.code == 2 and (hint := _setting_meant(sys.argv[1:])) is not None:
            print(f"panembed: {hint}", file=sys.stderr)
        if end.code == 130:
            print(f"panembed: interrupted{_what_was_said(end)}", file=sys.stderr)
        raise
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does.
        sys.stderr.close()
        sys.exit(1)


def _setting_meant(arguments: list[str]) -> str | None:
    """What to write instead of an option that is a setting, such as --epochs."""
    command: Any = typer.main.get_command(app)
    for name in arguments:
        if name in getattr(command, "commands", {}):
            command = command.commands[name]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    if "--set" not in known:
        return None
    from panembed.settings.keys import setting_called

    for place, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        key = setting_called(option.removeprefix("--").replace("-", "_")) if option.startswith("--") else None
        if key is not None and option not in known:
            after = arguments[place + 1] if place + 1 < len(arguments) else "VALUE"
            given = value if equals else after if not after.startswith("-") else "VALUE"
            return f"{option} is a setting; write --set {key}={given}"
    return None


def _what_was_said(error: BaseException) -> str:
    """The message of the KeyboardInterrupt that typer made an exit of."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, KeyboardInterrupt):
        cause = cause.__cause__ or cause.__context__
    return f"; {cause}" if str(cause or "") else ""


if __name__ == "__main__":
    main()
