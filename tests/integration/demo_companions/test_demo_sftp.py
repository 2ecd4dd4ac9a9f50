"""The SFTP companion, spoken to by asyncssh's client."""

import asyncio
import json

import asyncssh
import pytest

MODULE = "troupe_demo.sftp"


@pytest.fixture
def key():
    return asyncssh.generate_private_key("ssh-ed25519")


@pytest.fixture
def users_file(tmp_path, key):
    path = tmp_path / "users.json"
    public = key.export_public_key().decode().strip()
    users = {"nordwerk": {"password": "geheim"}, "harbor": {"keys": [public]}}
    path.write_text(json.dumps({"users": users}))
    return path


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root"


@pytest.fixture
def server(start, root, users_file):
    return start(MODULE, root, "--users", users_file)


def connect(server, **options):
    """A connection that trusts the announced host key and nothing else."""
    ready = server.ready
    known = asyncssh.import_known_hosts(f"[{ready['host']}]:{ready['port']} {ready['host_key']}\n")
    return asyncssh.connect(
        ready["host"],
        ready["port"],
        known_hosts=known,
        config=None,
        agent_path=None,
        client_keys=options.pop("client_keys", None),
        connect_timeout=10,
        **options,
    )


def test_files_by_password(server, root) -> None:
    (root / "nordwerk" / "customers.csv").write_bytes(b"Kundennummer;Firma\r\n")

    async def use() -> None:
        async with (
            connect(server, username="nordwerk", password="geheim") as connection,
            connection.start_sftp_client() as sftp,
        ):
            async with sftp.open("/customers.csv", "rb") as file:
                assert await file.read() == b"Kundennummer;Firma\r\n"
            async with sftp.open("upload.csv", "wb") as file:
                await file.write(b"x" * 300_000)
            assert sorted(await sftp.listdir("/")) == [".", "..", "customers.csv", "upload.csv"]

    asyncio.run(use())
    assert (root / "nordwerk" / "upload.csv").stat().st_size == 300_000


def test_files_by_key(server, root, key) -> None:
    async def use() -> None:
        async with (
            connect(server, username="harbor", client_keys=[key]) as connection,
            connection.start_sftp_client() as sftp,
        ):
            assert await sftp.realpath(".") == "/"
            await sftp.mkdir("archive")

    asyncio.run(use())
    assert (root / "harbor" / "archive").is_dir()


@pytest.mark.parametrize(
    "credentials",
    [
        {"username": "nordwerk", "password": "falsch"},
        {"username": "harbor", "password": "geheim"},
        {"username": "nobody", "password": "geheim"},
        {"username": "../nordwerk", "password": "geheim"},
    ],
)
def test_wrong_credentials_are_refused(server, credentials) -> None:
    async def use() -> None:
        with pytest.raises(asyncssh.PermissionDenied):
            await connect(server, **credentials)

    asyncio.run(use())


def test_another_key_is_refused(server) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519")

    async def use() -> None:
        with pytest.raises(asyncssh.PermissionDenied):
            await connect(server, username="harbor", client_keys=[other])

    asyncio.run(use())


def test_nobody_leaves_their_directory(server, root) -> None:
    (root / "harbor" / "secret.csv").write_text("secret")
    (root / "nordwerk" / "outside").symlink_to(root / "harbor")
    (root / "nordwerk" / "outside.csv").symlink_to(root / "harbor" / "secret.csv")

    async def use() -> None:
        async with (
            connect(server, username="nordwerk", password="geheim") as connection,
            connection.start_sftp_client() as sftp,
        ):
            # Too many steps up lead to the user's own top, not to the server's.
            assert await sftp.realpath("../../..") == "/"
            assert not await sftp.exists("../harbor/secret.csv")
            for path in ("outside/secret.csv", "outside.csv"):
                with pytest.raises(asyncssh.SFTPError):
                    await sftp.open(path, "rb")
            with pytest.raises(asyncssh.SFTPPermissionDenied):
                await sftp.symlink("/etc/passwd", "passwd")
            with pytest.raises(asyncssh.SFTPError):
                await sftp.rename("outside.csv", "mine.csv")

    asyncio.run(use())
    assert (root / "harbor" / "secret.csv").read_text() == "secret"


def test_there_are_files_and_nothing_else(server) -> None:
    async def use() -> None:
        async with connect(server, username="nordwerk", password="geheim") as connection:
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.run("id", check=True)
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.open_connection("127.0.0.1", 22)

    asyncio.run(use())


def test_the_host_key_stays(start, root, users_file) -> None:
    first = start(MODULE, root, "--users", users_file)
    first.ended_after(by=lambda companion: companion.terminate())
    second = start(MODULE, root, "--users", users_file)
    assert second.ready["host_key_fingerprint"] == first.ready["host_key_fingerprint"]
    assert second.ready["host_key_fingerprint"].startswith("SHA256:")
    assert (root / ".host_key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("how", ["terminate", "close_input"])
def test_ends_in_time_with_a_client_connected(server, how) -> None:
    async def use() -> None:
        async with (
            connect(server, username="nordwerk", password="geheim") as connection,
            connection.start_sftp_client(),
        ):
            seconds = await asyncio.to_thread(
                server.ended_after, by=lambda companion: getattr(companion, how)()
            )
            assert seconds < 2.0

    asyncio.run(use())
    assert server.process.returncode == 0


def test_says_on_one_line_what_is_wrong_with_the_users_file(start, tmp_path, root) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text('{"users": {"erp": {"keys": ["none"]}}}')
    with pytest.raises(AssertionError, match=r"^Error: .*bad\.json") as failure:
        start(MODULE, root, "--users", bad)
    assert "Traceback" not in str(failure.value)
