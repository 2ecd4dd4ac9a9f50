"""Which migrations remain, as a function of the files and the ledger."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from troupe.common.migrate import Migration, MigrationsDiffer, Phase, pending, read_migrations

FILES = st.sets(st.tuples(st.integers(1, 30), st.sampled_from(Phase)), max_size=20).map(
    lambda keys: sorted(
        (Migration(number, phase, "name", f"SELECT {number}") for number, phase in keys),
        key=lambda migration: migration.position,
    )
)


def entry(migration: Migration) -> tuple[int, Phase, str]:
    return migration.number, migration.phase, migration.sha256


@given(FILES, st.data())
def test_what_is_applied_and_what_remains_is_everything(
    files: list[Migration], data: st.DataObject
) -> None:
    done = files[: data.draw(st.integers(0, len(files)))]
    assert done + pending(files, [entry(one) for one in done]) == files


@given(FILES)
def test_phases_may_be_applied_one_after_the_other(files: list[Migration]) -> None:
    before = [one for one in files if one.phase is Phase.BEFORE]
    rest = pending(files, [entry(one) for one in before])
    assert rest == [one for one in files if one.phase is Phase.AFTER]


@given(FILES.filter(bool), st.data())
def test_no_gap_is_ever_filled(files: list[Migration], data: st.DataObject) -> None:
    late = data.draw(st.sampled_from(files))
    applied = [entry(one) for one in files if one is not late]
    newest = max((n for n, phase, _ in applied if phase is late.phase), default=0)
    if late.number > newest:
        assert pending(files, applied) == [late]
    else:
        with pytest.raises(MigrationsDiffer, match="give it a higher number"):
            pending(files, applied)


@given(FILES.filter(bool), st.data())
def test_a_changed_or_missing_file_is_noticed(files: list[Migration], data: st.DataObject) -> None:
    odd = data.draw(st.sampled_from(files))
    applied = [entry(one) for one in files]
    changed = [
        Migration(one.number, one.phase, one.name, one.sql + " ") if one is odd else one
        for one in files
    ]
    with pytest.raises(MigrationsDiffer, match="was changed after"):
        pending(changed, applied)
    with pytest.raises(MigrationsDiffer, match="is missing"):
        pending([one for one in files if one is not odd], applied)


def test_our_own_files_are_in_order() -> None:
    numbers = [one.number for one in read_migrations() if one.phase is Phase.BEFORE]
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 1
