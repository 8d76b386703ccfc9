"""Whole runs in one process, with the objects of a real run and without NVFlare; nothing is masked.

``run_in_process`` plays a run exactly as sites would; ``Simulation`` plays many sites in bounded memory.
"""

from fl_jobs.simulate.in_process import run_in_process, with_tensors
from fl_jobs.simulate.simulation import Options, Row, SimulatedSpec, Simulation, make_spec
from fl_jobs.simulate.sources import PartitionFolder, SiteFolders, Source, open_source

__all__ = [
    "Options",
    "PartitionFolder",
    "Row",
    "SimulatedSpec",
    "Simulation",
    "SiteFolders",
    "Source",
    "make_spec",
    "open_source",
    "run_in_process",
    "with_tensors",
]
