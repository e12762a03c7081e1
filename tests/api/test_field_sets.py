import copy
import itertools

from hypothesis import given
from hypothesis import strategies as st

from meshkube.api.apply.fieldsets import (
    SELF,
    Fields,
    belongs,
    common,
    key_step,
    minus,
    paths,
    union,
    value_step,
)

Path = tuple[str, ...]
PATHS = st.lists(st.sampled_from(["f:a", "f:b", "f:c"]), min_size=1, max_size=3).map(tuple)
SETS = st.frozensets(PATHS, max_size=6)


def tree(members: frozenset[Path]) -> Fields:
    """The tree of a set of paths."""
    root: Fields = {}
    for path in sorted(members):
        place = root
        for above, step in itertools.pairwise(((), *path)):  # type: ignore[arg-type]
            del above
            place = place.setdefault(step, {})
    return _marked(root, members, ())


def _marked(place: Fields, members: frozenset[Path], path: Path) -> Fields:
    marked = {step: _marked(below, members, (*path, step)) for step, below in place.items()}
    return {SELF: {}, **marked} if marked and path in members else marked


def members(place: Fields, path: Path = ()) -> frozenset[Path]:
    """The paths of a tree: the reverse of `tree`."""
    found = set()
    if path and belongs(place):
        found.add(path)
    for step, below in place.items():
        if step != SELF:
            found |= members(below, (*path, step))
    return frozenset(found)


@given(SETS)
def test_a_tree_holds_the_paths_it_was_made_of(one: frozenset[Path]) -> None:
    assert members(tree(one)) == one


@given(SETS, SETS)
def test_trees_are_joined_cut_and_met_as_sets_are(
    one: frozenset[Path], other: frozenset[Path]
) -> None:
    left, right = tree(one), tree(other)
    before = copy.deepcopy((left, right))
    assert members(union(left, right)) == one | other
    assert members(minus(left, right)) == one - other
    assert members(common(left, right)) == one & other
    assert (left, right) == before


@given(SETS, SETS)
def test_what_does_not_change_is_the_same_object(
    one: frozenset[Path], other: frozenset[Path]
) -> None:
    left, right = tree(one), tree(other)
    if other <= one:
        assert union(left, right) is left
    if one and not one & other:
        assert minus(left, right) is left


def test_places_are_named_as_messages_name_them() -> None:
    fields = {
        "f:spec": {
            "f:containers": {
                'k:{"name":"web"}': {SELF: {}, "f:image": {}},
                'k:{"containerPort":80,"protocol":"TCP"}': {},
            },
            "f:finalizers": {'v:"a/b"': {}},
            "f:any": {"i:0": {}},
        }
    }
    assert list(paths(fields)) == [
        '.spec.containers[name="web"]',
        '.spec.containers[name="web"].image',
        '.spec.containers[containerPort=80,protocol="TCP"]',
        '.spec.finalizers[="a/b"]',
        ".spec.any[0]",
    ]


def test_steps_are_written_with_their_keys_in_order() -> None:
    assert key_step({"protocol": "TCP", "port": 80}) == 'k:{"port":80,"protocol":"TCP"}'
    assert value_step("x") == 'v:"x"'
