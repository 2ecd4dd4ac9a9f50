"""``troupe keys``: look at the keys that seal secrets, and change them while everything runs."""

import json
from uuid import UUID

import click
import trio
from rich.console import Console
from rich.table import Table

from troupe.actors.auth.key_rotation import (
    KeysInUse,
    Resealed,
    add_key,
    keys_in_use,
    make_first,
    renew_data_keys,
    retire_unused,
    rewrap_all,
)
from troupe.cli.boundary import reported
from troupe.cli.context import Settings, as_json, database_of
from troupe.common import logs
from troupe.common.secrets import KeyRing, Vault
from troupe.wiring import key_file


@click.group()
@click.pass_obj
def keys(settings: Settings) -> None:
    """Look at the keys that seal secrets, and change them."""
    logs.configure(level=settings.log_level or "warning")


@keys.command()
@as_json
@click.pass_obj
@reported
def show(settings: Settings, *, json_output: bool) -> None:
    """List the key-encryption keys and how many data keys each wraps. Shows no key."""
    configuration = settings.load()

    async def work() -> KeysInUse:
        async with database_of(configuration) as database:
            return await keys_in_use(database)

    identifiers = KeyRing.load(key_file(configuration)).identifiers
    used = trio.run(work)
    missing = [key for key in used.wrapped if key not in identifiers]
    if json_output:
        document = {
            "keys": [
                {"id": str(key), "first": key == identifiers[0], "wraps": used.wrapped.get(key, 0)}
                for key in identifiers
            ],
            "missing": [str(key) for key in missing],
            "data_keys": used.data_keys,
            "retired_data_keys": used.retired,
        }
        click.echo(json.dumps(document))
        return
    table = Table("key", "wraps", "")
    for key in identifiers:
        use = "in use" if key == identifiers[0] else ""
        table.add_row(str(key), str(used.wrapped.get(key, 0)), use)
    for key in missing:
        table.add_row(str(key), str(used.wrapped[key]), "not in the file: its secrets do not open")
    Console().print(table)


@keys.command()
@as_json
@click.pass_obj
@reported
def add(settings: Settings, *, json_output: bool) -> None:
    """Add a key that nothing is wrapped with yet.

    With one host 'rotate' does it by itself. With several, copy the file to all of them first and
    then run 'troupe keys rotate --to KEY'.
    """
    identifier = add_key(key_file(settings.load()))
    click.echo(json.dumps({"id": str(identifier)}) if json_output else str(identifier))


@keys.command()
@click.option("--to", type=click.UUID, help="A key of the file; by default a fresh one is added.")
@click.option("--data-keys", is_flag=True, help="Also seal every secret anew, with new data keys.")
@as_json
@click.pass_obj
@reported
def rotate(settings: Settings, *, to: UUID | None, data_keys: bool, json_output: bool) -> None:
    """Wrap all data keys with another key-encryption key, without stopping anything.

    The old key stays in the file until 'troupe keys retire'. An interrupted rotation goes on when
    it is run again with --to.
    """
    configuration = settings.load()
    path = key_file(configuration)
    identifier = to or add_key(path)
    make_first(path, identifier)

    async def work() -> tuple[int, Resealed | None]:
        async with database_of(configuration) as database:
            vault = Vault(KeyRing.load(path))
            changed = await rewrap_all(database, vault)
            return changed, await renew_data_keys(database, vault) if data_keys else None

    changed, resealed = trio.run(work)
    if json_output:
        document = {"id": str(identifier), "rewrapped": changed}
        if resealed is not None:
            document |= {
                "tenants": resealed.tenants,
                "resealed": resealed.values,
                "unreadable": resealed.unreadable,
                "data_keys_dropped": resealed.keys_dropped,
            }
        click.echo(json.dumps(document))
        return
    click.echo(f"{identifier} wraps now; {changed} data keys were wrapped anew")
    if resealed is not None:
        click.echo(f"{resealed.values} secrets of {resealed.tenants} tenants were sealed anew")
        if resealed.unreadable:
            click.echo(f"{resealed.unreadable} secrets do not open with any key and were left")


@keys.command()
@as_json
@click.pass_obj
@reported
def retire(settings: Settings, *, json_output: bool) -> None:
    """Take keys out of the file that wrap nothing any more."""
    configuration = settings.load()

    async def work() -> list[UUID]:
        async with database_of(configuration) as database:
            return await retire_unused(database, key_file(configuration))

    gone = [str(key) for key in trio.run(work)]
    if json_output:
        click.echo(json.dumps({"retired": gone}))
    else:
        click.echo("\n".join(gone) or "nothing to retire")


def add_to(root: click.Group) -> None:
    """Add the commands to the root command."""
    root.add_command(keys)
