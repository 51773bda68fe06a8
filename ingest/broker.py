"""The embedded broker: mosquitto, configured so that each gateway speaks for itself only."""

import ctypes
import hashlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from registry.clock import stopwatch

LOG_BYTES = 4 << 20
"""At most so much of mosquitto's log, and as much again of what was before."""

PR_SET_PDEATHSIG = 1  # linux/prctl.h
LOOPBACK = "127.0.0.1"
COLLECTOR = "collector"
"""The user, and so the MQTT client id, of the collector."""

ECHO_TOPIC = "fenghuo/v1/echo"
"""What the collector publishes to itself, to know that it has read all that was queued before."""

SEARCH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"))
"""Where mosquitto is looked for: distributions put it where an ordinary user's PATH does not look."""


class BrokerFailed(RuntimeError):
    """The broker did not start; the text ends with the last lines of its log."""


class PasswordsBroken(ValueError):
    """The file of passwords has a line that is not one; the text says where and what was expected."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the broker: topic filters that it may publish to and receive from, and no others.

    The broker uses the user's name as client id, so that nobody can take over another's session;
    two connections of one user therefore end each other.
    """

    user: str
    password: str
    publish: tuple[str, ...] = ()
    receive: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for text in (self.user, *self.publish, *self.receive):
            if not text or any(c.isspace() or not c.isprintable() for c in text):
                raise ValueError(f"{text!r} cannot be in a broker's configuration: no spaces")
        if set(self.user) & set(":+#"):
            raise ValueError(f"user {self.user!r} must not contain ':', '+' or '#'")


def gateway_user(enterprise: str, gateway: str) -> str:
    """The broker's user name of a gateway, e.g. ``91330000MA27XXXX0X/gw1``."""
    return f"{enterprise}/{gateway}"


def gateway_account(enterprise: str, gateway: str, password: str) -> Account:
    """A gateway may publish its own readings and status, and receives nothing.

    Raises:
        ValueError: the gateway's id would be more than one level of a topic.
    """
    if set(gateway) & set("+#/ "):
        raise ValueError(f"gateway id {gateway!r} must not contain '+', '#', '/' or a space")
    base = f"fenghuo/v1/{enterprise}/{gateway}"
    return Account(
        gateway_user(enterprise, gateway), password, publish=(f"{base}/readings", f"{base}/status")
    )


def collector_account(password: str) -> Account:
    """The collector receives all that gateways publish, and publishes only its own echo."""
    return Account(COLLECTOR, password, publish=(ECHO_TOPIC,), receive=("fenghuo/v1/#",))


def slot_user(user: str, slot: int) -> str:
    """Under whose name, and so client id, the collector of a cluster's slot speaks to the broker."""
    return f"{user}-{slot}"


def slot_accounts(password: str, slots: int, user: str = COLLECTOR) -> list[Account]:
    """What the collectors of a cluster need: each slot's session has an account of its own."""
    users = [slot_user(user, slot) for slot in range(slots)]
    return [Account(name, password, publish=(echo_topic(name),), receive=("fenghuo/v1/#",)) for name in users]


def echo_topic(client: str) -> str:
    """The echo topic of one of several collectors: what it would hear of another's says nothing."""
    return f"{ECHO_TOPIC}/{client}"


