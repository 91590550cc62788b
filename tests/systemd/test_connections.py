"""What established connections see of a restart of the unit: nothing; and what else becomes of them."""

import dataclasses

import pytest

from machine import CHARM, Machine, deb, eventually

USER = "nova"
COUNT = 20
# Heap and configuration; and a socket for each address.
STORED = 2


@dataclasses.dataclass
class Service:
    """A unit that serves on TCP and on a unix socket, by the rules as shipped."""

    machine: Machine
    unit: str
    packages: list[str]
    configuration: str
    rules: str
    text: str
    limit: str
    socket: str
    addresses: int

    def configure(self, text=""):
        self.machine.write(self.configuration, self.text + text)

    def control(self, verbs):
        for verb in verbs.split():
            self.machine.run(f"systemctl {verb} {self.unit}")

    def upgrade(self):
        packages = " ".join(deb(name, 2) for name in self.packages)
        self.machine.run(f"dpkg -i {packages} </dev/null")

    def process(self):
        return self.machine.main_process(self.unit)

    def stored(self):
        return int(self.machine.show(self.unit, "NFileDescriptorStore")["NFileDescriptorStore"])

    def connections(self):
        return int(self.machine.stats()["curr_connections"])

    def talk(self):
        return [self.machine.talk(COUNT, user=USER), self.machine.talk(COUNT, user=USER, unix=self.socket)]


@pytest.fixture
def memcached(taken):
    socket = "/run/memcached/socket"
    return Service(
        machine=taken,
        unit="memcached",
        packages=["tokencached", "tokencached-takeover"],
        configuration="/etc/memcached.conf",
        rules="/etc/tokencached/takeover.toml",
        text=CHARM + f"-s {socket}\n-a 0777\n",
        limit="-m {}\n",
        socket=socket,
        addresses=2,
    )


@pytest.fixture
def tokencached(own):
    path, socket = "/etc/tokencached/tokencached.toml", "/run/tokencached/socket"
    return Service(
        machine=own,
        unit="tokencached",
        packages=["tokencached"],
        configuration=path,
        rules=path,
        text=own.path(path).read_text() + f'unix_socket = "{socket}"\nunix_mask = "0777"\nport = 11211\n',
        limit="memory_limit = {}\n",
        socket=socket,
        addresses=3,
    )


@pytest.fixture(params=["memcached", "tokencached"])
def service(request):
    served = request.getfixturevalue(request.param)
    served.machine.run(f"useradd --system {USER}")
    served.configure()
    served.control("restart")
    assert eventually(lambda: served.stored() == STORED + served.addresses)
    return served


def another_limit(service):
    service.configure(service.limit.format(32))
    service.control("restart")
    assert service.machine.stats()["limit_maxbytes"] == str(32 << 20)


def unusable_configuration(service):
    service.configure(service.limit.format("lots"))
    service.control("restart restart")
    assert len(service.machine.refusals(service.unit)) == 2


def many(service):
    for command in ["daemon-reload", "daemon-reexec", "daemon-reload"]:
        service.machine.run(
            f"for number in $(seq 10); do systemctl restart {service.unit} || exit 1; done && systemctl {command}"
        )


def at_once(service):
    restart = f"systemctl restart {service.unit}"
    service.machine.run(f"{restart} & {restart} --no-block && {restart} && {restart}; wait")


RESTARTS = {
    "restart": lambda service: service.control("restart"),
    "another limit": another_limit,
    "upgrade": Service.upgrade,
    "reloads": lambda service: service.control("reload restart reload reload restart"),
    "unusable configuration": unusable_configuration,
    "many": many,
    "at once": at_once,
}


def end(clients, broken=0):
    """All of them talked, and heard nothing wrong."""
    for told in [client.end() for client in clients]:
        print(told)
        assert told["right"] > 0 and (told["wrong"], told["broken"]) == (0, broken), told


@pytest.mark.parametrize("how", RESTARTS)
def test_connections_outlive(service, how):
    process, alone = service.process(), service.connections()
    talking, waiting = service.talk(), service.talk()
    for client in waiting:
        client.wait()
    assert eventually(lambda: service.connections() == alone + 4 * COUNT)
    RESTARTS[how](service)
    assert service.process() != process
    assert service.machine.show(service.unit, "NRestarts")["NRestarts"] == "0"
    assert eventually(lambda: service.connections() == alone + 4 * COUNT)
    assert service.stored() == STORED + service.addresses
    for client in waiting:
        client.go_on()
    end(talking + waiting)
    assert eventually(lambda: service.connections() == alone)


def test_connections_outlive_sigusr2(service):
    alone = service.connections()
    talking, waiting = service.talk(), service.talk()
    for client in waiting:
        client.wait()
    journal = lambda: service.machine.journal(service.unit)
    listening = lambda: len([line for line in journal() if line.startswith("listening on ")])
    before, process = listening(), service.process()
    service.machine.run(f"systemctl kill --signal=SIGUSR2 --kill-who=main {service.unit}")
    assert eventually(lambda: listening() == before + service.addresses)
    assert service.process() == process
    service.control("restart")
    assert eventually(lambda: service.connections() == alone + 4 * COUNT)
    assert service.stored() == STORED + service.addresses
    for client in waiting:
        client.go_on()
    end(talking + waiting)


def test_connections_through_a_socket_unit_outlive_restarts(own):
    own.run(f"useradd --system {USER} && systemctl start tokencached.socket")
    places = [{"host": host} for host in ["127.0.0.1", "::1"]]
    talking = [own.talk(COUNT, user=USER, **place) for place in places]
    waiting = [own.talk(COUNT, user=USER, **place) for place in places]
    for client in waiting:
        client.wait()
    before, process = own.stats()["curr_connections"], own.main_process("tokencached")
    for command in ["daemon-reload", "restart tokencached", "reload tokencached", "daemon-reexec"]:
        own.run(f"systemctl {command} && systemctl restart tokencached")
    assert own.main_process("tokencached") != process
    assert eventually(lambda: own.stats()["curr_connections"] == before)
    assert own.show("tokencached", "NFileDescriptorStore")["NFileDescriptorStore"] == str(STORED)
    for client in waiting:
        client.go_on()
    end(talking + waiting)


def test_new_rules_hold_for_connections_from_before(service):
    clients = service.talk()
    service.control("restart")
    service.machine.run(f"echo 'access.deny = [\"{USER}\"]' >>{service.rules}")
    service.control("reload")
    assert eventually(lambda: service.machine.stats()["access_closed"] == str(2 * COUNT))
    end(clients, broken=COUNT)


def test_a_stop_closes_connections(service):
    alone = service.connections()
    clients = service.talk()
    service.control("stop start")
    end(clients, broken=COUNT)
    assert eventually(lambda: service.connections() == alone)
    assert service.stored() == STORED + service.addresses
