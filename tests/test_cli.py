"""The command line: what it offers, what it says when something is wrong, and how it exits."""

from __future__ import annotations

import json
import os
import resource
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer

from sfbench import cli, cli_common, registry
from sfbench.schema import Result
from sfbench.store import read_records

import fakes

COMMAND = typer.main.get_command(cli.app)
COMMANDS: dict[str, object] = COMMAND.commands  # type: ignore[attr-defined]
Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Said:
    """Run a command in an empty folder; its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setitem(registry.BUILTINS["tasks"], "fake", "fakes:FakeTask")

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            cli.main(list(arguments))
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


# --- the surface ----------------------------------------------------------------------------------


def examples() -> Iterator[str]:
    for command in (COMMAND, *COMMANDS.values()):
        epilog = command.epilog  # type: ignore[attr-defined]
        assert "  sfbench " in epilog
        lines = epilog.replace("\\\n", "").splitlines()  # a line may go on in the next one
        yield from (line.strip() for line in lines if line.startswith("  sfbench "))


@pytest.mark.parametrize("example", list(examples()))
def test_every_example_can_be_typed(example: str) -> None:
    _, name, *arguments = shlex.split(example)
    COMMANDS[name].make_context(name, arguments)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "arguments", [[], ["--help"], ["run", "--help"], ["train-reference", "--help"], ["--version"]]
)
def test_help_and_version(said: Said, arguments: list[str]) -> None:
    code, out, err = said(*arguments)
    assert (code, err) == (0, "")
    assert "sfbench" in out


def test_help_and_list_are_fast(sfbench: Callable[..., object]) -> None:
    assert best_cpu(lambda: sfbench("--help")) < 0.5
    assert best_cpu(lambda: sfbench("list")) < 1.0


def best_cpu(call: Callable[[], object]) -> float:
    """Least processor seconds of three tries: the wall clock belongs to whoever else is here."""
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        call()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(spent)


@pytest.mark.parametrize("what", ["tasks", "models", "datasets", "methods", "presets"])
def test_list(said: Said, what: str) -> None:
    code, out, _ = said("list", what)
    assert code == 0
    listed = json.loads(said("list", what, "--json")[1])
    assert list(listed) == [what]
    assert listed[what]
    assert all(name in out for name in listed[what])


def test_all_is_listed(said: Said) -> None:
    listed = json.loads(said("list", "--json")[1])
    assert listed["tasks"]["fake"] == "fakes:FakeTask"
    assert {"cheat:NAME", "videos:FOLDER"} <= listed["models"].keys()


# --- what is wrong is one sentence ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["run", "--task", "fack"], "Unknown task 'fack'; did you mean fake"),
        (["run", "--task", "fake", "--tier", "big"], "the tiers are smoke, lite"),
        (["run", "--task", "long-horizon", "--size", "3", "--model", "cheat:noise"], "too small"),
        (["run", "--task", "long-horizon", "--dataset", "x", "--model", "cheat:noise"], "level"),
        (["run", "--task", "latency", "--seeds", "3"], "latency takes no --seeds"),
        (["run", "--task", "fake", "--model", "cheet:frozen"], "did you mean cheat"),
        (["run", "--task", "fake", "--model", "cheat:frosen"], "did you mean frozen"),
        (["run", "--task", "fake", "--model", "videos:nowhere"], "is not a folder"),
        (["run", "--task", "fake", "--model", "nowhere:Model"], "no module 'nowhere'"),
        (["run", "--task", "fake", "--limit", "0"], "--limit"),
        (["run", "--frobnicate"], "No such option: --frobnicate"),
        (["frobnicate"], "No such command 'frobnicate'"),
        (["list", "models", "--yaml"], "No such option: --yaml"),
        (["list", "modles"], "did you mean models"),
        (["report", "nowhere"], "nowhere"),
        (["report", "--format", "pdf"], "Unknown format 'pdf'"),
        (["compare", "one"], "Comparing takes two rows or more"),
        (["compare", "one", "two"], "holds no results to look it up in"),
        (["train-reference", "--preset", "tinny"], "tiny"),
        (["train-reference", "--preset", "smoke", "--method", "dmd"], "did you mean"),
        (["train-reference", "--preset", "smoke", "--set", "model.dimm=3"], "did you mean"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    said: Said, arguments: list[str], part: str
) -> None:
    code, out, err = said(*arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("sfbench: ")
    assert err.count("\n") == 1
    assert part in err
    assert not Path("runs").exists()  # the mistake is said before anything is written


def test_an_error_of_the_program_is_not_hidden(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, model: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(fakes.FakeTask, "requests", broken)
    with pytest.raises(ZeroDivisionError):
        cli.main(["run", "--task", "fake", "--model", "fakes:Static"])


def test_a_sentence_becomes_a_traceback_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFBENCH_DEBUG", "1")
    with pytest.raises(registry.UnknownName):
        cli.main(["run", "--task", "fack"])


# --- run ------------------------------------------------------------------------------------------


def test_run_twice_then_report(said: Said) -> None:
    command = ["run", "--task", "fake", "--model", "fakes:Static", "--model", "cheat:loop"]
    code, out, _ = said(*command)
    assert code == 0
    root = Path("runs/fake-smoke")
    for name in ("static", "cheat-loop"):
        assert f"{root / name / 'result.json'}" in out
        Result.model_validate_json((root / name / "result.json").read_text())
    assert "cheat:loop" in out  # and not an emoji
    before = (root / "static" / "records.jsonl").read_bytes()
    assert said(*command)[0] == 0
    assert (root / "static" / "records.jsonl").read_bytes() == before

    code, out, _ = said("report", "--format", "csv,md")
    assert code == 0
    assert len(out.splitlines()) == 2
    assert all(Path(line).exists() for line in out.splitlines())


def test_a_dry_run_runs_nothing(said: Said) -> None:
    command = ["run", "--task", "fake", "--model", "fakes:Static", "--out", "here"]
    code, out, _ = said(*command, "--dry-run")
    assert code == 0
    assert not Path("here").exists()
    assert out.split()[-7:] == ["fakes:Static", "6", "free", "6", "48", "0", "here/static"]
    said(*command, "--limit", "2")
    assert said(*command, "--dry-run")[1].split()[-2:] == ["2", "here/static"]
    assert len(read_records(Path("here/static"))) == 2


def test_without_a_model_everything_that_ships_is_run(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.BUILTINS["listings"], "models", "fakes:shipped")
    code, _, _ = said("run", "--task", "fake")
    assert code == 0
    names = {path.name for path in Path("runs/fake-smoke").iterdir()}
    assert names == {"static", "cheat-frozen", "cheat-loop", "cheat-noise"}


def test_failures_end_with_exit_code_1(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUBBORN", "1")
    command = ["run", "--task", "fake", "--model", "fakes:Stubborn"]
    code, out, _ = said(*command)
    assert code == 1
    assert "2 model; --retry-errors runs them again" in out
    monkeypatch.delenv("STUBBORN")
    assert said(*command)[0] == 1
    assert said(*command, "--retry-errors")[0] == 0


def test_another_configuration_has_its_own_directory(said: Said) -> None:
    command = ["run", "--task", "fake", "--model", "fakes:Static"]
    assert said(*command)[0] == 0
    assert said(*command, "--seeds", "1", "--size", "20", "--tier", "lite")[0] == 0
    assert {path.name for path in Path("runs").iterdir()} == {
        "fake-smoke",
        "fake-lite-20px-1seeds",
    }
    code, _, err = said(*command, "--seeds", "1", "--out", "runs/fake-smoke")
    assert code == 2
    assert "task.seeds: [0, 1] there, [0] now" in err


def test_two_models_of_one_name_are_not_mixed(said: Said) -> None:
    code, _, err = said(
        "run", "--task", "fake", "--model", "fakes:Static", "--model", "fakes:STATIC"
    )
    assert code == 2
    assert "'fakes:Static' and 'fakes:STATIC' would both run in" in err


def test_a_mistake_in_the_last_model_is_said_before_the_first_is_run(said: Said) -> None:
    code, _, _ = said("run", "--task", "fake", "--model", "fakes:Static", "--model", "cheat:x")
    assert code == 2
    assert not Path("runs").exists()


def test_threads_are_set_before_libraries_read_them(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in cli_common.THREAD_VARIABLES:
        monkeypatch.setenv(name, "7")
    said("run", "--task", "fake", "--model", "fakes:Static", "--dry-run", "--threads", "2")
    assert [os.environ[name] for name in cli_common.THREAD_VARIABLES] == ["2", "2", "2"]


# --- train-reference ------------------------------------------------------------------------------


def test_training_is_handed_its_options(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[tuple[object, ...]] = []

    def load(kind: str, name: str) -> object:
        """The evaluator is told by its name, the trainer keeps what it is given."""
        if kind == "evaluators":
            return f"{kind}:{name}"
        return lambda *told, evaluator, given: handed.append((*told, evaluator, given))

    monkeypatch.setattr(registry, "load", load)
    assert said("train-reference")[0] == 0
    options = ["--preset", "smoke", "--method", "teacher", "--set", "a=1", "--set", "b=2"]
    weights = ["--given", "base=a", "--given", "teacher=b"]
    assert said("train-reference", *options, "--out", "o", "--resume", *weights)[0] == 0
    given = ["base=a", "teacher=b"]
    assert handed == [
        ("tiny", "all", [], None, False, "evaluators:reference", None),
        ("smoke", "teacher", ["a=1", "b=2"], Path("o"), True, "evaluators:reference", given),
    ]


def test_an_interrupted_training_says_how_to_go_on(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(registry, "load", lambda kind, name: interrupted)
    code, _, err = said("train-reference")
    assert code == 3
    assert err.startswith("sfbench: interrupted; the same command with --resume")


def test_all_tasks_in_one_command(said: Said) -> None:
    given = ("--tier", "smoke", "--model", "cheat:frozen", "--seeds", "1", "--dry-run")
    code, out, _ = said("run", "--task", "all", *given)
    assert code == 0
    for task in ("long-horizon", "latency", "quality"):
        assert f"runs/{task}-smoke" in out
    code, _, err = said("run", "--task", "latency", *given)
    assert code == 2 and "latency takes no --seeds" in err
