"""IResNet: the residual network of the ArcFace line, pre-normalised blocks without a stem pool."""

from __future__ import annotations

from torch import Tensor, nn

from models.backbones.trunk import Trunk

INPUT_MEAN = 127.5
INPUT_RANGE = 127.5
EPS = 1e-5
CHANNELS = (64, 128, 256, 512)
MAP_SIDE = 7
REPEATS = {18: (2, 2, 2, 2), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3)}


class Block(nn.Module):
    """BN, 3x3, BN, PReLU, 3x3 with the stride, BN; the shortcut is projected when shapes differ."""

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(c_in, eps=EPS),
            nn.Conv2d(c_in, c_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(c_out, eps=EPS),
            nn.PReLU(c_out),
            nn.Conv2d(c_out, c_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(c_out, eps=EPS),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out, eps=EPS)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B,Cin,H,W) -> (B,Cout,H/stride,W/stride)."""
        out: Tensor = self.body(x) + self.shortcut(x)
        return out


class IResNet(Trunk):
    """Depth 18, 50 or 100: 24,025,600, 43,590,848 or 65,156,160 parameters with `dim=512`.

    Args:
        dim: width of the trunk feature.
        depth: a key of `REPEATS`.
        dropout: before the dense layer.
    """

    def __init__(self, dim: int = 512, depth: int = 18, dropout: float = 0.0):
        flat = CHANNELS[-1] * MAP_SIDE * MAP_SIDE
        super().__init__(nn.Linear(flat, dim), nn.BatchNorm1d(dim, eps=EPS))
        self.stem = nn.Sequential(
            nn.Conv2d(3, CHANNELS[0], 3, 1, 1, bias=False),
            nn.BatchNorm2d(CHANNELS[0], eps=EPS),
            nn.PReLU(CHANNELS[0]),
        )
        blocks: list[nn.Module] = []
        c_in = CHANNELS[0]
        for c_out, repeats in zip(CHANNELS, REPEATS[depth], strict=True):
            for index in range(repeats):
                blocks.append(Block(c_in, c_out, 2 if index == 0 else 1))
                c_in = c_out
        self.blocks = nn.Sequential(*blocks)
        self.map_norm = nn.BatchNorm2d(CHANNELS[-1], eps=EPS)
        self.dropout = nn.Dropout(dropout)

    def feature_map(self, images: Tensor) -> Tensor:
        """(B,3,112,112) RGB 0-255 -> (B,512,7,7)."""
        x = self.blocks(self.stem((images - INPUT_MEAN) / INPUT_RANGE))
        out: Tensor = self.dropout(self.map_norm(x))
        return out

    def stages(self) -> list[nn.Module]:
        """The stem, then one entry per block."""
        return [self.stem, *self.blocks]
