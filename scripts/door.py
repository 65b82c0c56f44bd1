"""The door between Hydra and the packages: here configuration becomes dataclasses, and a user's mistake one line.

@entry("train_detector")  # conf/train_detector.yaml
def main(config: DictConfig, folder: Path) -> dict[str, Any]:
    settings = configure(TrainDetectorConfig, config)
    ...
    return results  # written to folder/summary.json

if __name__ == "__main__":
    main()
"""

from __future__ import annotations

import errno
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from importlib import import_module, resources
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

import hydra
import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ValueType
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from generation.records import UserError, write_beside
from scripts.console import progress, say
from scripts.summary import write_summary

__all__ = ["Incomplete", "Tampered", "configure", "entry", "progress", "say", "set_seed"]

T = TypeVar("T")

CONFIG = "config.yaml"
"""What the run in a folder was started with; `.hydra` beside it shows the last command."""

FREE_KEYS = frozenset({"workers", "progress", "logger"})
"""Keys (and groups) that change no result: a run may be resumed with other values."""


def configure(cls: type[T], config: DictConfig | Mapping[str, Any], prefix: str = "") -> T:
    """The (nested) dataclass `cls` from a configuration; `prefix` is where in the whole configuration it lies.

    Fields may be bool, int, float (an int is taken too), str, Path, Literal, dataclasses, `X | None`, and lists,
    tuples and dicts of these. Raises `UserError` that names the key, its value and what is allowed: for an unknown
    key, a wrong type, a missing value, or whatever `__post_init__` of `cls` objects to.
    """
    return _build(cls, _resolved(config, prefix), prefix)