def passwords(path: Path, users: Iterable[str], before: Mapping[str, str] | None = None) -> dict[str, str]:
    """A password for each user: those in the file, else those they had ``before``, else new ones (192 random
    bits): a file that was deleted or cut short locks nobody out.

    The file holds ``user password`` a line, is readable by its owner only, and is replaced as a whole.
    Users that are no longer named keep their line, so that a gateway that comes back still knows its own;
    empty lines and those that begin with # stay too, at the top.

    Raises:
        PasswordsBroken: another line is no user and password. OSError: the file cannot be read or written.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        lines = []
    except UnicodeDecodeError:
        raise PasswordsBroken(f"{path}: not UTF-8") from None
    remarks, known = [], {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            remarks.append(line)
        elif len(words) == 2:
            known[words[0]] = words[1]
        else:
            raise PasswordsBroken(f"{path}:{number}: expected `USER PASSWORD`, or a remark after #")
    wanted = list(users)
    missing = [user for user in wanted if user not in known]
    if missing:
        had = before or {}
        known.update((user, had.get(user) or secrets.token_urlsafe(24)) for user in missing)
        entries = [f"{user} {password}" for user, password in sorted(known.items())]
        write_private(path, "".join(f"{line}\n" for line in (*remarks, *entries)))
    return {user: known[user] for user in wanted}


def find_mosquitto() -> str | None:
    """The path of the mosquitto program on this machine, or None."""
    return shutil.which("mosquitto", path=SEARCH)


def free_port() -> int:
    """A loopback port on which nobody listens: of those that the system gives to nobody by itself, so that it is still
    free when its asker listens; and this process is given another each time. Raises OSError where none is free."""
    for _ in _PORTS:
        port = _PORTS[next(_places) % len(_PORTS)]
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:  # taken
                continue
            return port
    raise OSError(f"no port of {_PORTS.start}-{_PORTS.stop - 1} is free")


_PORTS = range(16_000, 32_000)
_places = count(secrets.randbelow(len(_PORTS)))  # processes that ask at the same time begin at different ones


class Mosquitto:
    """A mosquitto process on a loopback port, which dies with the thread that started it (on Linux).

    Args:
        folder: where its configuration, users, log and persistent sessions are; made if missing.
        port: TCP port on 127.0.0.1.
        accounts: who may connect; everyone else is refused.
        packet_limit: largest packet it takes, bytes: told to clients when they connect, and the connection
            of one that sends more is ended. Keep it above the collector's limit, whose dead letters
            tell more.
        executable: path of mosquitto; looked for if not given.

    Raises:
        BrokerFailed: no mosquitto on this machine.
    """

    START_WITHIN = 10.0  # seconds
    STOP_WITHIN = 20.0  # seconds: it writes its sessions to disk

    def __init__(
        self,
        folder: Path,
        port: int,
        accounts: Sequence[Account],
        *,
        packet_limit: int = 4 * 1024 * 1024,
        executable: str | None = None,
    ) -> None:
        found = executable or find_mosquitto()
        if found is None:
            raise BrokerFailed("mosquitto is not installed on this machine")
        self._executable = found
        self.folder = folder.resolve()
        self.host = LOOPBACK
        self.port = port
        self.accounts = tuple(accounts)
        self.packet_limit = packet_limit
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> Path:
        return self.folder / "mosquitto.conf"

    @property
    def log(self) -> Path:
        return self.folder / "mosquitto.log"

    @property
    def runs(self) -> Path:
        """A file that is there from when it listens until it has ended well."""
        return self.folder / "runs"

    @property
    def unsaved(self) -> bool:
        """Whether it ended last without saving its sessions: killed, or by a power cut.

        What it acknowledged since its last save and had not handed on is then lost, and no client can tell.
        """
        ended_well = self._process is not None and self._process.poll() == 0
        return self.runs.exists() and not self.running and not ended_well

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def running(self) -> bool:
        return self.pid is not None

    def write(self) -> None:
        """Write configuration, users and access lists; a running broker is told to read users and lists anew.

        Thereby it forgets what those may read whose sessions are of before its start, and who have not connected since:
        it acknowledges what is sent to them, and keeps nothing (mosquitto's issue 2934).

        Raises:
            OSError: the folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(self.folder / "users", "".join(_password_line(account) for account in self.accounts))
        write_private(self.folder / "access", "\n".join(_access_lines(self.accounts)))
        write_private(self.config, "\n".join(self._settings()) + "\n")
        if self._process is not None and self.running:
            self._process.send_signal(signal.SIGHUP)

    def start(self) -> None:
        """Write the files, start the process and wait until it listens.

        Raises:
            BrokerFailed: it ended, or does not listen within ten seconds.
            OSError: the folder cannot be written.
        """
        if self.running:
            return
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, self.port))
            except OSError as error:
                raise BrokerFailed(f"port {self.port} is taken: {error.strerror}") from None
        self.write()
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:  # appended to, so that it can be emptied under way
            self._process = subprocess.Popen(
                [self._executable, "-c", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C at the terminal is ours: it ends last, by stop()
                preexec_fn=die_with_parent(),
            )
        try:
            _await_listening(self._process, self.port, self.START_WITHIN)
        except BrokerFailed as error:
            self.kill()
            tail = self.log.read_text("utf-8", "replace").splitlines()[-5:]
            raise BrokerFailed("\n".join((str(error), *tail))) from None
        self.runs.touch()

    def save(self) -> None:
        """Let it write its sessions to disk now, not only at its next save."""
        if self._process is not None and self.running:
            self._process.send_signal(signal.SIGUSR1)

    def trim_log(self) -> None:
        """Put the log aside if it has grown long, in place of what was put aside before. Raises OSError."""
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            shutil.copyfile(self.log, self.log.with_suffix(".log.1"))
            os.truncate(self.log, 0)

    def stop(self) -> None:
        """End it so that it saves its sessions; killed if it takes too long."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(self.STOP_WITHIN)
        except subprocess.TimeoutExpired:  # then what it had not saved is lost, as by a power cut
            self.kill()
        if self._process.returncode == 0:
            self.runs.unlink(missing_ok=True)

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _settings(self) -> list[str]:
        """The lines of mosquitto.conf. Its defaults drop acknowledged messages beyond a queue of 1,000."""
        return [
            "# written by fenghuo; changes are overwritten at the next start",
            f"listener {self.port} {LOOPBACK}",
            "use_username_as_clientid true",
            "allow_anonymous false",
            f"password_file {self.folder / 'users'}",
            f"acl_file {self.folder / 'access'}",
            f"user {_own_name()}",
            "max_queued_messages 0",
            "max_queued_bytes 0",
            "max_inflight_messages 65535",  # so each client's own receive maximum rules; 0 would ignore it
            "queue_qos0_messages true",
            f"max_packet_size {self.packet_limit}",
            "max_keepalive 120",
            "set_tcp_nodelay true",
            "sys_interval 0",
            "persistence true",
            f"persistence_location {self.folder}{os.sep}",
            "autosave_interval 10",  # s; each save writes all that is queued, and everybody waits meanwhile
            "autosave_on_changes false",
            "log_dest stderr",
            "log_type error",
            "log_type warning",
            "log_type notice",
            "connection_messages true",
        ]


def _password_line(account: Account, iterations: int = 101) -> str:
    """A line of mosquitto's password file (format 7: PBKDF2-SHA512, as mosquitto_passwd writes it)."""
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", account.password.encode(), salt, iterations)
    return f"{account.user}:$7${iterations}${b64encode(salt).decode()}${b64encode(digest).decode()}\n"


def _access_lines(accounts: Iterable[Account]) -> list[str]:
    lines = []
    for account in accounts:
        lines.append(f"user {account.user}")
        lines += [f"topic write {topic}" for topic in account.publish]
        lines += [f"topic read {topic}" for topic in account.receive]
    return [*lines, ""]


def write_private(path: Path, text: str) -> None:
    """Replace a file by one that only its owner can read."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)


def _own_name() -> str:
    """The user to stay as: started by root, mosquitto would change to one who cannot read our files."""
    if sys.platform == "win32":
        return "mosquitto"
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


def die_with_parent() -> Callable[[], None] | None:
    """For Popen's preexec_fn: the child asks Linux for SIGTERM when we die. None where there is no such thing."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # we died before it could ask
            os._exit(1)

    return ask


def _await_listening(process: subprocess.Popen[bytes], port: int, within: float) -> None:
    """Wait until the process accepts connections on the port.

    Raises:
        BrokerFailed: it ended or the time is over.
    """
    began = stopwatch()
    while stopwatch() - began < within:
        try:
            socket.create_connection((LOOPBACK, port), timeout=1).close()
        except OSError:  # not listening yet
            try:
                process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
            raise BrokerFailed(f"the broker ended with status {process.returncode}") from None
        return
    raise BrokerFailed(f"the broker does not listen on port {port} after {within:.0f} s")
