"""Files that `include` names: one configuration out of many files, each value with the place where it stands."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from propylon.commands import check
from propylon.config.reading import include as module
from propylon.config.reading.load import load, load_listeners
from propylon.config.reading.problems import ConfigError
from tests.config.texts import loaded, problems
from tests.support.examples import examples

ALL = "include: [conf.d/*.yaml]\n"


def write(**texts: str) -> None:
    """Write files of conf.d by their names."""
    Path("conf.d").mkdir(exist_ok=True)
    for name, text in texts.items():
        Path("conf.d", f"{name}.yaml").write_text(text)


def team(name: str) -> str:
    """Say a service with a route."""
    route = {"path": f"/{name}", "service": name, "auth": "none"}
    return yaml.safe_dump({"services": {name: {"url": f"http://{name}:80"}}, "routes": [route]})


def test_routes_follow_in_the_order_of_names() -> None:
    """After those of the file itself, whatever the order in the directory; patterns in their own order."""
    write(b=team("b"), a=team("a"), c=team("c"))
    read = loaded("include: [conf.d/c.yaml, conf.d/*.yaml]\n" + team("own"))
    assert [route.path for route in read.config.routes] == ["/own", "/c", "/a", "/b"]
    assert set(read.config.services) == {"own", "a", "b", "c"}
    assert read.places.of(("routes", 2, "path")) == "conf.d/a.yaml:3"
    assert read.places.of(("services", "b", "url")) == "conf.d/b.yaml:7"
    assert read.source == "propylon.yaml with 3 included files"
    assert read.notes == ()


names = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8)


@given(names, st.lists(st.integers(0, 3), min_size=8, max_size=8))
@examples(60)
def test_it_does_not_matter_into_which_files_it_is_split(
    teams: list[str], where: list[int]
) -> None:
    """Every split into files reads as the one file that has their routes in that order, and each line is the value's own."""
    parts: list[list[str]] = [[] for _ in range(4)]
    for name, at in zip(teams, where, strict=False):
        parts[at].append(name)
    ordered = [name for part in parts for name in part]
    with TemporaryDirectory() as folder:
        one = Path(folder, "one.yaml")
        one.write_text(several(ordered))
        first = Path(folder, "first.yaml")
        first.write_text(f"include: '[0-9].yaml'\n{several(parts[0])}")
        for at, part in enumerate(parts[1:]):
            Path(folder, f"{at}.yaml").write_text(several(part))
        whole, split = load(one, {}), load(first, {})
        assert split.config.model_copy(update={"include": ()}) == whole.config
        for at, name in enumerate(ordered):
            for path in (("routes", at, "path"), ("services", name, "url")):
                file, _, line = split.places.of(path).rpartition(":")
                assert f"{path[-1]}: " in Path(file).read_text().splitlines()[int(line) - 1]
                assert f"/{name}" in Path(file).read_text().splitlines()[int(line) - 1]


def several(names: list[str]) -> str:
    """Say these teams in one file."""
    services = {name: {"url": f"http://x/{name}"} for name in names}
    routes = [{"path": f"/{name}", "service": name, "auth": "none"} for name in names]
    return yaml.safe_dump({"services": services, "routes": routes})


def test_two_files_with_one_route_are_a_problem_with_both_places() -> None:
    """By its path, and by its name."""
    write(a="routes:\n  - {name: x, path: /a, service: s}\n")
    write(b="routes:\n  - {path: /b, service: s}\n  - {name: x, path: /a, service: s}\n")
    said = problems(f"{ALL}services: {{s: {{url: 'http://s:80'}}}}\n")
    assert said == [
        'conf.d/b.yaml:3 routes[1].name: the name "x" is taken by routes[0] "x" (conf.d/a.yaml:2)',
        'conf.d/b.yaml:3 routes[1].path: duplicate: matches just what routes[0] "x" (conf.d/a.yaml:2) matches',
    ]


def test_problems_are_said_in_the_order_of_the_files() -> None:
    """Each with its own file and line, also of what is not merged, and of variables that are not set."""
    write(
        a="x-a: {url: '${NOPE}'}\nlog: {level: loud}\n", b="routes:\n\n  - {path: /b, service: t}\n"
    )
    said = problems(f"{ALL}server: {{prt: 1}}\nservices: {{}}\n")
    assert [text.split(": ")[0] for text in said] == [
        "propylon.yaml:2 server.prt",
        "conf.d/a.yaml:1 x-a.url",
        "conf.d/a.yaml:2 log.level",
        "conf.d/b.yaml:3 routes[0].service",
    ]


def test_every_file_that_cannot_be_read_is_named() -> None:
    """All at once; and a file without a wildcard has to be there, as in nginx."""
    write(a="a: [", b="- a\n")
    said = problems("include: [conf.d/*.yaml, gone.yaml, conf.d]\n")
    assert [text.split(": ")[0] for text in said] == [
        "conf.d/a.yaml:2",
        "conf.d/b.yaml:1",
        "gone.yaml",
        "conf.d",
    ]
    with pytest.raises(ConfigError):
        load_listeners(None, {})


def test_a_pattern_that_matches_nothing_is_a_note() -> None:
    """An empty directory is no mistake."""
    read = loaded(f"{ALL}{team('own')}")
    assert read.notes == ("include: conf.d/*.yaml matches no file",)
    assert read.warnings == ()
    assert check.warnings(read) == "note: include: conf.d/*.yaml matches no file\n"


def test_what_a_pattern_does_not_mean() -> None:
    """The file itself, hidden files, directories; a link to nothing is a file that should be there."""
    write(a=team("a"))
    Path("conf.d", ".b.yaml").write_text("nonsense")
    Path("conf.d", "c.yaml").mkdir()
    read = loaded("include: ['*.yaml', 'conf.d/*']\n" + team("own"))
    assert [route.path for route in read.config.routes] == ["/own", "/a"]
    Path("conf.d", "d.yaml").symlink_to("nowhere")
    assert problems(ALL) == ["conf.d/d.yaml: cannot be read: no such file or directory"]


def test_variables_win_over_included_files() -> None:
    """As over the file itself; what is included is read with variables, too."""
    write(a="services: {users: {url: 'http://${HOSTNAME}:80'}}\n", b="server: {port: 1}\n")
    environ = {"PROPYLON_SERVICES__USERS__BALANCE": "random", "PORT": "8123", "HOSTNAME": "u"}
    read = loaded(ALL, environ)
    assert read.config.services["users"].balance.by == "random"
    assert read.config.services["users"].url == "http://u:80"
    assert load_listeners(None, environ).server.port == 8123
    assert load_listeners(None, {"HOSTNAME": "u"}).server.port == 1


def test_a_pattern_for_too_many_files_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was meant for something else."""
    monkeypatch.setattr(module, "MOST_FILES", 2)
    write(a="", b="", c="")
    assert problems(ALL) == ["propylon.yaml:1 include: matches 3 files, and 2 are the most"]


def test_names_without_the_directory() -> None:
    """What a client is told of places says nothing of the machine's directories."""
    write(a=team("a"))
    path = Path.cwd() / "propylon.yaml"
    path.write_text(f"include: [conf.d/*.yaml]\n{team('own')}")
    places = load(path, {}).places
    assert places.of(("routes", 1)).startswith("/")
    short = places.without_directory()
    assert short.of(("routes", 0)) == "propylon.yaml:3"
    assert short.of(("routes", 1)) == "conf.d/a.yaml:2"
