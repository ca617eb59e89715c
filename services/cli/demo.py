"""`mien demo`: photographs verified over REST and gRPC by a Mien just started; a migration."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
import httpx
from rich.table import Table

from models.zoo import Zoo
from services.cli.demo_migration import migrate_made_up_people
from services.cli.output import downloading, out, print_json
from services.demo_pictures import PAIRS, DemoPair, pull_pictures
from services.rpc.mien.v1 import face_pb2, face_pb2_grpc
from services.serve import Running, running
from services.settings import AccessSettings, Settings, TlsSettings


async def run_demo(settings: Settings, as_json: bool) -> bool:
    """Pulls what is missing, starts Mien on free ports, and prints a decision for each pair.

    Then a gallery of made-up people is migrated to another model.

    Args:
        settings: of the Mien that is started.
        as_json: print one JSON object in place of a table.

    Returns:
        Whether every decision, on both interfaces, is what the photographs show, and the migration
        ended in a switch.

    Raises:
        FetchError: something that is missing cannot be downloaded.
        ZooError, EngineError, MienError: Mien does not start.
    """
    zoo = Zoo(settings.home)
    wanted = [settings.detection.model, settings.embedding.models[0]]
    for name in wanted:
        with downloading(name) as progress:
            zoo.pull(zoo.card(name), progress)
    with downloading("photographs") as progress:
        folder = pull_pictures(settings.home, progress)
    zoo.discard_archives()
    here = {"http_host": "127.0.0.1", "grpc_host": "127.0.0.1", "embedding_address": None}
    gateway = settings.gateway.model_copy(update={**here, "http_port": 0, "grpc_port": 0})
    open_here = {"access": AccessSettings(required="never"), "tls": TlsSettings()}
    table = Table("interface", "probe", "reference", "decision", "similarity", "threshold", "FMR")
    right, answers = True, []
    async with running(settings.model_copy(update={"gateway": gateway, **open_here})) as mien:
        if not as_json:
            out.print(f"Mien runs: REST {mien.rest_url}, gRPC {mien.grpc_address}")
        for pair in PAIRS:
            rows = [await _over_rest(mien, folder, pair), await _over_grpc(mien, folder, pair)]
            for interface, row in zip(("REST", "gRPC"), rows, strict=True):
                right &= row.decision == ("same" if pair.same else "different")
                table.add_row(interface, pair.probe, pair.reference, *row.texts())
                answers.append({"interface": interface, **asdict(pair), **asdict(row)})
    if not as_json:
        out.print(table)
    moved = await migrate_made_up_people(settings, _silent if as_json else _say)
    right &= bool(moved["switched"])
    if as_json:
        print_json({"decisions": answers, "migration": moved, "all_right": right})
    return right


def _say(line: str) -> None:
    out.print(line, markup=False, soft_wrap=True)


def _silent(_: str) -> None:
    """Programs are told at the end."""


@dataclass(frozen=True)
class _Row:
    decision: str
    similarity: float
    threshold: float
    fmr: float

    def texts(self) -> tuple[str, str, str, str]:
        colour = "green" if self.decision == "same" else "cyan"
        return (
            f"[{colour}]{self.decision}[/{colour}]",
            f"{self.similarity:.3f}",
            f"{self.threshold:.3f}",
            f"{self.fmr:g}",
        )


async def _over_rest(mien: Running, folder: Path, pair: DemoPair) -> _Row:
    files = {
        "probe": (pair.probe, (folder / pair.probe).read_bytes()),
        "reference": (pair.reference, (folder / pair.reference).read_bytes()),
    }
    async with httpx.AsyncClient(base_url=str(mien.rest_url), trust_env=False) as client:
        response = await client.post("/v1/verify", files=files)
        response.raise_for_status()
        answer = response.json()
    return _Row(answer["decision"], answer["similarity"] or 0.0, answer["threshold"], answer["fmr"])


async def _over_grpc(mien: Running, folder: Path, pair: DemoPair) -> _Row:
    request = face_pb2.VerifyRequest(
        probe=face_pb2.Image(content=(folder / pair.probe).read_bytes()),
        references=[face_pb2.Image(content=(folder / pair.reference).read_bytes())],
    )
    options = [("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(str(mien.grpc_address), options=options) as channel:
        answer = await face_pb2_grpc.FaceServiceStub(channel).Verify(request)
    (result,) = answer.results
    decision = face_pb2.Decision.Name(result.decision).removeprefix("DECISION_").lower()
    return _Row(decision, result.similarity, answer.threshold, answer.fmr)
