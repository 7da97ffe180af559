"""Hold the compiled part beside Python over many random heads; prints what was seen, and the first head that differs.

    python tests/fuzz/heads.py [--count 1000000] [--seed 7] [--library build/_heads.abi3.so]

With `--library` another build than the installed one, such as one with ASan and UBSan (`.ci/sanitize`).
"""

import argparse
import sys
import time
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from random import Random
from types import ModuleType

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.heads import compare, random_head


def compiled(library: str | None) -> ModuleType:
    """The compiled part: the installed one, or that in the file."""
    name = "propylon.wire._heads"
    if library is None:
        from propylon.wire import _heads  # noqa: PLC0415 — it may not be there

        return _heads
    spec = spec_from_loader(name, ExtensionFileLoader(name, library))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Compare so many heads, half of them requests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--library")
    options = parser.parse_args()
    module = compiled(options.library)
    seed = options.seed if options.seed is not None else time.time_ns() % 2**32
    random = Random(seed)
    accepted = [0, 0]
    for number in range(options.count):
        request = number % 2 == 0
        head = random_head(random, request=request)
        reader = module.request if request else module.response
        accepted[number % 2] += compare(head, request=request, compiled=reader)
    half = options.count // 2
    print(
        f"{options.count} heads, seed {seed}: of {half} requests {accepted[0]} accepted, of {half} answers {accepted[1]};"
        " Python read each of these alike"
    )
    if min(accepted) < options.count // 20:
        raise SystemExit("too few were accepted to say anything")


if __name__ == "__main__":
    main()
