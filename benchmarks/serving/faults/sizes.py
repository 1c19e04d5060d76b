"""How long and how large the faults are: in full, and in short form."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Duration and size of the faults.

    Attributes:
        clients: That overload the service.
        requests: That each of them sends.
        steady: Clients where a fault comes from elsewhere.
        reloads: Of a model under load.
        kills: Of workers.
        slow: Connections that send slowly or half.
        leaving: Requests whose clients leave.
        attackers: Connections that send bytes without end.
        attack_seconds: How long they do.
        upgrades: Requests with ``Upgrade``.
        handshakes: Connections that never begin their TLS handshake.
        bombs: Images that are small files and long to decode.
        decodings: Of each slow image.
        rich_bytes: Of each file that is nearly all metadata.
        large: Requests of each client with large images.
        minutes: Of the soak.
    """

    clients: int
    requests: int
    steady: int
    reloads: int
    kills: int
    slow: int
    leaving: int
    attackers: int
    attack_seconds: float
    upgrades: int
    handshakes: int
    bombs: int
    decodings: int
    rich_bytes: int
    large: int
    minutes: float


LONG = Sizes(
    clients=300,
    requests=40,
    steady=16,
    reloads=100,
    kills=5,
    slow=200,
    leaving=2000,
    attackers=16,
    attack_seconds=15.0,
    upgrades=50,
    handshakes=400,
    bombs=40,
    decodings=5,
    rich_bytes=15_500_000,
    large=12,
    minutes=30.0,
)
SHORT = Sizes(
    clients=300,
    requests=2,
    steady=4,
    reloads=5,
    kills=1,
    slow=20,
    leaving=60,
    attackers=2,
    attack_seconds=1.0,
    upgrades=5,
    handshakes=40,
    bombs=2,
    decodings=1,
    rich_bytes=1_000_000,
    large=1,
    minutes=0.1,
)