def _resolved(config: DictConfig | Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Plain values, with interpolations resolved."""
    node = config if isinstance(config, DictConfig) else OmegaConf.create(dict(config))
    missing = sorted(OmegaConf.missing_keys(node))
    if missing:
        key = _join(prefix, missing[0])
        raise UserError(f"{key}: must be given, as {key}=...")
    plain: dict[str, Any] = OmegaConf.to_container(node, resolve=True)  # type: ignore[assignment]
    return plain


def _join(prefix: str, key: object) -> str:
    return f"{prefix}.{key}" if prefix else str(key)


def _build(cls: type[T], values: Mapping[str, Any], prefix: str) -> T:
    hints = get_type_hints(cls)
    known = {field.name: field for field in fields(cls) if field.init}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise UserError(_unknown_key(str(key), known, prefix))
    for name, field in known.items():
        if name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise UserError(f"{_join(prefix, name)}: must be given, as {_join(prefix, name)}=...")
    return cls(**{key: _convert(hints[key], value, _join(prefix, key)) for key, value in values.items()})


_KINDS: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((float, int), "a number"),
    str: ((str,), "text"),
    Path: ((str,), "a path"),
}


def _convert(hint: Any, value: Any, key: str) -> Any:
    """The value as the annotation `hint` wants it."""
    if is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise UserError(f"{key}={value}: must be a group of keys: {', '.join(f.name for f in fields(hint))}")
        return _build(hint, value, key)
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, UnionType):
        if value is None and NoneType in inner:
            return None
        (kind,) = [kind for kind in inner if kind is not NoneType]
        return _convert(kind, value, key)
    if origin is Literal:
        if value not in inner or isinstance(value, bool):
            raise UserError(f"{key}={value}: {_suggestion(str(value), inner)}allowed are {_listed(inner)}")
        return value
    if origin in (list, tuple):
        if not isinstance(value, list):
            raise UserError(f"{key}={value}: must be a list, as {key}=[...]")
        return origin(_convert(inner[0], item, f"{key}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise UserError(f"{key}={value}: must be a group of keys")
        return {name: _convert(inner[1], item, _join(key, name)) for name, item in value.items()}
    allowed, words = _KINDS[hint]
    if not isinstance(value, allowed) or (isinstance(value, bool) and hint is not bool):
        raise UserError(f"{key}={'null' if value is None else value}: must be {words}")
    return hint(value)


def _unknown_key(key: str, known: Iterable[str], prefix: str) -> str:
    names = list(known)
    there = f"; {_suggestion(key, names)}there are {_listed(names)}" if names else ""
    return f"{_join(prefix, key)}: no such key{there}"


def _suggestion(word: str, allowed: Iterable[object]) -> str:
    near = get_close_matches(word, [str(item) for item in allowed], n=1)
    return f"did you mean {near[0]}? " if near else ""


def _listed(items: Iterable[object]) -> str:
    return ", ".join(str(item) for item in items)


def set_seed(seed: object) -> None:
    """Seed the global generators too. Ours are explicit; this is for what libraries draw on their own."""
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise UserError(f"seed={seed}: must be a whole number, 0 or more")
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


INCOMPLETE = 3


class Incomplete(dict[str, Any]):
    """Results of work that is done, but had to leave out some of what it was given: exit code `INCOMPLETE`."""

    exit_code = INCOMPLETE


class Tampered(Incomplete):
    """Results of looking for changed files that found some: exit code 1."""

    exit_code = 1


Work = Callable[[DictConfig, Path], Mapping[str, Any]]
"""(configuration, run folder) -> results for `summary.json`."""


def entry(
    name: str, named: Iterable[str] = (), paths: Mapping[str, str] | None = None
) -> Callable[[Work], Callable[[], None]]:
    """Decorator: the function becomes a command that reads `conf/<name>.yaml` and `key=value ...` of the command line.

    The run folder is `hydra.run.dir`; one that holds a run of another configuration is refused. Exit codes: 2 with one
    line for a user's mistake or a full disk, 3 where the results are `Incomplete`, 1 where they are `Tampered`, 130
    for Ctrl-C.

    named: groups of keys whose names users choose, such as `sets` for sets.mine=DIR. paths: short keys whose value,
    where it is a file or folder that is there, is meant for another key, such as data=DIR for data.folder=DIR.
    """

    def decorate(work: Work) -> Callable[[], None]:
        def task(config: DictConfig) -> None:
            folder = Path(HydraConfig.get().runtime.output_dir)
            shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
            with _mistakes_end_here(f"the same command with hydra.run.dir={shown} goes on from here"):
                start = time.perf_counter()
                _claim(folder, shown, config)
                set_seed(config.get("seed", 0))
                results = work(config, folder)
                write_summary(folder, results, _resolved(config), time.perf_counter() - start)
                say(f"results: {shown}")
                if isinstance(results, Incomplete):
                    raise SystemExit(results.exit_code)

        def main() -> None:
            os.environ.setdefault("HYDRA_FULL_ERROR", "1")
            several = bool({"-m", "--multirun"} & set(sys.argv))
            if several and work.__module__ == "__main__":  # other processes find what is in a module, not in a script
                import_module(f"scripts.{Path(sys.argv[0]).stem}").main()
                return
            if not several:
                sys.argv[1:] = [_commas_as_list(argument) for argument in sys.argv[1:]]
            sys.argv[1:] = [_spelled_out(argument, tuple(named), paths or {}) for argument in sys.argv[1:]]
            with _mistakes_end_here("give the command again"):
                hydra.main(version_base="1.3", config_path="pkg://conf", config_name=name)(task)()

        main.__doc__ = work.__doc__
        return main

    return decorate


def _spelled_out(argument: str, named: tuple[str, ...], paths: Mapping[str, str]) -> str:
    """A `key=value` as Hydra wants it: short keys at length, and `++` before keys that no configuration lists."""
    key, _, value = argument.partition("=")
    if key in paths and value and Path(value).exists():
        argument = f"{paths[key]}={value}"
    return f"++{argument}" if argument.startswith(tuple(f"{group}." for group in named)) else argument


def _commas_as_list(argument: str) -> str:
    """`key=a,b`, which Hydra keeps for several runs (`--multirun`), as `key=[a,b]`; a sentence with commas as text."""
    try:
        override = OverridesParser.create().parse_override(argument)
    except HydraException:
        return argument
    if override.value_type is not ValueType.SIMPLE_CHOICE_SWEEP:
        return argument
    key, _, value = argument.partition("=")
    if ", " in value:
        return f"{key}={json.dumps(value, ensure_ascii=False)}"
    return f"{key}=[{value}]"


@contextmanager
def _mistakes_end_here(after: str) -> Iterator[None]:
    """Exit with one line on what a user can mend; `after` says how to go on once it is mended."""
    try:
        yield
    except UserError as error:
        _stop(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        _stop(_reworded(error))
    except KeyboardInterrupt:
        say(f"stopped; {after}")
        raise SystemExit(130) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            _stop(f"no space left on the disk{_named(error)}; free some, then {after}")
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            _stop(f"{error.strerror}{_named(error)}; choose a folder that can be written, then {after}")
        raise


def _named(error: OSError) -> str:
    return f": {error.filename}" if error.filename else ""


def _stop(line: str) -> NoReturn:
    say(f"error: {' '.join(line.split())}")
    raise SystemExit(2) from None


def _claim(folder: Path, shown: Path, config: DictConfig) -> None:
    """Note the configuration in the folder; where a run has left something there already, check that it is the same."""
    path = folder / CONFIG
    plain = _resolved(config)
    left = [item for item in folder.iterdir() if item.name not in (CONFIG, ".hydra") and item.suffix != ".log"]
    if not left or not path.is_file():
        write_beside(path, OmegaConf.to_yaml(OmegaConf.create(plain)).encode())
        return
    old, new = flat(OmegaConf.to_container(OmegaConf.load(path))), flat(plain)
    differ = [key for key in sorted(old | new) if old.get(key) != new.get(key) and not FREE_KEYS & set(key.split("."))]
    if differ:
        absent = "not there"
        changes = "; ".join(f"{key} was {old.get(key, absent)}, is {new.get(key, absent)}" for key in differ[:5])
        raise UserError(
            f"{shown} holds a run of another configuration ({changes}): use another folder or the old values"
        )


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys and comparable values."""
    if not isinstance(value, Mapping):
        return {prefix: json.loads(json.dumps(value, default=str))}
    found: dict[str, Any] = {}
    for key, item in value.items():
        found |= flat(item, _join(prefix, key))
    return found


def _reworded(error: Exception) -> str:
    """One line for a mistake that Hydra or OmegaConf found."""
    cause = error.__cause__
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        near = _suggestion(choice, error.options)
        return f"{group}={choice}: no such choice; {near}there are {_listed(error.options)}"
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and isinstance(cause.full_key, str):
        prefix, _, key = cause.full_key.rpartition(".")
        known = [name for name in cause.parent_node or () if name != "hydra"]
        return _unknown_key(key, known if prefix else [*known, *sorted(set(_groups()) - set(known))], prefix)
    lines = str(error).partition("\nSee ")[0].splitlines()
    if isinstance(error, OverrideParseException):
        return f"{error.override!r} cannot be read as key=value: {lines[-1]}; quote values with special characters"
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return f"{error.full_key}: {lines[0]}"
    return " ".join(lines)


def _groups() -> list[str]:
    """Groups of choices: the folders of `conf`."""
    return [item.name for item in resources.files("conf").iterdir() if item.is_dir() and not item.name.startswith("_")]
