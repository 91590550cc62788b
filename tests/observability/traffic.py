"""What a unit's services would ask, so that whatever can be counted is."""

import base64
import hashlib
import json
import random
import time

# More than the unit holds, so that the first of them are evicted.
ENCRYPTED = 1200
TOKENS = 40

DOGPILE_KEY = hashlib.sha1(b"projects").hexdigest()


def run(unit):
    """Tokens of each class, other entries, and each way in which a key is not found."""
    chance = random.Random(8)
    with unit.connect() as client:
        client.get("tokens/" + "0" * 64)  # never seen
        for number in range(TOKENS):
            client.set(plain_key(number), token(chance))
            client.get(plain_key(number))
            client.set(hidden_key(number), mac(chance))
            client.get(hidden_key(number))
        _others(client)
        expire(client, plain_key(TOKENS), chance)
        client.ask("flush_all")
        assert client.get(plain_key(0)) is None
        _evict(client, chance)


def _others(client):
    client.set(DOGPILE_KEY, b"\x80\x04\x95" + bytes(400))
    client.get(DOGPILE_KEY)
    for line in ["touch count 60", "incr count 1", "decr count 1", "delete count"]:
        client.ask(line)  # not found
    client.set("count", b"1")
    for line in ["touch count 60", "incr count 1", "decr count 1", "delete count"]:
        client.ask(line)
    assert client.get("count") is None  # deleted


def expire(client, key, chance):
    """Stores a token for the shortest time, and asks for it until it is over, once more than it was there."""
    client.set(key, token(chance), ttl=1)
    deadline = time.monotonic() + 10
    while client.get(key) is not None:
        assert time.monotonic() < deadline, "never expires"
        time.sleep(0.1)


def _evict(client, chance):
    """Tokens that cannot be packed, each once; then the first again, which is validated anew before its time."""
    keys = [hidden_key(1000 + number) for number in range(ENCRYPTED)]
    for key in keys:
        client.set(key, encrypted(chance))
    evicted = [key for key in keys if client.get(key) is None]
    assert evicted, "a unit as small as this one has no room for all of them"
    for key in evicted[:10]:
        client.set(key, encrypted(chance))


def plain_key(number):
    """keystonemiddleware's."""
    return "tokens/" + hashlib.sha256(f"plain {number}".encode()).hexdigest()


def hidden_key(number):
    """keystonemiddleware's with a security strategy; Python's mark of bytes is in it."""
    digest = hashlib.sha256(f"hidden {number}".encode()).digest()[:16]
    return f"tokens/{base64.b64encode(digest)}"


def token(chance):
    """A validated token; all have the same catalogue."""
    catalogue = [{"type": f"service-{number}", "url": f"http://unit/{number}"} for number in range(200)]
    token = {"auth_token": chance.randbytes(90).hex(), "version": "v3", "catalog": catalogue}
    return json.dumps({"token": token}).encode()


def mac(chance):
    """A signed one."""
    return base64.b64encode(chance.randbytes(48)) + base64.b64encode(token(chance))


def encrypted(chance):
    """An encrypted one, which no packing makes smaller than its bytes in base64."""
    return base64.b64encode(chance.randbytes(48)) + base64.b64encode(chance.randbytes(13_000))
