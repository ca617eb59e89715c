from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs torch: pip install mien[train]")

import torch

from models.training import precision

CPUINFO = Path("/proc/cpuinfo")


@pytest.mark.parametrize(
    ("wanted", "has", "computed"),
    [
        (True, True, torch.bfloat16),
        (True, False, torch.float32),
        (False, True, torch.float32),
    ],
    ids=["wanted", "not there", "not wanted"],
)
def test_bf16_is_computed_in_where_it_is_wanted_and_there(
    wanted: bool, has: bool, computed: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_cpu_computes_bf16", lambda: has)
    with precision.mixed(torch.device("cpu"), wanted=wanted):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == computed


@pytest.mark.skipif(not CPUINFO.is_file(), reason="this system does not tell its instructions")
def test_this_cpu_is_asked() -> None:
    flags = set(CPUINFO.read_text().split())
    if flags & {"avx512_bf16", "amx_bf16"}:
        assert precision._cpu_computes_bf16()
    elif "avx2" in flags and not flags & {"avx512f", "avx_ne_convert"}:
        assert not precision._cpu_computes_bf16()
    else:
        pytest.skip("whether this CPU's instructions are enough, it does not tell")
