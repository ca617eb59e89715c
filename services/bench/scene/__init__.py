"""Made-up camera clips with ground truth: pictures of faces moved over drawn backgrounds."""

from services.bench.scene.cutouts import Actor, Cutout, cut_out
from services.bench.scene.people import Person, demo_people, people_of
from services.bench.scene.scene import Light, Scene, SceneFrame, SceneOptions, Seen

__all__ = [
    "Actor",
    "Cutout",
    "Light",
    "Person",
    "Scene",
    "SceneFrame",
    "SceneOptions",
    "Seen",
    "cut_out",
    "demo_people",
    "people_of",
]
