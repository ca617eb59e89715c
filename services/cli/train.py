"""`mien train`: each method's own training commands, mounted when they are asked for."""

from __future__ import annotations

import sys

import typer

from services.settings import SettingsError


def training_app() -> typer.Typer:
    """The commands of training.

    torch takes seconds to import, so the methods are imported only when the command line begins
    with "train".

    Raises:
        SettingsError: it does, and the extra is not installed.
    """
    app = typer.Typer(help="Train the models (needs the extra: pip install 'mien[train]').")

    @app.callback()
    def _group() -> None:
        """Keeps the group when nothing is mounted."""

    if sys.argv[1:2] != ["train"]:
        return app
    try:
        from models.ddat import ablate as ddat_ablate  # noqa: PLC0415 - see above
        from models.ddat import command as ddat  # noqa: PLC0415
        from models.ddat import export as ddat_export  # noqa: PLC0415
        from models.drgan import ablate as drgan_ablate  # noqa: PLC0415
        from models.drgan import command as drgan  # noqa: PLC0415
        from models.drgan import export as drgan_export  # noqa: PLC0415
        from models.nir_cyclegan import ablate as nir_ablate  # noqa: PLC0415
        from models.nir_cyclegan import command as nir  # noqa: PLC0415
        from models.nir_cyclegan import export as nir_export  # noqa: PLC0415
        from models.poseface import ablate, command, export  # noqa: PLC0415
        from services.cli import train_r3an as r3an  # noqa: PLC0415
    except ImportError as error:
        raise SettingsError(
            f"{error.name} is not installed. Training needs: pip install 'mien[train]'"
        ) from error
    app.command("ddat")(ddat.train)
    app.command("ddat-ablate")(ddat_ablate.ablate)
    app.command("ddat-export")(ddat_export.export)
    app.command("drgan")(drgan.train)
    app.command("drgan-ablate")(drgan_ablate.ablate)
    app.command("drgan-export")(drgan_export.export)
    app.command("nir-cyclegan")(nir.train)
    app.command("nir-cyclegan-ablate")(nir_ablate.ablate)
    app.command("nir-cyclegan-export")(nir_export.export)
    app.command("poseface")(command.train)
    app.command("poseface-ablate")(ablate.ablate)
    app.command("poseface-export")(export.export)
    app.command("r3an")(r3an.train)
    app.command("r3an-ablate")(r3an.ablate)
    return app
